package commit_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// Bots with a journal each set and delete the same keys, are killed at any step, and start
// again from what was saved and the journal, or from the journal alone. What the journal took is
// acknowledged. It is lost only where somebody who had heard of it, or a change that was made
// without having heard of it, replaced it; all agree in the end; and nobody writes for ever.
func TestAcknowledgedByTheJournalMeansDelivered(t *testing.T) {
	for name, h := range map[string]history{
		"one bot":                  {bots: 1, delayed: true},
		"several bots":             {bots: 3, delayed: true, forks: true},
		"many keys":                {bots: 2, delayed: true, keys: 30, steps: 60},
		"a key each":               {bots: 1, layout: wire.Layout{PerKey: true}},
		"a key each, several bots": {bots: 3, delayed: true, layout: wire.Layout{PerKey: true}},
		"a key each, silent":       {bots: 1, layout: wire.Layout{PerKey: true}, silent: true},
		"a key each, what comes late, never killed": {bots: 1, layout: wire.Layout{PerKey: true}, delayed: true, immortal: true},
		"a journal that fails":                      {bots: 1, fails: true},
		"several that fail":                         {bots: 3, forks: true, fails: true},
		"a key each, a journal that fails":          {bots: 1, layout: wire.Layout{PerKey: true}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Int64Range(0, 1<<40).Draw(rt, "seed")
				bubble(t, func() {
					if bad := h.play(seed); bad != "" {
						rt.Fatal(bad)
					}
				})
			})
		})
	}
}

var tellHistory = flag.Bool("history", false, "tell a history with a journal that goes wrong step by step")

type history struct {
	bots, keys, steps int
	layout            wire.Layout
	silent            bool
	forks             bool
	delayed           bool // requests arrive late, or twice
	immortal          bool // nobody is killed
	fails             bool // journals fail
}

// A truth is a change that was made.
type truth struct {
	key   string
	value string // "": deleted
	saw   *truth // what its author read
	own   *truth // what its author had made of the key before
	acked bool
	done  bool // it may stand in an event
}

// A place is a room with bots.
type place struct {
	history
	*server

	mu    sync.Mutex // owns all below
	rand  *rand.Rand
	calm  bool
	story []string
	made  []*truth
	byVal map[string]*truth // by key and value
	puts  int
	goes  int // what puts may come of: deliveries, faults, forks
	n     int
	kills int
}

func (p *place) next(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rand.Intn(n)
}

func (p *place) tell(format string, args ...any) {
	if *tellHistory {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.story = append(p.story, fmt.Sprintf(format, args...))
	}
}

func (p *place) count(n *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
}

// fault returns a number below 100, which is 99 where all goes well.
func (p *place) fault() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calm {
		return 99
	}
	return p.rand.Intn(100)
}

// A disk is what a bot's kill leaves: a journal as package journal keeps one.
type disk struct {
	mu      sync.Mutex // owns all below
	seq     uint64
	depth   int64
	changes map[string]commit.Change
	depths  map[string]int64 // how deep each would have gone when it was made; none: nothing was known of the room
	saved   []byte

	file     map[string]commit.Change // what a journal that failed holds; nil: it did not fail
	outdated map[string]uint64        // what the account's data says of that, by key
}

// fails has the journal fail, perhaps with a change that it was about to take.
func (d *disk) fails(last ...commit.Change) {
	d.file = maps.Clone(d.changes)
	for _, c := range last {
		d.file[c.Key] = c
	}
}

// readIn reads a journal in that has failed.
func (d *disk) readIn(layout wire.Layout) {
	if d.file == nil {
		return
	}
	for key, c := range d.file {
		if c.Seq <= d.outdated[key] {
			delete(d.file, key)
		} else if depth, ok := d.depths[key]; ok && c.Attempt == nil {
			c.Attempt = &replica.Attempt{Was: "=" + c.Over}
			if !layout.PerKey {
				c.Attempt.At.Depth = depth
			}
			d.file[key], d.depth = c, max(d.depth, depth)
		}
	}
	// What is kept of the room is from before that: who goes on from it may be told what was before the failure.
	d.changes, d.file, d.outdated, d.saved = d.file, nil, make(map[string]uint64), nil
}

func (d *disk) pending() (changes []commit.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.changes {
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b commit.Change) int { return int(a.Seq) - int(b.Seq) })
	return changes
}

