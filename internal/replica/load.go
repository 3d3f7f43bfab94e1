package replica

import (
	"cmp"
	"slices"
)

// A Snapshot is what the homeserver says of the memory's state events in a room.
type Snapshot struct {
	State    []Event // what stands there, or stood there before Timeline
	Timeline []Event // the last events, oldest first
	Older    []Event // the state events of the older type
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
	last := make(map[string]standing) // what stands there by the snapshot
	unsure := make(map[string]bool)   // more than one event may
	seen := make(map[string]bool)
	stands := make(map[string]bool)   // the state has it, and not the timeline
	latest := make(map[string]string) // the last one in the timeline
	for _, e := range bare(s.State) {
		if r.layout.Owns(e.StateKey) {
			seen[e.ID] = true
			doc := r.document(e.StateKey)
			last[e.StateKey], stands[e.StateKey], doc.first = doc.learn(r.layout, e, false).standing(), true, e.ID
		}
	}
	for _, e := range s.Timeline {
		if !r.layout.Owns(e.StateKey) {
			continue
		}
		seen[e.ID] = true
		now, ok := last[e.StateKey]
		next := ok && e.Replaces == now.id
		unsure[e.StateKey] = unsure[e.StateKey] || ok && !next
		if e.Replaces == "" {
			e.Replaces = cmp.Or(latest[e.StateKey], now.id) // as far as is known
		}
		doc := r.document(e.StateKey)
		known := doc.learn(r.layout, e, false)
		if !ok {
			doc.first = e.ID
		}
		latest[e.StateKey] = e.ID
		if next || !stands[e.StateKey] {
			last[e.StateKey] = known.standing()
		}
	}
	for stateKey, doc := range r.docs {
		now, ok := last[stateKey]
		if doc.changed <= r.began { // else sync goes on from what it brought
			doc.last = cmp.Or(latest[stateKey], doc.last, now.id)
		}
		switch {
		case doc.changed > r.began, doc.ahead(): // there may be later news than the snapshot
			doc.ask = doc.ask || !ok || now.id != doc.id
		case !ok && doc.found:
			doc.vanish()
			back = true
		case !ok:
		case now.id == doc.id:
			doc.ask, doc.fork = unsure[stateKey], unsure[stateKey]
			changed := !equal(doc.standing.dict, now.dict)
			doc.standing = now
			if changed { // else it may be a late own request, which is not followed
				doc.follow()
			}
		case doc.found && doc.id != "" && !seen[doc.id] && slices.Contains(doc.past, now.id):
			doc.take(now, true) // what is known is put back
			doc.sent, back = nil, true
		default:
			doc.ask, doc.fork = unsure[stateKey], unsure[stateKey]
			doc.take(now, doc.late(now, true))
			doc.sent = nil
		}
		r.refresh(stateKey, doc)
	}
	return r.wants(), back
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
		if doc.meaning.wants() || doc.meaning.unplaced() {
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
	for _, e := range events {
		doc, ok := r.docs[e.StateKey]
		if !ok || doc.meaning == nil {
			continue
		}
		doc.learn(r.layout, e, true)
		if e.Silent {
			doc.meaning.follows(doc.first, e.ID)
			doc.first = e.ID
		}
	}
	return r.wants()
}

// Settle ends a load; whole says that it brought the room's first event. Whatever is still
// not known then can't be had. It reports whether there is something to do, and the keys of which it can't be told for sure what they hold.
func (r *Room) Settle(whole bool) (todo bool, unsure []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded && !r.loading {
		return false, nil
	}
	r.behind -= r.caught
	first := !r.loaded
	for stateKey, doc := range r.docs {
		if m := doc.meaning; m != nil {
			if whole {
				m.follows(doc.first, "")
			}
			unsure = append(unsure, m.rule()...)
			if first {
				doc.top = m.next() - 1 + restartDepth // an attempt from before may still arrive
			}
		}
		r.refresh(stateKey, doc)
	}
	early, gone := r.early, r.gone
	r.loaded, r.loading, r.early, r.gone = true, false, nil, nil
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
