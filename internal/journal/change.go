package journal

import (
	"cmp"
	"slices"
	"time"
)

// A Change is one that was acknowledged and is not delivered.
type Change struct {
	Key    string
	Value  []byte // as given to Set, not to be changed; nil with Delete
	Delete bool

	// What the key held when the change was made, and the depth that the change would have had if it had gone out at once.
	// They mean nothing to the journal. Should its file fail, they say where the change belongs.
	Over  string
	Depth int64
	Blind bool // nothing was known of what the key held: these two say nothing

	// What follows is set by the journal.

	Start   string    // which start of a process made it: see [Start]
	Forced  bool      // a Delete that replaced an own Set, or a forced Delete: it holds whatever stands there
	Seq     uint64    // grows over the whole file, and is given anew where two files are made one
	Since   time.Time // when the key's oldest change that is not delivered was made
	Attempt *Attempt  // the first attempt that carried this very change, nil if there was none; not to be changed
	Refused string    // why it is a dead letter; "": it is not
}

// An Attempt is the stamp of a content that was to be put, or was. One without ID stands for a change of a
// failed file, of which it is not known whether it was attempted: it is lower than all others of its depth.
type Attempt struct {
	Depth int64
	ID    string
	Was   string // what stood there before, with an event for each key; of a change of a failed file "=" and its Over
}

// onto returns the change as it is once it has taken the place of another, which may be nil.
func (c Change) onto(old *Change) *Change {
	if old != nil && old.Refused == Copied {
		old = nil
	}
	if c.Delete {
		c.Value = nil
	} else {
		c.Value = append([]byte{}, c.Value...)
	}
	c.Forced = old != nil && c.Delete && (!old.Delete || old.Forced)
	if old != nil && old.Since.Before(c.Since) {
		c.Since = old.Since
	}
	return &c
}

