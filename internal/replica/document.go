package replica

import (
	"errors"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A document is one of the memory's state events: what stands in the room, and what
// reads are answered from. In the layouts of one dictionary that is what its events mean;
// in the per-key layout it is what stands there. The room's lock owns it.
type document struct {
	meaning *meaning // nil: what stands there counts
	dict    wire.Dictionary
	older   bool            // it stands under the older event type only
	counted wire.Dictionary // what dict was when its pointers were counted

	standing
	ask      bool     // what stands in the room has to be asked for
	fork     bool     // because events came of which it is not known which replaced which
	past     []string // what stood there before, as far as it matters
	last     string   // the last event that sync or a snapshot brought, unless some may be missing since
	first    string   // the first event that the last load brought
	told     bool     // the homeserver says what events replaced
	start    bool     // what sync brings next is the first event there
	unproved bool     // the homeserver was not asked since the last own write

	sending *Draft           // the own write that is under way
	sent    []sent           // own writes whose echo is still to come
	mine    []string         // the last own events
	tried   []attempt        // own requests that may still arrive, where no stamp would tell
	recent  []*event         // the last events, where there is no meaning
	top     int64            // the greatest depth of an own attempt
	carried int              // how many events in a row carry a write along, or have none
	changed int              // the room's count at the last change
	unheard *wire.Dictionary // an answer that was no known event's content
	again   bool             // the same is to be asked for once more, as its events don't tell of it
	torn    string           // what stood there before and stands there again, by the state that the last load brought
	lost    []string         // events that stood there until the homeserver has gone back, with no event to explain it
	loose   []string         // encrypted events that perhaps no entry points at any more
	from    *inheritance     // what was taken over from another room; nil: nothing, or what came later counts alone
}

// keep appends to a list that holds only the last few.
func keep[T any](list []T, one T, most int) []T {
	list = append(list, one)
	return list[max(0, len(list)-most):]
}

// answer makes a dictionary what reads are answered from. The values of encrypted
// events that are known stay known.
func (d *document) answer(dict wire.Dictionary) {
	for key, entry := range dict.Entries {
		if before := d.dict.Entries[key]; entry.Pointer != "" && before.Pointer == entry.Pointer && before.Value != nil {
			entries := make(map[string]wire.Entry, len(dict.Entries))
			for key, entry := range dict.Entries {
				if before := d.dict.Entries[key]; entry.Pointer != "" && before.Pointer == entry.Pointer {
					entry.Value = before.Value
				}
				entries[key] = entry
			}
			dict.Entries = entries
			break
		}
	}
	d.dict, d.older = dict, false
}

// mean works out what reads are answered from, after events were added.
func (d *document) mean() {
	if d.meaning == nil || len(d.meaning.events) == 0 && len(d.meaning.kept.keys) == 0 {
		return
	}
	d.meaning.forget()
	if entries, changed := d.meaning.dictionary(); changed {
		d.answer(wire.Dictionary{Entries: entries})
	}
	d.dict.Rest = d.standing.dict.Rest
	var events []wire.Dictionary // the latest first: what stands there may not be known yet
	for _, e := range slices.Backward(d.meaning.events) {
		events = append(events, e.dict)
	}
	if d.from != nil {
		events = append(events, d.from.dict)
		if !d.found {
			d.dict.Rest = d.from.dict.Rest
		}
	}
	d.dict = d.dict.NamedAs(d.standing.dict, events...)
}

// learn adds an event to those that are known, and returns it.
func (d *document) learn(layout wire.Layout, e Event, old bool) *event {
	if d.meaning != nil {
		if known := d.meaning.add(e, old); known != nil {
			return known
		}
		return newEvent(layout, e, old) // it was forgotten
	}
	i := slices.IndexFunc(d.recent, func(o *event) bool { return o.id == e.ID })
	if i >= 0 && !e.Redacted {
		return d.recent[i]
	}
	one := newEvent(layout, e, old)
	if i >= 0 {
		d.recent[i] = one
	} else if !old {
		d.recent = keep(d.recent, one, maxRecent)
	}
	return one
}

// wants says whether older events would tell more of what the dictionary means.
func (d *document) wants() bool { return d.meaning != nil && d.meaning.wants() }

// needsMending says whether something else stands in the room than what reads are
// answered from.
func (d *document) needsMending() bool {
	if d.ask || d.older || d.standing.err != nil {
		return false
	}
	return d.carried >= maxCarried || d.standing.dict.Twice || len(differences(d.standing.dict, d.dict)) > 0
}

// readable returns why the document can't be read; nil if it can.
func (d *document) readable() error {
	if errors.Is(d.standing.err, wire.ErrForeign) {
		return nil
	}
	return d.standing.err
}
