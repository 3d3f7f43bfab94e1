package replica

import (
	"cmp"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Snapshot is what the homeserver says of the memory's state events in a room.
type Snapshot struct {
	State    []Event           // what stands there, or stood there before Timeline
	Timeline []Event           // the last events, oldest first
	Older    []Event           // the state events of the older type
	Torn     map[string]string // what stands under a state key where that is not the last of Timeline: its ID; "": nothing
}

// Expect announces that a snapshot is about to be read: from now on, what sync brings
// counts. Only one load of a room may be under way at a time.
func (r *Room) Expect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = !r.loaded
	r.began, r.caught = r.count, r.behind
	for _, doc := range r.docs {
		if doc.meaning != nil {
			doc.meaning.recall()
		}
	}
}

// Load takes over a snapshot that was read after [Room.Expect]. It reports whether older
// events are wanted, see [Room.Earlier], and whether the homeserver has gone back to a
// state that it had before, as one does that was restored from a backup. [Room.Settle]
// ends the load.
func (r *Room) Load(s Snapshot) (more, back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded && !r.loading { // forgotten meanwhile
		return false, false
	}
	for _, e := range s.Older {
		r.older(e)
	}
	seen := make(map[string]bool)
	tracks := make(map[string]*track)
	for _, e := range slices.Concat(bare(s.State), s.Timeline) {
		if !r.layout.Owns(e.StateKey) {
			continue
		}
		seen[e.ID] = true
		t := tracks[e.StateKey]
		if t == nil {
			t = &track{bare: e.Bare, torn: s.Torn[e.StateKey]}
			tracks[e.StateKey] = t
		}
		t.add(r.document(e.StateKey), r.layout, e, r.self)
	}
	for stateKey, doc := range r.docs {
		before := doc.id
		back = doc.load(tracks[stateKey], doc.changed > r.began, seen) || back
		doc.again = doc.again && doc.id == before
		now, torn := s.Torn[stateKey]
		doc.torn = ""
		if slices.Contains(doc.past, now) {
			doc.torn = now
		}
		doc.ask = doc.ask || doc.again || torn
		if doc.id != before { // an answer that is on its way may be older
			r.touch(stateKey)
		} else {
			r.refresh(stateKey, doc)
		}
	}
	return r.wants(), back
}

// A track is what a snapshot says of one state event.
type track struct {
	steps  []step // what stood there one after the other; the last one does
	unsure bool   // or another one does
	bare   bool   // the first one comes from the state
	torn   string // what stands there by the state, where that is not the last of the timeline
	latest string // the last event of the timeline
}

type step struct {
	standing
	own bool
}

// add takes the next event.
func (t *track) add(doc *document, layout wire.Layout, e Event, self string) {
	now := ""
	if len(t.steps) > 0 {
		now = t.steps[len(t.steps)-1].id
	} else {
		doc.first = e.ID
	}
	next := now == "" || e.Replaces == now
	t.unsure = t.unsure || !next
	doc.told = doc.told || e.Replaces != ""
	if e.Replaces == "" && !e.Bare {
		e.Replaces = cmp.Or(t.latest, now) // as far as is known
	}
	if !e.Bare {
		t.latest = e.ID
	}
	known := doc.learn(layout, e, false)
	doc.overtakes(layout, e, known)
	if next || !t.bare {
		t.steps = append(t.steps, step{known.standing(), e.Sender == self})
	}
}

// load takes over what a snapshot says. news says that sync has brought something since
// it was asked for. It reports whether the homeserver has gone back.
func (d *document) load(t *track, news bool, seen map[string]bool) (back bool) {
	switch {
	case t == nil && (news || d.ahead()):
		d.ask = true
		return false
	case t == nil && d.found:
		d.vanish()
		return true
	case t == nil:
		return false
	}
	now := t.steps[len(t.steps)-1].standing
	if !news { // else sync goes on from what it brought
		d.last = cmp.Or(t.latest, d.last, now.id)
	}
	fork := t.unsure && !slices.Contains(d.past, cmp.Or(t.torn, now.id)) // else the homeserver has gone back
	at := slices.IndexFunc(t.steps, func(s step) bool { return s.id == d.id })
	switch {
	case news, d.ahead(): // there may be later news than the snapshot
		d.ask = d.ask || now.id != d.id || t.unsure
	case now.id == d.id:
		d.ask, d.fork = t.unsure, fork
		changed := !equal(d.standing.dict, now.dict)
		d.standing = now
		if changed { // else it may be a late own request, which is not followed
			d.follow()
		}
	case d.found && d.id != "" && !seen[d.id] && slices.Contains(d.past, now.id):
		d.lose()
		d.take(now, true) // what is known is put back
		d.sent = nil
		return true
	case t.unsure && d.found && at < 0:
		d.ask, d.fork = true, fork
	default:
		d.ask, d.fork = t.unsure, fork
		for _, s := range t.steps[at+1:] {
			d.take(s.standing, d.late(s.standing, s.own))
		}
		d.sent = nil
	}
	return false
}

// bare marks events that come from the room's state.
func bare(events []Event) []Event {
	marked := slices.Clone(events)
	for i := range marked {
		marked[i].Bare = true
	}
	return marked
}

// older takes over an event of the older type. It stands in where an event of the present
// type is missing.
func (r *Room) older(e Event) {
	dict, err := r.layout.DecodeLegacy(e.StateKey, e.Content)
	if r.loaded || !r.layout.Owns(e.StateKey) || err != nil || len(dict.Entries) == 0 {
		return
	}
	stateKey := e.StateKey
	if r.layout.PerKey { // the key itself, then
		stateKey = r.layout.Of(e.StateKey)
	}
	doc := r.document(stateKey)
	doc.dict, doc.older = dict, true
}

func (r *Room) wants() bool {
	if r.layout.PerKey {
		return false
	}
	for _, doc := range r.docs {
		if doc.meaning.wants() || len(doc.meaning.unplaced()) > 0 {
			return true
		}
	}
	return false
}

// Earlier takes over older events than those that are known, the latest first, and
// reports whether still older ones are wanted.
func (r *Room) Earlier(events []Event) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.earlier(events)
	return r.wants()
}

func (r *Room) earlier(events []Event) {
	for _, e := range events {
		doc, ok := r.docs[e.StateKey]
		if !ok || doc.meaning == nil {
			continue
		}
		placed := doc.meaning.placed(e.ID) // a page may bring events once more
		doc.learn(r.layout, e, true)
		if e.Silent && !placed {
			doc.meaning.follows(doc.first, e.ID)
			doc.first = e.ID
		}
	}
}

// Settle ends a load; whole says that it brought the room's first event. Whatever is still
// not known then can't be had. It reports whether there is something to do, and the keys of
// which it can't be told for sure what they hold.
func (r *Room) Settle(whole bool) (todo bool, unsure []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded && !r.loading {
		return false, nil
	}
	r.behind -= r.caught
	first := !r.begun
	for stateKey, doc := range r.docs {
		if m := doc.meaning; m != nil {
			if whole {
				m.follows(doc.first, "")
			}
			unsure = append(unsure, m.rule()...)
			if first {
				doc.top = max(doc.top, m.next()-1+restartDepth) // an attempt from before may still arrive
			}
		}
		r.refresh(stateKey, doc)
	}
	early, gone := r.early, r.gone
	r.loaded, r.loading, r.begun, r.early, r.gone = true, false, true, nil, nil
	for _, u := range early {
		r.apply(u)
	}
	for _, id := range gone {
		r.redact(id)
	}
	return len(r.todo()) > 0, unsure
}

// restartDepth is how much deeper the first write after a start is.
const restartDepth = 100
