package replica

import (
	"encoding/json"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A standing is what stands in the room under a state key, as far as it is known.
type standing struct {
	found bool
	id    string // "": it is not known which event that is
	alike bool   // or that is only one of the same content
	dict  wire.Dictionary
	err   error           // why it can't be read
	raw   json.RawMessage // that
}

// A sent is an own write that was acknowledged.
type sent struct {
	id   string
	base string // what stood there before, as far as was known; "": that was not known
}

// An attempt is an own request that may be acted upon later.
type attempt struct {
	dict wire.Dictionary
	then standing // what stood there when it was made
	late int      // how often it was acted upon later
}

const (
	maxSent    = 128 // own writes whose echo is waited for
	maxMine    = 64
	maxStood   = 128
	maxTried   = 16
	maxLate    = 4
	maxRecent  = 4
	maxCarried = 100 // so many events in a row may carry a write along
)

// stands takes an event for what stands in the room.
func (d *document) stands(s standing) {
	if d.id != "" && d.id != s.id {
		d.past = keep(d.past, d.id, maxStood)
	}
	d.past = slices.DeleteFunc(d.past, func(id string) bool { return id == s.id })
	d.standing = s
}

// ahead says whether what stands there is an own write that sync has not brought yet.
func (d *document) ahead() bool {
	return slices.ContainsFunc(d.sent, func(s sent) bool { return s.id == d.id })
}

// take takes an event for what stands in the room, and, unless it is not to be believed,
// for what counts.
func (d *document) take(s standing, disbelieved bool) {
	d.stands(s)
	if !disbelieved {
		d.follow()
	}
}

// follow makes what stands there what counts, where stamps don't tell.
func (d *document) follow() {
	if d.meaning == nil && !d.disbelieved() {
		d.answer(d.standing.dict)
		d.from = nil
	}
}

// observe takes over an event that sync brought: what it says, and what that tells of
// what stands in the room. Where events were sent at the same moment, neither their order
// nor anything else here tells which one does, so that it has to be asked for.
func (d *document) observe(layout wire.Layout, e Event, self string) {
	said, state := e.Replaces != "" || !d.found, e.Bare
	d.told = d.told || e.Replaces != ""
	e.Silent = e.Silent && d.found && !d.start // else it is the first one
	switch {
	case e.Bare:
	case said:
		d.last = e.ID
	case d.told && !e.Redacted: // the first one of all, once more
	case e.ID == d.last, d.last != "" && d.meaning != nil && d.meaning.placed(e.ID): // once more
		e.Bare = true
	default:
		e.Replaces, d.last = d.last, e.ID // as far as is known
	}
	d.start = d.start && e.Bare
	known := d.learn(layout, e, false)
	s := known.standing()
	if d.meaning != nil {
		if d.carried++; known.fits {
			d.carried = 0
		}
	}
	i := slices.IndexFunc(d.sent, func(s sent) bool { return s.id == e.ID })
	switch {
	case i >= 0:
		if said && d.sent[i].base != e.Replaces {
			d.ask, d.fork = true, true
		}
		d.sent = slices.Delete(d.sent, i, i+1)
	case e.ID == d.id:
		if e.Redacted {
			d.emptied()
		}
	case slices.Contains(d.past, e.ID):
		d.ask = d.ask || state // it may stand there again
	case e.Replaces == d.id && (d.id != "" || !d.found) && !e.Bare && (said || d.sends(s, e.Sender == self)):
		late := d.late(s, e.Sender == self) || d.sends(s, e.Sender == self) && d.outrun(*d.sending)
		if d.sends(s, e.Sender == self) && d.id != d.sending.base {
			// Dendrite names what sync brought before, though both may have replaced the same one.
			d.ask, d.fork = true, true
		}
		d.take(s, late)
	case d.id == "" && d.found && equal(d.standing.dict, s.dict):
		d.id = s.id
	case d.alike && !e.Bare && equal(d.standing.dict, s.dict): // it explains why that stands there
		d.take(s, d.lateAttempt(s, e.Sender == self) >= 0)
	default:
		d.ask, d.fork = true, true
	}
	d.overtakes(layout, e, known)
	if d.from != nil && d.from.took == e.ID && !d.ask && !d.needsMending() {
		d.from = nil // nobody has put anything there meanwhile
	}
}

// sends says whether an event is the own one that is under way.
func (d *document) sends(s standing, own bool) bool {
	return own && d.sending != nil && equal(d.sending.dict, s.dict)
}

// late says whether what stands there is an own request that was acted upon only after
// something later stood there, and counts that. Another memory of the same account that
// means what it says is given way to in the end.
func (d *document) late(s standing, own bool) bool {
	i := d.lateAttempt(s, own)
	if i >= 0 {
		d.tried[i].late++
	}
	return i >= 0
}

// lateAttempt returns the attempt that was acted upon late; -1 if it is none.
func (d *document) lateAttempt(s standing, own bool) int {
	if d.meaning != nil || !own || s.err != nil {
		return -1
	}
	if slices.ContainsFunc(d.tried, func(a attempt) bool { return a.then.is(d.standing) && equal(a.dict, s.dict) }) {
		return -1 // it is a later one that says the same
	}
	return slices.IndexFunc(d.tried, func(a attempt) bool {
		return (a.then.id != s.id || s.id == "") && a.late < maxLate && equal(a.dict, s.dict)
	})
}

// is says whether the same stands there still.
func (s standing) is(now standing) bool {
	return s.found == now.found && s.id == now.id && (s.id != "" || equal(s.dict, now.dict))
}

// emptied notes that what stands there was redacted.
func (d *document) emptied() {
	d.standing.dict, d.standing.err, d.standing.raw = wire.Dictionary{}, nil, nil
	d.follow()
}

// equal says whether two contents are the same.
func equal(a, b wire.Dictionary) bool {
	if (a.Write == nil) != (b.Write == nil) || a.Write != nil && a.Write.ID != b.Write.ID {
		return false
	}
	return len(differences(a, b)) == 0
}

// hear takes over the homeserver's answer to what stands there. It reports whether that
// is an event that is known: else its events must be loaded again.
func (d *document) hear(s standing, unchanged bool, self string) (heard bool) {
	if !s.found {
		if d.found && !unchanged {
			return true // it is asked for again
		}
		d.ask = false
		if d.found {
			d.vanish()
		}
		return true
	}
	match, own := "", true // an answer does not say who sent it
	again := d.again
	d.again = false
	known := d.found && equal(d.standing.dict, s.dict)
	if known {
		match = d.id
	} else {
		events := d.recent
		if d.meaning != nil {
			events = d.meaning.events
		}
		for _, e := range events {
			if e.blank && len(s.dict.Entries) == 0 && s.dict.Write == nil || !e.blank && equal(e.dict, s.dict) {
				match, own = e.id, e.sender == self
			}
		}
	}
	if match == "" && d.torn != "" { // it was too long ago to be known by its content
		match, again = d.torn, true
	}
	d.unproved = d.unproved && match == ""
	back := match != d.id && !d.fork && slices.Contains(d.past, match)
	first := d.unheard == nil || !equal(*d.unheard, s.dict)
	if back {
		first = !again
	}
	switch {
	case known, match != "" && match == d.id:
		d.ask, d.fork, d.sent = false, false, nil
	case !unchanged: // the answer may be older than what came meanwhile
		d.ask = true
	case match == "" && d.meaning != nil && d.stored(s):
		d.settle(s, false)
	case first && (back || d.lateAttempt(s, own) >= 0 || match == "" && d.meaning != nil): // the events tell more
		d.unheard, d.again, d.ask = &s.dict, back, d.ask || back
		return false
	default: // where the events were loaded again, it does not come down sync
		if back && !d.ahead() {
			d.lose()
		}
		s.id, s.alike = match, back
		d.settle(s, d.late(s, own) || back) // or the homeserver has gone back
	}
	return true
}

// after takes over what the homeserver says stands there after all that sync brought.
func (d *document) after(s standing) {
	switch {
	case s.id == d.id:
		d.ask, d.fork = false, false
	case d.ahead() && slices.Contains(d.past, s.id): // sync lags behind
	case !d.fork && slices.Contains(d.past, s.id): // the same, or the homeserver has gone back
		d.ask = true
	case d.ahead():
		d.ask, d.fork = true, true
	default:
		d.settle(s, false)
	}
}

// settle takes the homeserver's answer for what stands in the room.
func (d *document) settle(s standing, disbelieved bool) {
	d.ask, d.fork = false, false
	d.take(s, disbelieved)
}

// stored says whether what stands there is an own attempt, of which no event is known
// yet, and takes over what it says.
func (d *document) stored(s standing) bool {
	for _, a := range d.tried {
		if a.dict.Write != nil && equal(a.dict, s.dict) {
			id := "write " + a.dict.Write.ID // it has no event ID yet
			if d.meaning.byID[id] == nil {
				d.meaning.include(&event{id: id, dict: a.dict, write: a.dict.Write, fits: true, acked: true}, len(d.meaning.events))
			}
			return true
		}
	}
	return false
}

// vanish notes that the homeserver no longer has the state event. Matrix has no such
// thing, so what was known is put back.
func (d *document) vanish() {
	d.lose()
	d.stands(standing{})
	d.sent = nil
}

// lose notes that the homeserver has gone back from what stands there.
func (d *document) lose() { d.lost = append(d.lost, d.id) }

// wrote notes an acknowledged write.
func (d *document) wrote(draft Draft, id string) {
	d.mine = keep(d.mine, id, maxMine)
	d.unproved = true
	d.top = max(d.top, draft.depth)
	outrun := d.outrun(draft)
	if d.from != nil && draft.dict.Write != nil && draft.dict.Write.Base == d.from.mark {
		d.from = nil // all is here
	}
	if draft.left && d.from != nil {
		defer func(from *inheritance) { d.from, from.took = from, id }(d.from)
	} else if d.meaning == nil {
		d.from = nil // what was changed here counts
	}
	if draft.repeated {
		d.attempted(draft, standing{found: true, id: id, dict: draft.dict})
	}
	for i, a := range d.tried { // what the homeserver made no new event of is later, too
		if a.then.id == id && !equal(a.dict, draft.dict) {
			d.tried[i].then = standing{}
		}
	}
	heard := id == d.id || slices.Contains(d.past, id)
	if d.meaning != nil {
		heard = heard || d.meaning.heard(id)
		if !d.meaning.heard(id) {
			d.meaning.include(&event{id: id, sender: draft.sender, dict: draft.dict, write: draft.dict.Write, fits: true, acked: true}, len(d.meaning.events))
		}
		d.carried = 0
	}
	if heard { // sync was quicker, or the homeserver has made no new event
		switch {
		case id != d.id:
			d.ask, d.fork = true, true
		case !outrun:
			d.follow()
		}
		return
	}
	if d.id != draft.base { // something came meanwhile, which may have been replaced or not
		d.ask, d.fork = true, true
	}
	d.sent = keep(d.sent, sent{id: id, base: draft.base}, maxSent)
	d.stands(standing{found: true, id: id, dict: draft.dict})
	if !outrun {
		d.follow()
	}
	if d.meaning == nil && !slices.ContainsFunc(d.recent, func(e *event) bool { return e.id == id }) {
		d.recent = keep(d.recent, &event{id: id, sender: draft.sender, dict: draft.dict}, maxRecent)
	}
}

// outrun says whether a write put what another room had left, though somebody has put something in this one since it
// was made: that counts, and is put back.
func (d *document) outrun(draft Draft) bool { return draft.left && d.from == nil }

// attempted notes that a request may be acted upon later, where no stamp would tell.
func (d *document) attempted(draft Draft, then standing) {
	d.top = max(d.top, draft.depth)
	d.tried = keep(d.tried, attempt{dict: draft.dict, then: then}, maxTried)
}

// own says whether what stands there is an own event.
func (d *document) own() bool { return slices.Contains(d.mine, d.id) }
