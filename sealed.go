package matrix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
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

// A vault is what is known of a room's encrypted events.
type vault struct {
	mu     sync.RWMutex // owns what follows
	events map[string]*sealed
	limit  int // of events, after which those without a use are dropped
}

// A sealed is an encrypted event that the state points at. Several keys can point
// at the same one.
type sealed struct {
	values atomic.Pointer[map[string]opened] // nil until it is decrypted; never changed after that
	asked  atomic.Bool                       // Get has asked for it

	lock    *semaphore.Weighted // held while the event is fetched and decrypted; owns what follows
	event   *event.Event        // as it stands in the room; nil until it is fetched
	own     bool                // the bot sent it just now
	missing error               // why it could not be fetched
	until   time.Time           // when to ask for it again
}

// opened is the value under a key of an encrypted event.
type opened struct {
	value []byte
	err   error
}

// event returns the record of an event, and makes it if need be. inUse tells
// which events have to stay.
func (v *vault) event(eventID string, inUse func(eventID string) bool) *sealed {
	v.mu.RLock()
	s, ok := v.events[eventID]
	v.mu.RUnlock()
	if ok {
		return s
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.events[eventID]; ok {
		return s
	}
	if len(v.events) >= v.limit { // others overwrite values too, and nobody says so
		for other := range v.events {
			if !inUse(other) {
				delete(v.events, other)
			}
		}
		v.limit = max(1024, 2*len(v.events))
	}
	if v.events == nil {
		v.events = make(map[string]*sealed)
	}
	s = &sealed{lock: semaphore.NewWeighted(1)}
	v.events[eventID] = s
	return s
}

func (v *vault) forget(eventID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.events, eventID)
}

// peek returns what an event is known to hold under a key: commit.Env's Opened.
func (v *vault) peek(eventID, key string) (value []byte, known bool, err error) {
	v.mu.RLock()
	s := v.events[eventID]
	v.mu.RUnlock()
	if s == nil {
		return nil, false, nil
	}
	values := s.values.Load()
	if values == nil {
		return nil, false, nil
	}
	found, ok := (*values)[key]
	return found.value, ok && found.err == nil, found.err
}

// hold notes what an event holds.
func (s *sealed) hold(content json.RawMessage) error {
	// Inside the event stands a dictionary, as in the state.
	dictionary, err := wire.Layout{}.Decode("", content)
	if err != nil {
		return err
	}
	values := make(map[string]opened, len(dictionary.Entries))
	for key, entry := range dictionary.Entries {
		value, err := wire.DecodeSealed(entry.Raw)
		values[key] = opened{value, err}
	}
	s.values.Store(&values)
	return nil
}

// seal sends values as an encrypted event: commit.Env's Seal.
func (r *room) seal(ctx context.Context, content json.RawMessage) (string, error) {
	m := r.memory
	encrypted, err := m.crypto.Encrypt(ctx, r.id, event.Type{Type: m.eventType.Type, Class: event.MessageEventType}, content)
	if err != nil {
		return "", fmt.Errorf("encrypting the value: %w", err)
	}
	eventID, err := m.session.Send(ctx, r.id, event.EventEncrypted, encrypted)
	if err != nil {
		return "", fmt.Errorf("sending the encrypted value: %w", err)
	}
	s := r.vault.event(eventID.String(), r.replica.Points)
	_ = s.lock.Acquire(context.Background(), 1) // nobody else knows the event
	defer s.lock.Release(1)
	s.own = true
	// What was just encoded can be decoded, or else Get says why not.
	_ = s.hold(content)
	return eventID.String(), nil
}

// open returns the value that was sent encrypted under a key in an event.
func (r *room) open(ctx context.Context, key, eventID string) ([]byte, error) {
	if value, ok, _ := r.vault.peek(eventID, key); ok {
		return value, nil
	}
	if r.memory.crypto == nil {
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

// unseal fetches and decrypts an event, unless that is done. The event is fetched
// once; while its key is missing, only the decryption is tried again.
func (r *room) unseal(ctx context.Context, s *sealed, eventID id.EventID) error {
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
	case eventType != r.memory.eventType.Type:
		err = fmt.Errorf("it is of the type %s, and not of the memory's", eventType)
	default:
		err = s.hold(content)
	}
	if err != nil {
		return fmt.Errorf("%w: event %s: %w", ErrUndecryptable, eventID, err)
	}
	return nil
}

// fetch reads an event from the homeserver, unless that is done.
func (r *room) fetch(ctx context.Context, s *sealed, eventID id.EventID) error {
	if s.event != nil {
		return nil
	}
	if s.missing != nil && time.Now().Before(s.until) {
		return s.missing
	}
	if err := r.memory.fetching.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for other encrypted events, to fetch %s: %w", eventID, err)
	}
	defer r.memory.fetching.Release(1)

	var evt *event.Event
	_, err := r.memory.session.Try(ctx, func(ctx context.Context) (err error) {
		evt, err = r.memory.Client().GetEvent(ctx, r.id, eventID)
		return err
	})
	switch {
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

// decrypt returns what an encrypted event holds.
func (r *room) decrypt(ctx context.Context, evt *event.Event) (eventType string, content json.RawMessage, err error) {
	switch {
	case evt.Unsigned.RedactedBecause != nil, bytes.Equal(bytes.TrimSpace(evt.Content.VeryRaw), []byte("{}")):
		return "", nil, errors.New("it was redacted: its value is gone")
	case evt.Type.Type != event.EventEncrypted.Type, evt.StateKey != nil:
		return "", nil, fmt.Errorf("it is a %s event, and was not sent encrypted", evt.Type.Type)
	}
	ctx, cancel := context.WithTimeout(ctx, r.memory.conf.Timeout)
	defer cancel()
	return r.memory.crypto.Decrypt(ctx, evt)
}

// sealLimit returns how many bytes of content fit in an encrypted event. Megolm
// pads to 16 bytes, adds less than 100, and writes the whole as base64:
// https://spec.matrix.org/v1.16/client-server-api/#mmegolmv1aes-sha2
func (r *room) sealLimit() int {
	const frame = 512 // what stands beside the ciphertext: algorithm, device and keys
	eventType := r.memory.conf.EventType
	limit := wire.EventLimit(r.id.String(), r.memory.Client().UserID.String(), event.EventEncrypted.Type, "")
	return (limit-frame)*3/4 - 128 - len(`{"room_id":"","type":"","content":}`) - len(r.id) - 2*len(eventType)
}

// removed redacts encrypted events that no key points at any more, in the
// background: commit.Env's Removed.
func (r *room) removed(eventIDs []string) {
	m := r.memory
	if m.crypto == nil {
		return
	}
	m.background.Go(func() {
		for _, eventID := range eventIDs {
			if err := r.redact(m.redacting, id.EventID(eventID)); err != nil {
				m.log.WithField("room", r.id.String()).WithField("event", eventID).WithError(err).
					Warn("Could not redact the encrypted event of a value that is gone; it stays in the room's history, encrypted")
			}
			r.vault.forget(eventID)
		}
	})
}

// redact removes the content of an encrypted event, if the bot sent it.
func (r *room) redact(ctx context.Context, eventID id.EventID) error {
	client := r.memory.Client()
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
	_, err := r.memory.session.Try(ctx, func(ctx context.Context) error {
		_, err := client.RedactEvent(ctx, r.id, eventID, mautrix.ReqRedact{TxnID: txnID})
		return err
	})
	return err
}
