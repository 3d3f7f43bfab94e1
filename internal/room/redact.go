package room

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// redactAfter is how long an encrypted event stays when no key points at it any more. A
// program that reads the state, and then the events that it points at, may have read the state
// before, and may write back what it has read.
var redactAfter = 30 * time.Second

// An unpointed is an encrypted event that no key points at any more.
type unpointed struct {
	eventID string
	due     time.Time // of its redaction, once sync has brought what was written before that
}

// removed redacts encrypted events that no key points at any more, in the
// background: commit.Env's Removed.
func (r *Room) removed(eventIDs []string) {
	if r.rooms.Cipher == nil || r.isReplaced() { // then the room is left as it is
		return
	}
	due := time.Now().Add(redactAfter)
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := len(r.unpointed) > 0
	for _, eventID := range eventIDs {
		r.unpointed = append(r.unpointed, unpointed{eventID, due})
	}
	if !begun && len(r.unpointed) > 0 {
		r.rooms.background.Go(func() {
			defer session.Survive(r.log(), "redacting events of values that are gone")
			r.redactAll()
		})
	}
}

// redactAll redacts events when they are due, until there are none left. When the rooms
// close, it redacts what it can, and says what is left.
func (r *Room) redactAll() {
	for {
		closing := false
		select {
		case <-time.After(redactAfter):
		case <-r.rooms.reading.Done():
			closing = true
		}
		r.mu.RLock()
		all := slices.Clone(r.unpointed)
		r.mu.RUnlock()
		settled := make(map[string]bool)
		for _, u := range all {
			settled[u.eventID] = (closing || r.rooms.Session.Seen().After(u.due)) && r.settled(u.eventID, closing)
		}
		r.mu.Lock()
		r.unpointed = slices.DeleteFunc(r.unpointed, func(u unpointed) bool { return settled[u.eventID] })
		left := len(r.unpointed)
		if closing {
			r.unpointed = nil
		}
		r.mu.Unlock()
		switch {
		case closing && left > 0:
			r.log().WithField("events", left).Warn("It is not known yet whether the encrypted events of values that are gone are still in use, or the homeserver's limit left no time; they stay in the room's history, encrypted")
			return
		case closing || left == 0:
			return
		}
	}
}

// settled redacts an encrypted event, unless a key points at it again, and reports whether
// that is settled: not while something else may stand in the room than is known, nor where the
// homeserver limits how much the account sends, and others went first.
func (r *Room) settled(eventID string, closing bool) bool {
	switch {
	case r.isReplaced(), r.replica.Points(eventID):
		return true // until that key goes
	case !r.replica.Unused(eventID):
		return false
	}
	err := r.redact(r.rooms.redacting, id.EventID(eventID), closing)
	switch {
	case errors.Is(err, session.ErrGaveWay), session.IsStatus(err, http.StatusTooManyRequests):
		return false
	case err != nil:
		r.log().WithField("event", eventID).WithError(err).
			Warn("Could not redact the encrypted event of a value that is gone; it stays in the room's history, encrypted")
	}
	r.forget(eventID)
	return true
}

// redact removes the content of an encrypted event, if the bot sent it. It is what nobody waits
// for, unless that is Close.
func (r *Room) redact(ctx context.Context, eventID id.EventID, closing bool) error {
	client := r.rooms.Session.Client()
	s := r.vault.event(eventID.String(), r.replica.Points)
	if err := s.lock.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.lock.Release(1)
	if !s.own {
		if err := r.fetch(ctx, s, eventID); err != nil {
			return err
		}
		if s.event.Sender != client.UserID || s.event.Unsigned.RedactedBecause != nil {
			return nil
		}
	}
	txnID := client.TxnID()
	idle, urgency := r.rooms.reading, session.Chore
	if closing {
		idle, urgency = nil, session.Write
	}
	_, err := r.rooms.Session.TrySending(ctx, idle, r.id, urgency, func(ctx context.Context) error {
		_, err := client.RedactEvent(ctx, r.id, eventID, mautrix.ReqRedact{TxnID: txnID})
		return err
	})
	return err
}