// Put adds changes to a room's, each in the place of an earlier one of the same key. They are on disk when it
// returns nil, all of them; otherwise none counts.
func (j *Journal) Put(room string, changes ...Change) error {
	if err := checkNames(room); err != nil {
		return err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	now := time.Unix(0, time.Now().UnixNano()) // as it is read again
	t := transaction{head: j.written, changes: make(map[name]*Change, len(changes)), alone: !j.begins()}
	j.mu.RLock()
	for _, c := range changes {
		n := name{room, c.Key}
		t.head.seq++
		c.Seq, c.Since, c.Start, c.Attempt, c.Refused = t.head.seq, now, j.start, nil, ""
		t.changes[n] = c.onto(cmp.Or(t.changes[n], j.changes[room][c.Key]))
	}
	j.mu.RUnlock()
	if err := j.commit(t); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for n, c := range t.changes {
		delete(j.behind, n)
		j.set(room, c)
	}
	return nil
}

// set puts a change into memory. The caller holds mu.
func (j *Journal) set(room string, c *Change) {
	if j.changes[room] == nil {
		j.changes[room] = make(map[string]*Change)
	}
	j.changes[room][c.Key] = c
}

// Attempted notes, before a content is put, which changes it carries, each key with its Seq. It is on disk when
// Attempted returns nil. A change keeps its first attempt; one that was replaced meanwhile has none.
func (j *Journal) Attempted(room string, at Attempt, seqs map[string]uint64) error {
	if err := checkNames(room); err != nil {
		return err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	t := transaction{head: j.written, changes: make(map[name]*Change), depths: make(map[string]int64)}
	first := func(key string) *Change { // with mu
		c := j.changes[room][key]
		if c == nil || c.Seq != seqs[key] || c.Attempt != nil {
			return nil
		}
		attempted := *c
		attempted.Attempt = &at
		return &attempted
	}
	j.mu.RLock()
	for key := range seqs {
		if c := first(key); c != nil {
			t.changes[name{room, key}] = c
		}
	}
	if at.Depth > j.depths[room] {
		t.depths[room] = at.Depth
	}
	err := j.usable()
	j.mu.RUnlock()
	if err == nil && len(t.changes) == 0 && len(t.depths) == 0 {
		return nil
	}
	if err := j.commit(t); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for key := range seqs {
		if c := first(key); c != nil { // it may have been done meanwhile, or refused
			j.set(room, c)
		}
	}
	j.depths[room] = max(j.depths[room], at.Depth)
	return nil
}

// Done removes changes that need no delivery any more, each key up to a Seq: from memory at once, from
// the disk with the next transaction other than Put's, with [Journal.Flush] or [Journal.Close].
func (j *Journal) Done(room string, seqs map[string]uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, seq := range seqs {
		if c := j.changes[room][key]; c != nil && c.Seq <= seq {
			delete(j.changes[room], key)
			j.behind[name{room, key}] = true
		}
	}
	if len(j.changes[room]) == 0 {
		delete(j.changes, room)
	}
}

// Refuse makes a change a dead letter, if it was not replaced meanwhile; why must not be empty. As with
// Done, the disk has it later.
func (j *Journal) Refuse(room, key string, seq uint64, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c := j.changes[room][key]; c != nil && c.Seq == seq {
		j.judge(room, c, why)
	}
}

// Retry makes those of a room's dead letters changes like others again that may be, but for those that are
// [Copied]. As with Done, the disk has it later.
func (j *Journal) Retry(room string, may func(Change) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.changes[room] {
		if c.Refused != "" && c.Refused != Copied && may(*c) {
			j.judge(room, c, "")
		}
	}
}

// All is for Retry.
func All(Change) bool { return true }

// judge notes why a change is refused, or that it is not. The caller holds mu.
func (j *Journal) judge(room string, c *Change, why string) {
	if c.Refused != why {
		judged := *c
		judged.Refused = why
		j.set(room, &judged)
		j.behind[name{room, c.Key}] = true
	}
}

// Get returns the change of a key. It never waits for the disk.
func (j *Journal) Get(room, key string) (Change, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if c := j.changes[room][key]; c != nil {
		return *c, true
	}
	return Change{}, false
}

// Changes returns a room's changes, by Seq.
func (j *Journal) Changes(room string) []Change {
	j.mu.RLock()
	defer j.mu.RUnlock()
	all := make([]Change, 0, len(j.changes[room]))
	for _, c := range j.changes[room] {
		all = append(all, *c)
	}
	slices.SortFunc(all, bySeq)
	return all
}

func bySeq(a, b Change) int { return cmp.Compare(a.Seq, b.Seq) }

// Rooms returns the rooms with changes that are not refused, the one whose change waits the longest first.
func (j *Journal) Rooms() []string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	type waiting struct {
		room   string
		oldest *Change
	}
	var all []waiting
	for room, changes := range j.changes {
		var oldest *Change
		for _, c := range changes {
			if c.Refused == "" && (oldest == nil || byAge(c, oldest) < 0) {
				oldest = c
			}
		}
		if oldest != nil {
			all = append(all, waiting{room, oldest})
		}
	}
	slices.SortFunc(all, func(a, b waiting) int { return byAge(a.oldest, b.oldest) })
	rooms := make([]string, len(all))
	for i, w := range all {
		rooms[i] = w.room
	}
	return rooms
}

func byAge(a, b *Change) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Seq, b.Seq)) }

// Pending returns how many changes wait for delivery, how many are refused, and when the oldest of all
// was made; the zero time if there is none.
func (j *Journal) Pending() (changes, refused int, since time.Time) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, room := range j.changes {
		for _, c := range room {
			if since.IsZero() || c.Since.Before(since) {
				since = c.Since
			}
			if c.Refused != "" {
				refused++
			} else {
				changes++
			}
		}
	}
	return changes, refused, since
}

// Depth returns the greatest depth that was ever attempted in a room, 0 if there was none.
func (j *Journal) Depth(room string) int64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.depths[room]
}

// Refused returns the rooms with dead letters.
func (j *Journal) Refused() (rooms []string) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for room, changes := range j.changes {
		for _, c := range changes {
			if c.Refused != "" {
				rooms = append(rooms, room)
				break
			}
		}
	}
	return rooms
}

// Last returns the greatest Seq of all changes.
func (j *Journal) Last() (last uint64) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, changes := range j.changes {
		for _, c := range changes {
			last = max(last, c.Seq)
		}
	}
	return last
}

// Undelivered returns how many changes wait for delivery whose Seq is no greater than last.
func (j *Journal) Undelivered(last uint64) int {
	return j.count(func(c *Change) bool { return c.Refused == "" && c.Seq <= last })
}

// Holds says whether there is a change whose Seq is no greater than last, refused or not.
func (j *Journal) Holds(last uint64) bool {
	return j.count(func(c *Change) bool { return c.Seq <= last }) > 0
}

// count returns how many changes there are of a kind.
func (j *Journal) count(of func(*Change) bool) (n int) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, changes := range j.changes {
		for _, c := range changes {
			if of(c) {
				n++
			}
		}
	}
	return n
}
