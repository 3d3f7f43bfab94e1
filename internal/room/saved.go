package room

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/journal"
)

// What the journal keeps of a room beside changes: what is known of its memory, and of access.
type saved struct {
	Type       string                         // of the memory's events: under another one stands another memory
	Memory     []byte                         `json:"-"`
	Encryption bool                           `json:",omitempty"`
	Levels     *event.PowerLevelsEventContent `json:",omitempty"`
	Create     *event.Event                   `json:",omitempty"`
	Heir       id.RoomID                      `json:",omitempty"` // where the memory has gone
	From       id.RoomID                      `json:",omitempty"` // the room that this one replaces, once what that held was taken along
	Left       string                         `json:",omitempty"` // what stood there then: see [origin]
	Owes       bool                           `json:",omitempty"` // that is still to be done
	Secret     uint64                         `json:",omitempty"` // see [Room]
	Unmarked   bool                           `json:",omitempty"` // or noted
}

// encode puts what is kept into bytes: the memory follows the rest, on a line of its own. It may
// be large, and is JSON already.
func (s saved) encode() ([]byte, error) {
	rest, err := json.Marshal(s)
	return slices.Concat(rest, []byte{'\n'}, s.Memory), err
}

// decode is the reverse of encode.
func (s *saved) decode(from []byte) error {
	rest, memory, _ := bytes.Cut(from, []byte{'\n'})
	s.Memory = memory
	return json.Unmarshal(rest, s)
}

// saveAfter is how long it takes at most until what others changed is kept, if little is
// delivered. That costs tens of milliseconds in a room that is nearly full.
const saveAfter = 5 * time.Second

// saveStale keeps what is known by now of rooms, with a later transaction of the journal.
func (rs *Rooms) saveStale() {
	for _, r := range rs.all() {
		if r.stale.Load() {
			r.save()
		}
	}
}

// save keeps what is known of the room, with a later transaction of the journal.
func (r *Room) save() {
	if r.rooms.Journal == nil || r.rooms.Journal.Failure() != nil {
		return
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	state, err := r.state(r.heir.Load())
	if err == nil && state != nil {
		err = r.rooms.Journal.Save(journal.Known{Rooms: map[string][]byte{r.id.String(): state}})
	}
	if err != nil {
		r.log().WithError(err).Warn("What the room holds can't be kept in the journal")
	}
}

// state returns what is known of the room, whose memory has gone to its heir if there is one; nil if the room is
// not loaded. The caller holds saving.
func (r *Room) state(heir *Room) ([]byte, error) {
	r.stale.Store(false)
	known := saved{Type: r.rooms.EventType.Type, Owes: r.owes.Load(), Unmarked: r.unmarked.Load(), Secret: r.secret.Load()}
	if heir != nil {
		known.Heir = heir.id
	} else {
		memory, err := r.replica.Save()
		if err != nil { // it is not loaded
			return nil, nil
		}
		known.Memory = memory
		if from := r.from.Load(); from != nil {
			known.From, known.Left = from.room.id, from.state
		}
	}
	r.mu.RLock()
	known.Encryption, known.Levels, known.Create = r.access.encryption, r.access.levels, r.access.create
	r.mu.RUnlock()
	return known.encode()
}

// restore takes over what was kept of the room, if that can be read. It is behind, then. The caller holds
// the rooms' lock.
func (r *Room) restore() {
	if r.rooms.Journal == nil {
		return
	}
	r.inherited = make(map[string]bool)
	for _, change := range r.rooms.Journal.Changes(r.id.String()) {
		r.inherited[change.Key] = !r.rooms.Journal.IsOfThisStart(change)
	}
	maps.Copy(r.awaited, r.inherited)
	r.replica.Reached(r.rooms.Journal.Depth(r.id.String()))
	state, err := r.rooms.Journal.Load(r.id.String())
	var known saved
	if err == nil && state != nil {
		err = known.decode(state)
	}
	switch {
	case err != nil || known.Memory == nil || known.Heir != "":
	case known.Type != r.rooms.EventType.Type:
		err = fmt.Errorf("it is of the event type %s, and the memory's is %s now", known.Type, r.rooms.EventType.Type)
	default:
		err = r.replica.Restore(known.Memory)
	}
	if err != nil {
		r.log().WithError(err).Warn("What the journal says of the room can't be used; it is read from the homeserver")
	}
	r.mu.Lock()
	r.access = access{encryption: known.Encryption, levels: known.Levels}
	r.mu.Unlock()
	if known.Create != nil {
		r.note(known.Create)
	}
	r.owes.Store(known.Owes)
	r.unmarked.Store(known.Unmarked)
	r.secret.Store(known.Secret)
	if known.From != "" {
		r.from.Store(&origin{r.rooms.room(known.From), known.Left})
	}
	r.rooms.restoreHeir(r, known.Heir)
}

// HoldSealed says whether the journal holds changes of rooms that were known to be encrypted.
func (rs *Rooms) HoldSealed() bool {
	return slices.ContainsFunc(slices.Concat(rs.Journal.Rooms(), rs.Journal.Refused()), func(room string) bool {
		var known saved
		state, err := rs.Journal.Load(room)
		return err == nil && known.decode(state) == nil && known.Encryption
	})
}
