package room_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

func TestMain(m *testing.M) { os.Exit(rig.Run(m)) }

var eventually = rig.Eventually(10 * time.Second)

// open returns the rooms of an account, on a connection of their own: no bot, no
// memory.
func open(t *testing.T, account rig.Account, layout wire.Layout, cipher room.Cipher) *room.Rooms {
	t.Helper()
	return openAt(t, account.HomeserverURL.String(), account, layout, cipher)
}

// openAt is open by way of a proxy.
func openAt(t *testing.T, url string, account rig.Account, layout wire.Layout, cipher room.Cipher) *room.Rooms {
	t.Helper()
	return openWith(t, url, account, room.Env{Layout: layout, Encrypt: true, Cipher: cipher})
}

// openWith is openAt with what else rooms have.
func openWith(t *testing.T, url string, account rig.Account, env room.Env) *room.Rooms {
	t.Helper()
	connection := session.New(session.NewClient(), false)
	env.Session, env.EventType, env.Timeout, env.Log = connection, rig.MemoryType, 15*time.Second, rig.Log(t)
	rooms := room.New(env)
	require.NoError(t, connection.Open(t.Context(), session.Options{
		Homeserver: url, AccessToken: account.AccessToken,
		Types: rooms.Types(), Recent: rig.MemoryType, Update: rooms.Update, Anew: rooms.Anew, Timeout: rooms.Timeout, Log: rooms.Log,
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), rooms.Timeout)
		defer cancel()
		rooms.Close(ctx)
		connection.Close()
	})
	return rooms
}

// A budget for one operation.
func budget(t *testing.T) *room.Budget {
	b := room.NewBudget(t.Context(), 15*time.Second)
	t.Cleanup(b.End)
	return &b
}

func requireValue(t *testing.T, r *room.Room, key, want string) {
	t.Helper()
	value, found, err := r.Get(budget(t), key)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want, string(value))
}

// A room remembers, follows what others write, and says which key an operation on
// several failed on.
func TestRoom(t *testing.T) {
	account := rig.Register(t)
	roomID := account.NewRoom(t)
	rooms := open(t, account, wire.Layout{PerKey: true}, nil)
	r, err := rooms.Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.Equal(t, roomID, r.ID())
	again, err := rooms.Find(t.Context(), account.NewAlias(t, roomID).String())
	require.NoError(t, err)
	require.Same(t, r, again, "a room has one replica, whatever it is called")

	require.NoError(t, r.Set(budget(t), "tea", []byte(`"green"`)))
	requireValue(t, r, "tea", `"green"`)
	account.Put(t, roomID, "milk", map[string]string{"milk": "white"})
	eventually(t, func() bool {
		keys, err := r.Keys(budget(t))
		return err == nil && len(keys) == 2
	}, "what somebody else writes is there after the next sync")
	n, err := r.Delete(budget(t), "tea", "milk", "coffee")
	require.NoError(t, err)
	require.Equal(t, 2, n)

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	rooms.Close(ctx)
	_, err = r.Delete(budget(t), "tea", "milk")
	var failed *room.KeyError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "tea", failed.Key)
	require.ErrorIs(t, err, room.ErrClosed)
	_, err = rooms.Find(t.Context(), account.NewRoom(t).String())
	require.ErrorIs(t, err, room.ErrClosed)
}

// scrambler is a cipher that everybody has the key of.
type scrambler struct{}

func (scrambler) Encrypt(_ context.Context, _ id.RoomID, eventType event.Type, content json.RawMessage) (json.RawMessage, error) {
	return json.Marshal(map[string]string{"algorithm": eventType.Type, "ciphertext": base64.StdEncoding.EncodeToString(content)})
}

func (scrambler) Encrypted(_ id.RoomID, now bool) (bool, error) { return now, nil }

func (scrambler) Decrypt(_ context.Context, evt *event.Event) (string, json.RawMessage, error) {
	var scrambled struct{ Algorithm, Ciphertext string }
	if err := json.Unmarshal(evt.Content.VeryRaw, &scrambled); err != nil {
		return "", nil, err
	}
	content, err := base64.StdEncoding.DecodeString(scrambled.Ciphertext)
	return scrambled.Algorithm, content, err
}

// In an encrypted room the state only points at what the cipher made, and who reads
// it later finds the values there. Without a cipher nothing is sent.
func TestEncryptedRoom(t *testing.T) {
	account := rig.Register(t)
	roomID := account.NewRoom(t, rig.Encrypted)
	writer, err := open(t, account, wire.Layout{}, scrambler{}).Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.NoError(t, writer.Set(budget(t), "tea", []byte(`"green"`)))
	require.NoError(t, writer.Set(budget(t), "milk", []byte(`"white"`)))
	standing := account.Standing(t, roomID)[""]
	require.NotContains(t, standing, "green")
	require.Contains(t, standing, "encrypted_val")

	reader, err := open(t, account, wire.Layout{}, scrambler{}).Find(t.Context(), roomID.String())
	require.NoError(t, err)
	requireValue(t, reader, "tea", `"green"`)
	requireValue(t, reader, "milk", `"white"`)

	without, err := open(t, account, wire.Layout{}, nil).Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.ErrorIs(t, without.Set(budget(t), "tea", []byte(`"black"`)), room.ErrNoEncryption)
	_, _, err = without.Get(budget(t), "tea")
	require.ErrorIs(t, err, room.ErrNoEncryption)
	require.JSONEq(t, standing, account.Standing(t, roomID)[""])
}

// slow is a scrambler whose Decrypt waits until it may go on.
type slow struct {
	scrambler
	reached chan<- struct{}
	release <-chan struct{}
}