func (d *disk) done(c commit.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changes[c.Key].Seq <= c.Seq {
		delete(d.changes, c.Key)
	}
}

// A bot is one process after another on the same disk.
type bot struct {
	*place
	name  string
	disk  *disk
	tried map[string]*truth
	life  atomic.Pointer[process]
}

func (b *bot) now() *process { return b.life.Load() }

type process struct {
	*memory
	mu   sync.Mutex
	dead bool
	safe bool // it can't be killed
}

var (
	errKilled = errors.New("killed")
	errFailed = errors.New("the journal failed")
)

func (p *process) killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = !p.safe
}

func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

// tells tells what reads answer.
func (p *process) tells() (all string) {
	keys, err := p.room.Keys()
	slices.Sort(keys)
	for _, key := range keys {
		entry, _, _ := p.room.Get(key)
		all += fmt.Sprintf("%s=%s ", key, entry.Raw)
	}
	return fmt.Sprint(all, err)
}

// starts starts a process.
func (b *bot) starts() {
	b.disk.readIn(b.history.layout)
	p := &process{memory: b.join(b.name), safe: b.immortal}
	p.room.Reached(b.disk.depth)
	p.attempted = func(_ string, with replica.Attempt, changes []commit.Change) error {
		if b.fault() < 4 {
			p.kill()
		}
		if p.killed() {
			return errKilled
		}
		b.disk.mu.Lock()
		if b.disk.file != nil {
			b.disk.mu.Unlock()
			return errFailed
		}
		b.disk.depth = max(b.disk.depth, with.At.Depth)
		b.tell("%s attempts %v with %v", b.name, changes, with)
		for _, c := range changes {
			if kept, ok := b.disk.changes[c.Key]; ok && kept.Seq == c.Seq && kept.Attempt == nil {
				kept.Attempt = &with
				b.disk.changes[c.Key] = kept
			}
		}
		b.disk.mu.Unlock()
		if b.fault() < 4 {
			p.kill()
			return errors.New("the disk is full")
		}
		return nil
	}
	p.fates(func(_ context.Context, content json.RawMessage) fate {
		f := b.fate(p)
		b.tell("%s puts %s: %+v, killed %v", b.name, content, f, p.killed())
		return f
	})
	reads := func(context.Context) error {
		b.after()
		if p.killed() || b.fault() < 10 {
			return errNoReply
		}
		return nil
	}
	p.asked(reads)
	p.loaded(reads)
	if b.disk.saved != nil && b.next(2) == 0 {
		if err := p.room.Restore(b.disk.saved); err != nil {
			panic(err)
		}
		b.tell("%s is restored: %s", b.name, p.tells())
	}
	restored := p.room.Loaded()
	if err := p.open(); err != nil && !restored { // it is read when it is needed
		p.room.Forget()
	}
	b.tell("%s starts: %s", b.name, p.tells())
	p.queue.Wake()
	b.life.Store(p)
}

// after lets some time pass, on the bubble's clock.
func (p *place) after() { time.Sleep(time.Duration(p.next(10)) * 10 * time.Millisecond) }

// fate says what becomes of a request.
func (b *bot) fate(p *process) fate {
	b.after()
	b.count(&b.puts)
	if p.killed() {
		return fate{outcome: commit.Unknown}
	}
	f := fate{outcome: commit.Stored}
	fault := b.fault()
	if fault < 60 {
		b.count(&b.goes)
	}
	switch {
	case fault < 4:
		p.kill() // before it is sent
		f.outcome = commit.Unknown
	case fault < 10:
		p.kill() // before the answer came
		f = fate{outcome: commit.Unknown, stored: true}
	case fault < 14 && b.delayed:
		p.kill() // before it arrived
		f = fate{outcome: commit.Unknown, late: true}
	case fault < 20:
		f.outcome = commit.Refused
	case fault < 28:
		f = fate{outcome: commit.Unknown, stored: true}
	case fault < 34:
		f.outcome = commit.Unknown
	case fault < 40 && b.delayed:
		f = fate{outcome: commit.Unknown, late: true}
	case fault < 44 && b.delayed:
		f = fate{outcome: commit.Repeated, late: true}
	case fault < 48:
		f.outcome = commit.Outdated
	}
	return f
}

