package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// A keyring is encryption by which a message says its own ID, once its key has come.
type keyring struct {
	mautrix.CryptoHelper
	mu   sync.Mutex
	keys map[id.SessionID]chan struct{} // closed when the key has come
}

func (k *keyring) key(session id.SessionID) chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = make(map[id.SessionID]chan struct{})
	}
	if k.keys[session] == nil {
		k.keys[session] = make(chan struct{})
	}
	return k.keys[session]
}

func (k *keyring) WaitForSession(ctx context.Context, _ id.RoomID, _ id.SenderKey, session id.SessionID, timeout time.Duration) bool {
	select {
	case <-k.key(session):
		return true
	case <-time.After(timeout):
	case <-ctx.Done():
	}
	return false
}

func (k *keyring) Decrypt(_ context.Context, evt *event.Event) (*event.Event, error) {
	select {
	case <-k.key(keyOf(evt)):
		decrypted := received("m.room.message", fmt.Sprintf(`{"msgtype":"m.text","body":%q}`, evt.ID))
		decrypted.Type.Class, decrypted.ID, decrypted.Sender = event.MessageEventType, evt.ID, evt.Sender
		return decrypted, nil
	default:
		return nil, errors.New("no key")
	}
}

// sessionNamed returns the ID of a session.
func sessionNamed(name string) id.SessionID {
	return id.SessionID(name + strings.Repeat("0", session.MegolmIDLength-len(name)))
}

// encrypted returns a message that is encrypted with a key.
func encrypted(sender id.UserID, eventID id.EventID, key string) *event.Event {
	evt := received("m.room.encrypted", fmt.Sprintf(`{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","session_id":%q}`, sessionNamed(key)))
	evt.Sender, evt.ID = sender, eventID
	return evt
}

// A keeper is an ear with a keyring, whose lane runs.
type keeper struct {
	*ear
	keys keyring
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{ear: newEar(t)}
	k.client.Crypto, k.running = &k.keys, true
	return k
}

// sync brings events, and waits until the room's lane has nothing to do but to wait for keys.
func (k *keeper) sync(events ...*event.Event) {
	k.mu.Lock()
	k.push(k.room.id, news{timeline: own(k.room.id, events)})
	k.mu.Unlock()
	k.settle()
}

// settle waits until the room's lane has done what it has to do. The time is that of the
// test's bubble.
func (k *keeper) settle() {
	for synctest.Wait(); k.working(); synctest.Wait() {
		time.Sleep(time.Millisecond)
	}
}

func (k *keeper) working() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.room.busy
}

// heard returns what was heard since it was asked last.
func (k *keeper) heard() (texts []string) {
	for _, emitted := range k.emitted {
		texts = append(texts, emitted.(joe.ReceiveMessageEvent).Text)
	}
	k.emitted = nil
	return texts
}

// warnings returns the warnings since it was asked last.
func (k *keeper) warnings() (lines []string) {
	for _, entry := range k.said.AllEntries() {
		if entry.Level <= logrus.WarnLevel {
			lines = append(lines, entry.Message)
		}
	}
	k.said.Reset()
	return lines
}

// Messages with the same key wait for it together, and are heard in their order; those
// whose keys do not come are given up together.
func TestMessagesThatAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.sync(encrypted("@a:x", "$1", "a"), encrypted("@b:x", "$2", "b"), encrypted("@a:x", "$3", "a"))
		k.sync(encrypted("@a:x", "$4", "a"), encrypted("@b:x", "$5", "b"))
		require.Empty(t, k.heard())
		close(k.keys.key(sessionNamed("a")))
		k.settle()
		require.Equal(t, []string{"$1", "$3", "$4"}, k.heard())
		require.Empty(t, k.warnings())

		time.Sleep(asideFor)
		k.settle()
		require.Empty(t, k.heard())
		require.Equal(t, []string{"2 messages with one key could not be decrypted, and were not heard; ask who sent them to send them again"}, k.warnings())
		require.Empty(t, k.room.aside.waits)
		close(k.keys.key(sessionNamed("b"))) // even later
		k.sync(encrypted("@b:x", "$6", "b"))
		require.Equal(t, []string{"$6"}, k.heard())
	})
}

// However many keys do not come, a room waits for five seconds in a minute.
func TestWaitsOfARoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		close(k.keys.key(sessionNamed("good")))
		for round := range 2 {
			began := time.Now()
			for i := range 20 {
				n := 20*round + i
				k.sync(encrypted("@mallory:x", id.EventID(fmt.Sprint("$junk", n)), fmt.Sprint(n)))
			}
			good := fmt.Sprint("$good", round)
			k.sync(encrypted("@a:x", id.EventID(good), "good"))
			require.Equal(t, []string{good}, k.heard())
			require.InDelta(t, keyWaits, time.Since(began), float64(100*time.Millisecond))
			time.Sleep(time.Minute)
		}
		k.cancel() // else the bubble does not end
		k.lanes.Wait()
	})
}

// Who sends much whose key does not come pushes out nobody else's messages, and there
// is no waiting for what was pushed out.
func TestTooManyThatAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.sync(encrypted("@a:x", "$1", "a"), encrypted("@a:x", "$2", "a"))
		for n := range 3 * maxAside {
			k.sync(encrypted("@mallory:x", id.EventID(fmt.Sprint("$junk", n)), fmt.Sprint(n)))
		}
		require.Len(t, k.room.aside.events, maxAside)
		require.Len(t, k.room.aside.waits, maxAside-1, "one is for two messages")
		require.Len(t, k.warnings(), 1)
		close(k.keys.key(sessionNamed("a")))
		k.settle()
		require.Equal(t, []string{"$1", "$2"}, k.heard())
		k.cancel()
		k.lanes.Wait()
	})
}

// What was set aside is forgotten when it is redacted, and when the bot leaves the room.
func TestSetAsideNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		k.sync(encrypted("@a:x", "$1", "a"), encrypted("@a:x", "$2", "a"), encrypted("@a:x", "$3", "b"))
		for _, redacted := range []id.EventID{"$1", "$3"} {
			redaction := received("m.room.redaction", "{}")
			redaction.ID, redaction.Redacts = redacted+"'s redaction", redacted
			k.sync(redaction)
		}
		k.emitted = nil
		require.Len(t, k.room.aside.waits, 1)
		close(k.keys.key(sessionNamed("a")))
		k.settle()
		require.Equal(t, []string{"$2"}, k.heard())

		k.sync(encrypted("@a:x", "$4", "c"))
		require.Len(t, k.room.aside.waits, 1)
		k.mu.Lock()
		k.push(k.room.id, news{left: true})
		k.mu.Unlock()
		k.settle()
		require.Empty(t, k.room.aside.waits)
		k.lanes.Wait()
		require.Empty(t, k.warnings())
	})
}

// No key is waited for where none can come: to read a message that was redacted, one
// whose key's ID is none, or one without encryption.
func TestNoKeysAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, began := newKeeper(t), time.Now()
		k.sync(received("m.room.encrypted", `{}`))
		require.Empty(t, k.warnings())
		strange := received("m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"x","session_id":"strange"}`)
		strange.ID = "$strange"
		k.sync(strange)
		require.Len(t, k.warnings(), 1)
		k.client.Crypto = nil
		k.sync(encrypted("@a:x", "$1", "a"), encrypted("@a:x", "$2", "a"))
		require.Len(t, k.warnings(), 1)
		require.Empty(t, k.room.aside.waits)
		require.Less(t, time.Since(began), time.Second/2)
	})
}
