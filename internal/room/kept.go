package room

import (
	"context"
	"encoding/json"
	"net/http"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
)

// The journal keeps the encrypted events that keys point at, as they stand in the room, so that
// Get decrypts them without the homeserver, too.

// keptBetween is how many events are kept, at least, before those are looked for that nothing
// points at any more.
const keptBetween = 1024

// keep keeps an encrypted event with a later transaction of the journal.
func (r *Room) keep(evt *event.Event) {
	if r.rooms.Journal == nil {
		return
	}
	record, err := json.Marshal(&event.Event{
		ID: evt.ID, Sender: evt.Sender, Type: evt.Type, Timestamp: evt.Timestamp,
		Content: event.Content{VeryRaw: evt.Content.VeryRaw},
	})
	if err != nil {
		return // the homeserver has it
	}
	r.mu.Lock()
	due := r.unsorted <= 0
	if due {
		r.unsorted = max(keptBetween, len(r.replica.Pointers()))
	}
	r.unsorted--
	r.mu.Unlock()
	if due {
		r.sortOut()
	}
	r.saveEvents(map[string][]byte{evt.ID.String(): record})
}

// sortOut drops the kept events that nothing points at and that are in no other use.
func (r *Room) sortOut() {
	events, err := r.rooms.Journal.Events(r.id.String())
	if err != nil || !r.replica.Loaded() {
		return
	}
	gone := make(map[string][]byte)
	for _, eventID := range events {
		if !r.replica.Points(eventID) && !r.vault.knows(eventID) {
			gone[eventID] = nil
		}
	}
	r.saveEvents(gone)
}

// saveEvents changes which events are kept. A journal that failed has said so.
func (r *Room) saveEvents(events map[string][]byte) {
	_ = r.rooms.Journal.Save(journal.Known{Events: map[string]map[string][]byte{r.id.String(): events}})
}

// kept returns an event that is kept, nil if it is not.
func (r *Room) kept(eventID id.EventID) *event.Event {
	if r.rooms.Journal == nil {
		return nil
	}
	record, err := r.rooms.Journal.Event(r.id.String(), eventID.String())
	if err != nil || record == nil {
		return nil
	}
	evt := &event.Event{}
	if json.Unmarshal(record, evt) != nil || evt.ID != eventID {
		return nil
	}
	evt.RoomID = r.id
	return evt
}

// forget forgets an encrypted event, and what it held.
func (r *Room) forget(eventID string) {
	r.vault.forget(eventID)
	if r.rooms.Journal != nil {
		r.saveEvents(map[string][]byte{eventID: nil})
	}
}

// confirm asks, once that can be asked, whether a kept event stands in the room as it did, and
// forgets it if it does not: it may have been redacted while nobody told the bot.
func (r *Room) confirm(eventID id.EventID) {
	if r.rooms.Session.Reach(r.rooms.reading) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.rooms.reading, r.rooms.Timeout)
	defer cancel()
	if r.rooms.fetching.Acquire(ctx, 1) != nil {
		return
	}
	defer r.rooms.fetching.Release(1)
	evt, err := r.ask(ctx, eventID)
	if session.IsStatus(err, http.StatusNotFound) || err == nil && redacted(evt) {
		r.forget(eventID.String())
		r.replica.Redacted(eventID.String())
	}
}