// reads returns what a key holds for the bot; known is false if it can't say.
func (b *bot) reads(key string) (value, held string, known bool) {
	held = b.now().room.Held(key)
	if c, ok := b.disk.changes[key]; ok {
		return string(c.Value), held, true
	}
	entry, _, err := b.now().room.Get(key)
	if b.now().room.Held(key) != held { // sync brought something in between
		return b.reads(key)
	}
	return string(entry.Raw), held, err == nil
}

// sets journals a change, or writes it through if the journal fails, or failed before.
func (b *bot) sets(key string, remove bool) {
	failed := b.disk.file != nil
	switch c, one := b.journals(key, remove); {
	case c == nil, c.acked:
	case !failed && !b.now().room.Loaded():
		c.done = len(b.disk.file) > 0 && b.disk.file[key].Seq == one.Seq // the next start may deliver it
	default:
		b.afterFailure(c, one)
	}
}

// afterFailure writes a change through over what the file of a journal that failed may hold.
func (b *bot) afterFailure(c *truth, one commit.Change) {
	b.count(&b.goes)
	b.disk.mu.Lock()
	_, one.Forced = b.disk.changes[c.key]
	b.disk.mu.Unlock()
	one.Seq, one.Over = 0, ""
	var err error
	if !b.now().room.Loaded() {
		err = b.now().load(context.Background())
	}
	if err == nil {
		_, err = b.now().queue.Submit(context.Background(), one)
	}
	if b.now().killed() {
		err = fmt.Errorf("%w: %w", commit.ErrUnknownOutcome, errKilled)
	}
	b.tell("%s writes through %s=%s after the failure: %v", b.name, c.key, c.value, err)
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.place.mu.Lock()
	defer b.place.mu.Unlock()
	c.acked = err == nil
	_, may := b.disk.file[c.key] // this very change, perhaps
	c.done = err == nil || errors.Is(err, commit.ErrUnknownOutcome) || may && b.disk.file[c.key].Seq == b.disk.seq
	if _, placed := b.disk.depths[c.key]; c.done && !c.acked && !placed {
		c.saw, c.own = nil, nil // a change that was made blind may count after one that got no answer
	}
	if err == nil {
		delete(b.disk.changes, c.key)
		b.disk.outdated[c.key] = b.disk.seq
	}
}

// journals journals a change, unless the journal fails, or failed before. It returns nothing if there is nothing to do.
func (b *bot) journals(key string, remove bool) (c *truth, one commit.Change) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	before, held, known := b.reads(key)
	if remove && (!known || before == "") {
		return nil, commit.Change{}
	}
	c = b.change(key, remove, before)
	b.disk.seq++
	one = commit.Change{Key: key, Seq: b.disk.seq, Delete: remove, Value: []byte(c.value), Over: held}
	if remove {
		one.Value = nil
		_, one.Forced = b.disk.changes[key]
		one.Forced = one.Forced || c.own != nil && !c.own.acked
	}
	if b.history.fails && b.disk.file == nil && b.fault() < 8 {
		b.looks(key)
		b.disk.fails([]commit.Change{one}[:b.next(2)]...)
		b.tell("%s: the journal fails with %s=%s: %v", b.name, key, c.value, b.disk.file)
	}
	if b.disk.file != nil {
		return c, one
	}
	c.acked = true
	b.looks(key)
	b.disk.changes[key] = one
	b.tell("%s journals %s=%s (%d), was %s, over %q forced %v", b.name, key, c.value, one.Seq, before, one.Over, one.Forced)
	return c, one
}

// looks notes how deep a change would go now.
func (b *bot) looks(key string) {
	delete(b.disk.depths, key)
	if b.now().room.Loaded() {
		b.disk.depths[key] = b.now().room.Next(key)
	}
}

// change notes what is made of a key.
func (b *bot) change(key string, remove bool, before string) *truth {
	b.place.mu.Lock()
	defer b.place.mu.Unlock()
	c := &truth{key: key, own: b.tried[key], saw: b.byVal[key+before]}
	if !remove {
		b.n++
		c.value = fmt.Sprintf(`"%s %d"`, b.name, b.n)
		b.byVal[key+c.value] = c
	}
	b.tried[key] = c
	b.made = append(b.made, c)
	return c
}

