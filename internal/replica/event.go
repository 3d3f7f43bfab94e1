package replica

import (
	"encoding/json"
	"slices"
	"sync/atomic"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// An Event is a state event of the memory's type.
type Event struct {
	ID       string
	StateKey string
	Sender   string
	Content  json.RawMessage
	Time     int64 // origin_server_ts, in milliseconds; only a write's depth is measured by it, and what may be a copy
	Redacted bool
	Bare     bool // it comes from the room's state, and so without what it replaced

	Silent     bool            // the homeserver never says what an event under this state key replaced
	Replaces   string          // unsigned.replaces_state; "": nothing, or the homeserver does not say
	Before     json.RawMessage // unsigned.prev_content: what the event that it replaced holds; nil: the homeserver does not say
	BeforeFrom string          // who sent that one
}

// An event is a state event of a dictionary, as far as it is known.
type event struct {
	id       string
	replaces string
	sender   string
	time     int64
	dict     wire.Dictionary
	err      error           // why it can't be read
	raw      json.RawMessage // that
	write    *wire.Write     // nil if it has none, or a forged one
	fits     bool            // the content is what the author of its write put
	blank    bool            // it is redacted, or can't be read: it says nothing
	partial  bool            // what it replaced itself is not known
	bare     bool            // (partial) from the room's state, and not from the event that replaced it
	guessed  bool            // what it replaced is what its author had built it upon, as far as is known
	acked    bool            // an own event that sync has not brought yet: what it replaced is still to come
	lost     bool            // what it replaced can't be had

	later   *event   // one that it was compared with
	unlikes []string // the keys that differ

	saved   atomic.Pointer[savedUpon] // nil: it was not saved so far
	reading *reading                  // what it says, once that is worked out
	frozen  bool                      // that stays, as the events that it follows from may be forgotten
}

// newEvent takes an event for one of a dictionary. old says that it comes from the history.
func newEvent(layout wire.Layout, e Event, old bool) *event {
	out := &event{id: e.ID, sender: e.Sender, time: e.Time, blank: e.Redacted}
	if !out.blank {
		out.dict, out.err = layout.Decode(e.StateKey, e.Content)
		if out.blank = out.err != nil; out.blank {
			out.raw = slices.Clone(e.Content)
		}
	}
	if !out.blank {
		out.write = out.dict.Write
		if out.write != nil && e.Time > 0 && out.write.Depth > e.Time {
			out.write = nil // forged: nobody has made as many changes as milliseconds have passed since 1970
		}
		out.fits = out.write != nil && wire.Authored(e.Content, e.Sender)
	}
	out.place(e, old)
	return out
}

// place notes what an event replaced. Where nothing else tells, that is what its author
// had built it upon, but for the last few events.
func (e *event) place(from Event, old bool) {
	untold := from.Silent && from.Replaces == "" && !from.Bare
	e.replaces, e.guessed, e.acked = from.Replaces, untold && old && e.fits && e.write.Base != "", false
	if e.guessed {
		e.replaces = e.write.Base
	}
	e.partial = from.Bare || untold && !e.guessed
	e.bare = e.partial
}

// first says whether an event replaced none, as far as is known.
func (e *event) first() bool { return e.replaces == "" && !e.partial && !e.acked }

// standing returns what stands in the room with the event.
func (e *event) standing() standing {
	return standing{found: true, id: e.id, dict: e.dict, err: e.err, raw: e.raw}
}

// before returns the event that e replaced, as far as e tells.
func (e Event) before() (Event, bool) {
	if e.Replaces == "" || e.Before == nil {
		return Event{}, false
	}
	return Event{ID: e.Replaces, StateKey: e.StateKey, Sender: e.BeforeFrom, Content: e.Before, Time: e.Time}, true
}

// same says whether two entries hold the same. One without Raw stands for none.
func same(a, b wire.Entry) bool {
	if a.Raw == nil || b.Raw == nil {
		return a.Raw == nil && b.Raw == nil
	}
	return wire.Equal(a.Raw, b.Raw)
}

// differences returns the keys under which two dictionaries hold different entries.
func differences(a, b wire.Dictionary) []string {
	var keys []string
	for key, entry := range a.Entries {
		if !same(entry, b.Entries[key]) {
			keys = append(keys, key)
		}
	}
	for key := range b.Entries {
		if _, ok := a.Entries[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// unlike returns the keys under which another event holds something else.
func (e *event) unlike(later *event) []string {
	if e.later != later {
		e.later, e.unlikes = later, differences(e.dict, later.dict)
	}
	return e.unlikes
}

// oneStep says whether b is a after one put, or after one delete of some keys.
func oneStep(a, b wire.Dictionary) bool {
	sets, deletes := 0, 0
	for key, entry := range b.Entries {
		if !same(a.Entries[key], entry) {
			sets++
		}
	}
	for key := range a.Entries {
		if _, ok := b.Entries[key]; !ok {
			deletes++
		}
	}
	return sets == 1 && deletes == 0 || sets == 0 && deletes > 0
}
