package room

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// maxFetches is how many encrypted events a memory fetches at the same time.
const maxFetches = 16

// missingFor is how long an event that the homeserver does not give is not
// asked for again.
const missingFor = 5 * time.Second

// seal sends values as an encrypted event: commit.Env's Seal.
func (r *Room) seal(ctx, idle context.Context, content json.RawMessage) (string, error) {
	if r.isReplaced() {
		return "", errReplaced
	}
	encrypted, err := r.rooms.Cipher.Encrypt(ctx, r.id, event.Type{Type: r.rooms.EventType.Type, Class: event.MessageEventType}, content)
	if err != nil {
		return "", fmt.Errorf("encrypting the value: %w", err)
	}
	eventID, err := r.rooms.Session.Send(ctx, idle, r.id, event.EventEncrypted, encrypted)
	if err != nil {
		return "", fmt.Errorf("sending the encrypted value: %w", r.expelled(ctx, err))
	}
	s := r.vault.event(eventID.String(), r.replica.Points)
	_ = s.lock.Acquire(context.Background(), 1) // nobody else knows the event
	defer s.lock.Release(1)
	s.own = true
	// What was just encoded can be decoded, or else Get says why not.
	_ = s.hold(content)
	// When it was sent only the homeserver knows.
	r.keep(&event.Event{ID: eventID, Sender: r.rooms.userID(), Type: event.EventEncrypted, Content: event.Content{VeryRaw: encrypted}})
	return eventID.String(), nil
}

// open returns the value that was sent encrypted under a key in an event, which may be one of the room that this
// one replaces, where it could not be sent anew.
func (r *Room) open(ctx context.Context, key, eventID string) ([]byte, error) {
	value, err := r.openHere(ctx, key, eventID)
	if from := r.from.Load(); from != nil && errors.Is(err, ErrUndecryptable) {
		if value, err := from.room.open(ctx, key, eventID); err == nil {
			return value, nil
		}
	}
	return value, err
}

// openHere is open for an event of this room.
func (r *Room) openHere(ctx context.Context, key, eventID string) ([]byte, error) {
	if value, ok, _ := r.vault.peek(eventID, key); ok {
		return value, nil
	}
	if r.rooms.Cipher == nil {
		return nil, fmt.Errorf("%w: the value was sent encrypted, in event %s", ErrNoEncryption, eventID)
	}
	s := r.vault.event(eventID, r.replica.Points)
	if !s.asked.Swap(true) {
		r.readAhead()
	}
	if err := r.unseal(ctx, s, id.EventID(eventID)); err != nil {
		return nil, err
	}
	found, ok := (*s.values.Load())[key]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: event %s does not hold this key", ErrUndecryptable, eventID)
	case found.err != nil:
		return nil, fmt.Errorf("the encrypted event %s: %w", eventID, found.err)
	}
	return found.value, nil
}

// unseal fetches and decrypts an event, unless that is done. This is for all who ask
// for the event: it goes on in the background when one of their contexts ends.
func (r *Room) unseal(ctx context.Context, s *sealed, eventID id.EventID) error {
	done := make(chan error, 1)
	if !r.rooms.inBackground(func() {
		err := errors.New("reading it ended in a fault of this program, which the log describes") // unless it ends otherwise
		defer func() { done <- err }()
		err = r.readSealed(s, eventID)
	}) {
		return ErrClosed
	}
	select {
	case err := <-done:
		if err != nil && r.rooms.reading.Err() != nil {
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		return err
	case <-ctx.Done():
		err := ctx.Err()
		if unreached := r.rooms.Session.Reach(ctx); unreached != nil {
			err = unreached
		}
		return fmt.Errorf("reading the encrypted event %s: %w", eventID, err)
	}
}

// readSealed fetches and decrypts an event, unless that is done. The event is fetched
// once; while its key is missing, only the decryption is tried again.
func (r *Room) readSealed(s *sealed, eventID id.EventID) error {
	ctx, cancel := context.WithTimeout(r.rooms.reading, r.rooms.Timeout)
	defer cancel()
	if err := s.lock.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for the encrypted event %s, which is being read: %w", eventID, err)
	}
	defer s.lock.Release(1)
	if s.values.Load() != nil {
		return nil
	}
	if err := r.fetch(ctx, s, eventID); err != nil {
		return err
	}
	eventType, content, err := r.decrypt(ctx, s.event)
	switch {
	case err != nil:
	case eventType != r.rooms.EventType.Type:
		err = fmt.Errorf("it is of the type %s, and not of the memory's", eventType)
	default:
		err = s.hold(content)
	}
	switch {
	case err == nil && s.kept:
		r.rooms.inBackground(func() { r.confirm(eventID) })
		return nil
	case err == nil:
		r.keep(s.event)
		return nil
	case ctx.Err() != nil: // that says nothing of the event
		return fmt.Errorf("decrypting the event %s: %w", eventID, err)
	default:
		return fmt.Errorf("%w: event %s: %w", ErrUndecryptable, eventID, err)
	}
}