// writes writes a key through that the journal does not hold.
func (b *bot) writesThrough(key string) {
	b.disk.mu.Lock()
	_, holds := b.disk.changes[key]
	before, _, known := b.reads(key)
	failed := b.disk.file != nil
	b.disk.mu.Unlock()
	if failed {
		b.sets(key, false)
	}
	if failed || holds || !known {
		return
	}
	b.count(&b.goes)
	c := b.change(key, false, before)
	_, err := b.now().queue.Submit(context.Background(), set(key, c.value))
	if b.now().killed() {
		err = fmt.Errorf("%w: %w", commit.ErrUnknownOutcome, errKilled)
	}
	b.saves()
	b.tell("%s writes through %s=%s: %v", b.name, key, c.value, err)
	b.place.mu.Lock()
	defer b.place.mu.Unlock()
	c.acked = err == nil
	c.done = err == nil || errors.Is(err, commit.ErrUnknownOutcome)
}

// idle returns what ends when somebody waits for a delivery; nil: somebody does.
func (b *bot) idle() context.Context {
	if b.next(2) == 0 {
		return nil
	}
	return context.Background()
}

// delivers delivers what the journal holds.
func (b *bot) delivers() (bad string) {
	changes := b.disk.pending()
	if len(changes) == 0 || b.disk.file != nil {
		return ""
	}
	if b.now().room.Loaded() || b.now().load(context.Background()) == nil {
		b.count(&b.goes)
		results := b.now().queue.Deliver(context.Background(), b.idle(), changes...)
		if b.now().killed() {
			return ""
		}
		b.saves() // together with what is taken out of the journal: else a start would read what was there before that
		for i, err := range results {
			b.tell("%s delivered %s=%s (%d): %v", b.name, changes[i].Key, changes[i].Value, changes[i].Seq, err)
			switch {
			case err == nil, errors.Is(err, commit.ErrSuperseded):
				before := b.disk.changes[changes[i].Key]
				b.disk.done(changes[i])
				if b.history.fails && b.disk.file == nil && b.fault() < 4 { // before that is on disk
					b.disk.fails(before)
				}
			case errors.Is(err, commit.ErrRefused):
				return fmt.Sprintf("%s is refused: %v", changes[i].Key, err)
			}
		}
	}
	return ""
}

// saves saves what is known.
func (b *bot) saves() {
	saved, err := b.now().room.Save()
	if err == nil && !b.now().killed() {
		b.disk.saved = saved
		b.tell("%s saves %s", b.name, b.now().tells())
	}
}

// lives does what a bot does.
func (b *bot) lives(steps int) (bad string) {
	for range steps {
		b.after()
		key := fmt.Sprintf("k%d", b.next(b.keys))
		switch x := b.next(100); {
		case x < 50:
			b.sets(key, b.next(4) == 0)
		case x < 75:
			bad = b.delivers()
		case x < 82:
			b.writesThrough(key)
		case x < 88:
			b.saves()
		case x < 92:
			b.now().skips()
		case x < 95:
			b.now().kill()
		default:
			b.server.deliver()
		}
		if bad != "" {
			return bad
		}
		b.startsAgain()
	}
	return ""
}

// startsAgain starts a process after one that was killed.
func (b *bot) startsAgain() {
	for b.now().killed() {
		b.tell("%s is killed", b.name)
		b.count(&b.kills)
		b.dies()
		b.starts()
	}
}

// dies waits for a process that was killed.
func (b *bot) dies() {
	b.now().end()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.now().queue.Close(ctx)
}

func (h history) play(seed int64) (bad string) {
	h.keys, h.steps = max(h.keys, 3*(1-min(h.keys, 1))), max(h.steps, 30*(1-min(h.steps, 1)))
	p := &place{history: h, server: &server{layout: h.layout, silent: h.silent, state: make(map[string]int)}, rand: rand.New(rand.NewSource(seed)), byVal: make(map[string]*truth)}
	defer func() {
		if bad != "" && *tellHistory {
			fmt.Printf("%s\n%s\n\n", strings.Join(p.story, "\n"), bad)
		}
	}()
	if h.forks {
		p.server.forks = func() (forked, wins bool) {
			if p.fault() < 20 {
				p.count(&p.goes)
				return true, p.next(2) == 0
			}
			return false, false
		}
	}
	var bots []*bot
	for n := range h.bots {
		b := &bot{place: p, name: fmt.Sprintf("@bot%d:x", n), disk: &disk{changes: make(map[string]commit.Change), depths: make(map[string]int64), outdated: make(map[string]uint64)}, tried: make(map[string]*truth)}
		b.starts()
		bots = append(bots, b)
	}
	defer func() {
		for _, b := range bots {
			b.dies()
		}
	}()
	var living sync.WaitGroup
	said := make([]string, len(bots))
	for i, b := range bots {
		living.Go(func() {
			var syncing sync.WaitGroup
			for range 3 {
				ended := make(chan struct{})
				syncing.Go(func() {
					for {
						select {
						case <-ended:
							return
						case <-time.After(time.Duration(1+p.next(10)) * 10 * time.Millisecond):
						}
						b.syncsSome()
					}
				})
				said[i] = b.lives(h.steps / 3)
				close(ended)
				syncing.Wait()
				if said[i] != "" {
					return
				}
			}
		})
	}
	living.Wait()
	for _, bad := range said {
		if bad != "" {
			return bad
		}
	}
	return p.rest(bots)
}

