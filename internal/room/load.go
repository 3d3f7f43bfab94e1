package room

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
)

// maxHistory is how many of the memory's earlier events are read where the last ones
// leave something open.
const maxHistory = 500

// maxPages is how many requests that takes at most: Dendrite 0.13.8 gives pages of which most
// is something else.
const maxPages = 20

// load reads what the homeserver says of the room's memory: its state and its last
// events, and earlier ones where these leave something open. It does not if done says, once
// no other load is under way, that there is no need.
func (r *Room) load(ctx context.Context, done func() bool) error {
	if err := r.rooms.Session.Reach(ctx); err != nil {
		return err
	}
	if err := r.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the room's state, which is being read: %w", err)
	}
	defer r.loading.Release(1)
	if done != nil && done() {
		return nil
	}
	first := !r.replica.Loaded()
	r.replica.Expect() // first follow, then read: nothing is missed in between
	err := r.read(ctx, first)
	switch {
	case errors.Is(err, ErrUnknownRoom) && !first:
		r.leave("")
	case err != nil && first:
		r.replica.Forget()
	}
	err = r.outside(err)
	r.stale.Store(true)
	return err
}

func (r *Room) read(ctx context.Context, first bool) error {
	r.mu.RLock()
	restored := r.restored
	r.mu.RUnlock()
	snapshot, err := r.rooms.Session.Snapshot(ctx, r.id)
	if err != nil {
		return err
	}
	before := r.rights()
	more, _ := r.replica.Load(replica.Snapshot{
		Older:    r.older(snapshot),
		Torn:     snapshot.Torn,
		State:    r.take(snapshot.State),
		Timeline: r.take(snapshot.Timeline),
	})
	if !reflect.DeepEqual(before, r.rights()) {
		r.retry(true)
	}
	whole, err := r.readEarlier(ctx, snapshot, more)
	if err != nil {
		return err
	}
	if first {
		r.owe() // before anything is read
	}
	todo, unsure := r.replica.Settle(whole)
	if len(unsure) > 0 {
		r.log().WithField("keys", unsure).
			Warn("The homeserver does not give the events that tell when these keys were changed last; what the later event says counts")
	}
	if !r.rooms.Layout.PerKey {
		err = r.compare(ctx, r.rooms.Layout.StateKey)
		todo = todo || len(r.replica.Todo()) > 0
	}
	r.warnOfReset(ctx)
	if restored {
		r.mu.Lock()
		r.restored = false
		r.mu.Unlock()
	}
	if todo {
		r.queue.Wake()
	}
	return err
}

// compare asks what stands in the room under a state key, and takes it over if that is no event that is
// known: what Dendrite 0.13.8 gives of the room's history can lag behind, after it was killed
// for half a minute.
func (r *Room) compare(ctx context.Context, stateKey string) error {
	count := r.replica.Count(stateKey)
	content, found, err := r.standing(ctx, stateKey)
	if err != nil {
		return err
	}
	if heard, _ := r.replica.Answer(stateKey, content, found, count, nil); heard {
		return nil
	}
	evt, err := r.rooms.Session.StateEvent(ctx, r.id, r.rooms.EventType, stateKey)
	if err != nil || evt == nil {
		return err
	}
	r.replica.Expect()
	r.replica.Load(replica.Snapshot{State: []replica.Event{r.stateEvent(evt)}})
	r.replica.Settle(false)
	return nil
}

// readEarlier reads the memory's events before a snapshot, as long as they are wanted. It
// reports whether the room has no others.
func (r *Room) readEarlier(ctx context.Context, snapshot *session.Snapshot, more bool) (whole bool, err error) {
	if !snapshot.Limited {
		return true, nil
	}
	from := snapshot.Earlier
	for n, pages := 0, 0; more && from != "" && n < maxHistory && pages < maxPages; pages++ {
		events, next, err := r.rooms.Session.EarlierEvents(ctx, r.id, from)
		switch {
		case session.IsStatus(err, http.StatusForbidden), session.IsStatus(err, http.StatusNotFound):
			return false, nil // they can't be had
		case err != nil:
			return false, fmt.Errorf("reading the room's history: %w", err)
		}
		n += len(events)
		more = r.replica.Earlier(r.take(events))
		from = next
	}
	return from == "", nil
}

// older returns the state events of the older type.
func (r *Room) older(snapshot *session.Snapshot) (older []replica.Event) {
	if r.rooms.OlderType == "" {
		return nil
	}
	for _, evt := range snapshot.State {
		if evt.Type.Type == r.rooms.OlderType {
			older = append(older, r.stateEvent(evt))
		}
	}
	return older
}

func (r *Room) stateEvent(evt *event.Event) replica.Event {
	e := replica.Event{
		ID:         evt.ID.String(),
		StateKey:   evt.GetStateKey(),
		Sender:     evt.Sender.String(),
		Content:    evt.Content.VeryRaw,
		Time:       evt.Timestamp,
		Redacted:   evt.Unsigned.RedactedBecause != nil,
		Silent:     r.rooms.Session.Silent(evt.GetStateKey()),
		Replaces:   evt.Unsigned.ReplacesState.String(),
		BeforeFrom: evt.Unsigned.PrevSender.String(),
	}
	if before := evt.Unsigned.PrevContent; before != nil {
		e.Before = before.VeryRaw
	}
	return e
}