func (s slow) Decrypt(ctx context.Context, evt *event.Event) (string, json.RawMessage, error) {
	select {
	case s.reached <- struct{}{}:
	case <-s.release:
	}
	select {
	case <-s.release:
		return s.scrambler.Decrypt(ctx, evt)
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
}

// Several callers wait for the same encrypted event. When the context of one ends, who
// asked for it first, it is read for the others all the same, and nothing is wrong with it.
func TestEndedContextOfOneReader(t *testing.T) {
	account := rig.Register(t)
	roomID := account.NewRoom(t, rig.Encrypted)
	writer, err := open(t, account, wire.Layout{}, scrambler{}).Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.NoError(t, writer.Set(budget(t), "tea", []byte(`"green"`)))

	for _, stage := range []string{"fetching", "decrypting"} {
		t.Run(stage, func(t *testing.T) {
			reached, release := make(chan struct{}), make(chan struct{})
			front := rig.Proxy(t)
			var cipher room.Cipher = scrambler{}
			if stage == "decrypting" {
				cipher = slow{reached: reached, release: release}
			} else {
				fetches := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/event/") }
				front.Inject(homeserver.Fault{Match: fetches, Do: homeserver.PauseBefore(reached, release)})
			}
			r, err := openAt(t, front.URL(), account, wire.Layout{}, cipher).Find(t.Context(), roomID.String())
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			first, second := make(chan error, 1), make(chan error, 1)
			get := func(b room.Budget, result chan<- error) {
				defer b.End()
				_, _, err := r.Get(&b, "tea")
				result <- err
			}
			go get(room.NewBudget(ctx, time.Minute), first)
			<-reached
			go get(room.NewBudget(t.Context(), time.Minute), second)
			cancel()
			err = <-first
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, room.ErrUndecryptable)
			close(release)
			require.NoError(t, <-second)
			requireValue(t, r, "tea", `"green"`)
		})
	}
}

// The bot is told which power level it lacks.
func TestRoomThatCannotBeWritten(t *testing.T) {
	owner, account := rig.Register(t), rig.Register(t)
	r, err := open(t, account, wire.Layout{}, nil).Find(t.Context(), owner.NewRoom(t, account).String())
	require.NoError(t, err)
	err = r.Set(budget(t), "tea", []byte(`"green"`))
	require.ErrorIs(t, err, room.ErrForbidden)
	require.ErrorContains(t, err, "the bot has power level 0, and dev.opsdroid.database state events need 50")
}

// The event of a deleted value is redacted once sync has brought what others wrote after the
// deletion, who may have brought the pointer back, and not while it is down.
func TestRedactionWaitsForSync(t *testing.T) {
	const after = 5 * time.Second
	t.Cleanup(room.RedactAfter(after))
	account, front := rig.Register(t), rig.Proxy(t)
	roomID := account.NewRoom(t, rig.Encrypted)
	rooms := openAt(t, front.URL(), account, wire.Layout{}, scrambler{})
	r, err := rooms.Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.NoError(t, r.Set(budget(t), "tea", []byte(`"green"`)))
	var all *mautrix.RespMessages
	eventually(t, func() bool {
		all, err = account.Messages(t.Context(), roomID, "", "", mautrix.DirectionBackward, &mautrix.FilterPart{Types: []event.Type{event.EventEncrypted}}, 10)
		require.NoError(t, err)
		return len(all.Chunk) == 1
	}, "the value is in the room's history")
	before := front.Count(homeserver.Seen(rig.FollowUp))
	_, err = r.Delete(budget(t), "tea")
	require.NoError(t, err)
	eventually(t, func() bool { return front.Count(homeserver.Seen(rig.FollowUp)) > before }, "sync brings the deletion")

	restore := front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Status(http.StatusServiceUnavailable, nil, "")})
	deleted, n := time.Now(), 0
	news := func() {
		n++
		account.Put(t, roomID, "another", map[string]int{"n": n})
	}
	redacted := func() bool {
		evt, err := account.GetEvent(t.Context(), roomID, all.Chunk[0].ID)
		return err == nil && evt.Unsigned.RedactedBecause != nil
	}
	news() // ends the sync that is under way
	rig.Eventually(time.Minute)(t, func() bool { return time.Since(deleted) > 3*after }, "")
	require.False(t, redacted(), "sync is down")
	restore()
	rig.Eventually(2*time.Minute)(t, func() bool { news(); return redacted() }, "the event is redacted")
}

// Where the homeserver's limit leaves no time for a redaction, it is made later.
func TestRedactionWaitsForTheLimit(t *testing.T) {
	t.Cleanup(room.RedactAfter(time.Second))
	account, front := rig.Register(t), rig.Proxy(t)
	roomID := account.NewRoom(t, rig.Encrypted)
	rooms := openAt(t, front.URL(), account, wire.Layout{}, scrambler{})
	r, err := rooms.Find(t.Context(), roomID.String())
	require.NoError(t, err)
	require.NoError(t, r.Set(budget(t), "tea", []byte(`"green"`)))
	redaction := func(r *http.Request) bool { return rig.Sends(r) && strings.Contains(r.URL.Path, "/redact/") }
	front.Inject(homeserver.Fault{Match: redaction, Times: 1, Do: homeserver.RateLimit(time.Hour)})
	_, err = r.Delete(budget(t), "tea")
	require.NoError(t, err)
	n := 0
	rig.Eventually(2*time.Minute)(t, func() bool {
		n++
		account.Put(t, roomID, "another", map[string]int{"n": n}) // sync brings it
		return front.Count(func(r homeserver.Request) bool {
			return homeserver.Seen(redaction)(r) && r.Status == http.StatusOK
		}) == 1
	}, "the event is redacted")
}