// rest lets all come to rest, and checks what they ended with.
func (p *place) rest(bots []*bot) (bad string) {
	p.mu.Lock()
	p.calm = true
	p.mu.Unlock()
	for p.server.deliver() {
	}
	for range 4 {
		for _, b := range bots {
			if b.disk.file != nil {
				b.dies()
				b.starts()
			}
			b.startsAgain()
			if !b.now().room.Loaded() && b.now().load(context.Background()) != nil {
				panic("it can't be loaded")
			}
			b.now().syncs()
			if bad := b.delivers(); bad != "" {
				return bad
			}
			passes(10 * time.Minute)
		}
	}
	for n := 0; ; n++ {
		p.server.mu.Lock()
		before := len(p.log)
		p.server.mu.Unlock()
		for _, b := range bots {
			b.now().syncs()
			passes(10 * time.Minute)
		}
		p.server.mu.Lock()
		after := len(p.log)
		p.server.mu.Unlock()
		if before == after {
			break
		}
		if n > 20 {
			return "it writes for ever"
		}
	}
	if most := 20 + 4*p.goes; p.puts > most {
		return fmt.Sprintf("%d puts, more than %d", p.puts, most)
	}
	for _, b := range bots {
		if left := b.disk.pending(); len(left) > 0 {
			return fmt.Sprintf("%s: %v is not delivered", b.name, left)
		}
	}
	for i := range p.keys {
		key := fmt.Sprintf("k%d", i)
		stands := ""
		p.server.mu.Lock()
		if n, ok := p.state[p.server.layout.Of(key)]; ok {
			dict, err := p.server.layout.Decode(p.server.layout.Of(key), p.log[n].Content)
			if err != nil {
				panic(err)
			}
			stands = string(dict.Entries[key].Raw)
		}
		p.server.mu.Unlock()
		for _, b := range bots {
			entry, _, err := b.now().room.Get(key)
			if err != nil || string(entry.Raw) != stands {
				return fmt.Sprintf("%s reads %s=%s (%v), %s stands in the room", b.name, key, entry.Raw, err, stands)
			}
		}
		if p.server.layout.PerKey && (len(bots) > 1 || p.delayed && p.kills > 0) { // there a late request can't always be told from a change
			continue
		}
		if may := p.may(key); len(may) > 0 && !slices.Contains(may, stands) {
			return fmt.Sprintf("%s is %s, may be %q", key, stands, may)
		}
	}
	return ""
}

// may returns what a key may hold: whatever no acknowledged change of somebody who saw it
// replaced. It is nil if no acknowledged change is among that.
func (p *place) may(key string) (may []string) {
	beaten := make(map[*truth]bool)
	for _, c := range p.made {
		if c.acked && c.key == key {
			for todo := []*truth{c.saw, c.own}; len(todo) > 0; todo = todo[1:] {
				if o := todo[0]; o != nil && !beaten[o] {
					beaten[o] = true
					todo = append(todo, o.saw, o.own)
				}
			}
		}
	}
	acked := false
	for _, c := range p.made {
		if c.key == key && (c.acked || c.done) && !beaten[c] {
			may = append(may, c.value)
			acked = acked || c.acked
		}
	}
	if !acked {
		return nil
	}
	return may
}

// syncsSome lets sync bring an event or two, or a request arrive late.
func (b *bot) syncsSome() {
	now := b.now()
	for range 1 + b.next(2) {
		now.sync()
	}
	if b.next(6) == 0 {
		b.server.deliver()
	}
}