// fetch reads an event from the journal, or from the homeserver, unless that is done.
func (r *Room) fetch(ctx context.Context, s *sealed, eventID id.EventID) error {
	if s.event != nil {
		return nil
	}
	if s.event = r.kept(eventID); s.event != nil {
		s.kept = true
		return nil
	}
	if s.missing != nil && time.Now().Before(s.until) {
		return s.missing
	}
	if err := r.rooms.fetching.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for other encrypted events, to fetch %s: %w", eventID, err)
	}
	defer r.rooms.fetching.Release(1)

	evt, err := r.ask(ctx, eventID)
	switch {
	case errors.Is(err, ErrUnknownRoom):
		return err
	case session.IsStatus(err, http.StatusNotFound), session.IsStatus(err, http.StatusForbidden), session.IsStatus(err, http.StatusBadRequest):
		err = fmt.Errorf("it is not there, or the bot may not see it: %w", err)
	case err != nil:
		// Those who wait for the same event meanwhile need not each wait as long.
		s.missing, s.until = fmt.Errorf("fetching the encrypted event %s: %w", eventID, err), time.Now().Add(time.Second)
		return s.missing
	case evt.ID != eventID:
		err = fmt.Errorf("the homeserver gave the event %s in its place", evt.ID)
	case evt.RoomID != "" && evt.RoomID != r.id: // homeservers may give it all the same
		err = errors.New("it is in another room")
	default:
		evt.RoomID = r.id
		s.event = evt
		return nil
	}
	s.missing = fmt.Errorf("%w: event %s: %w", ErrUndecryptable, eventID, err)
	s.until = time.Now().Add(missingFor)
	return s.missing
}

// ask asks the homeserver for an event.
func (r *Room) ask(ctx context.Context, eventID id.EventID) (evt *event.Event, err error) {
	_, err = r.rooms.Session.Try(ctx, func(ctx context.Context) (err error) {
		evt, err = r.rooms.Session.Client().GetEvent(ctx, r.id, eventID)
		if err == nil && (evt == nil || evt.ID == "") {
			err = session.Missing("event_id")
		}
		return err
	})
	return evt, r.expelled(ctx, err)
}

// redacted says whether an encrypted event has lost its content.
func redacted(evt *event.Event) bool {
	return evt.Unsigned.RedactedBecause != nil || bytes.Equal(bytes.TrimSpace(evt.Content.VeryRaw), []byte("{}"))
}

// decrypt returns what an encrypted event holds.
func (r *Room) decrypt(ctx context.Context, evt *event.Event) (eventType string, content json.RawMessage, err error) {
	switch {
	case redacted(evt):
		return "", nil, errors.New("it was redacted: its value is gone")
	case evt.Type.Type != event.EventEncrypted.Type, evt.StateKey != nil:
		return "", nil, fmt.Errorf("it is a %s event, and was not sent encrypted", evt.Type.Type)
	}
	return r.rooms.Cipher.Decrypt(ctx, evt)
}

// sealLimit returns how many bytes of content fit in an encrypted event. Megolm
// pads to 16 bytes, adds less than 100, and writes the whole as base64:
// https://spec.matrix.org/v1.16/client-server-api/#mmegolmv1aes-sha2
func (r *Room) sealLimit() int {
	const frame = 512 // what stands beside the ciphertext: algorithm, device and keys
	eventType := r.rooms.EventType.Type
	limit := wire.EventLimit(r.id.String(), r.rooms.Session.Client().UserID.String(), event.EventEncrypted.Type, "")
	return (limit-frame)*3/4 - 128 - len(`{"room_id":"","type":"","content":}`) - len(r.id) - 2*len(eventType)
}
