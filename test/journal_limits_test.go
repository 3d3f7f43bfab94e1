package test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Ten thousand changes of a hundred keys in five rooms, on a homeserver that lets a bot send
// ten events at once and then one in five seconds, are delivered in about as few events as
// that lets through meanwhile.
func TestManyChangesTakeFewEvents(t *testing.T) {
	t.Parallel()
	const rooms, keys, changes, most = 5, 20, 10_000, rig.SendsAtOnce + 20
	own, front, _ := rig.Limited(t, rig.SendPause, nil)
	bot, owner := own.NewAccount(t), own.NewAccount(t)
	var all []id.RoomID
	for range rooms {
		all = append(all, owner.NewRoom(t, bot, rig.Writable))
	}
	memory := rig.Open(t, rig.Journalled(t, front, bot, all[0], matrix.OneStateKey), matrix.WithLogger(rig.Warnings(t)))
	front.Reset()
	var setting sync.WaitGroup
	for _, room := range all {
		handle := memory.InRoom(room.String())
		setting.Go(func() {
			for n := range changes / rooms {
				if err := handle.Set(fmt.Sprint("key ", n%keys), n); err != nil {
					t.Errorf("change %d in %s: %v", n, room, err)
					return
				}
			}
		})
	}
	setting.Wait()
	rig.Flush(t, memory, 5*time.Minute)
	want := make(map[string]string)
	for n := changes/rooms - keys; n < changes/rooms; n++ {
		want[fmt.Sprint("key ", n%keys)] = fmt.Sprint(n)
	}
	for _, room := range all {
		require.Empty(t, rig.Compare("the room", want, bot.Entries(t, room)))
	}
	puts := front.Count(homeserver.Seen(homeserver.StateWrite))
	t.Logf("%d changes took %d requests", changes, puts)
	require.LessOrEqual(t, puts, most)
	require.GreaterOrEqual(t, puts, rooms)
}

// What stands in the room already takes no event, however often it is set, unless somebody has changed it.
func TestWhatIsThereAlreadyTakesNoEvent(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, others, _, memory := besideOthers(t, layout)
			require.NoError(t, memory.Set("tea", []byte(`{"green":1,"black":2}`)))
			rig.Flush(t, memory, rig.Delivering)
			front.Reset()
			for _, same := range []string{`{"green":1,"black":2}`, `{"black":2, "green":1}`} {
				require.NoError(t, memory.Set("tea", []byte(same)))
				rig.Flush(t, memory, rig.Delivering)
			}
			require.Zero(t, front.Count(homeserver.Seen(homeserver.StateWrite)))

			restore := front.Inject(homeserver.Fault{Match: homeserver.Sync, Do: homeserver.Page(502)}) // so that it does not hear of it
			require.NoError(t, others.Put(t.Context(), "tea", theirs))
			require.NoError(t, memory.Set("tea", []byte(`{"green":1,"black":2}`)))
			rig.Flush(t, memory, rig.Delivering)
			require.JSONEq(t, `{"green":1,"black":2}`, others.Entries(t, others.Room)["tea"])
			restore()
		})
	}
}

// A thousand changes wait for a homeserver that limits what a bot sends. Whoever speaks to the
// bot is answered before them: between what the bot hears and what it answers goes out none,
// but for one that is on its way just then.
func TestAnswersGoBeforeTheJournal(t *testing.T) {
	const keys, questions, pause = 1000, 10, time.Second
	front := rig.Proxy(t)
	account, person := rig.Register(t), rig.Register(t)
	room := account.NewRoom(t, person)
	// All that a bot sends is limited, as soon as it is told so.
	unlimited := front.Inject(homeserver.Fault{Match: rig.Sends, Do: homeserver.Limit(3, pause)})
	memory := matrix.New(rig.Journalled(t, front, account, room, matrix.PerKey))
	ctx, cancel := context.WithCancel(context.Background())
	bot := joe.New("bot", joe.WithContext(ctx), joe.WithLogger(zaptest.NewLogger(t)), memory, adapter.New(memory))
	heard := make(chan time.Time, questions)
	bot.Respond("ping (.+)", func(msg joe.Message) error {
		heard <- time.Now()
		return msg.RespondE("pong " + msg.Matches[0])
	})
	ended := make(chan error, 1)
	go func() { ended <- bot.Run() }()
	t.Cleanup(func() {
		// What is left is not this test's subject, and takes a quarter of an hour.
		unlimited()
		front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()})
		cancel()
		require.NoError(t, <-ended)
	})
	for k := range keys {
		require.NoError(t, bot.Store.Set(fmt.Sprint("key-", k), k))
	}
	require.Greater(t, memory.Pending().Changes, keys/2)

	before := 0 // how many changes went out before an answer
	for n := range questions {
		_, err := person.SendText(t.Context(), room, fmt.Sprint("ping ", n))
		require.NoError(t, err)
		from := <-heard
		answer := fmt.Sprint("pong ", n)
		rig.Delivers(t, func() bool { return said(t, person, room, answer) }, "the bot answers")
		require.Greater(t, memory.Pending().Changes, 0, "the journal has something to deliver all the time")
		for _, request := range front.Requests() {
			if request.Time.Before(from) || request.Status != http.StatusOK {
				continue
			}
			if homeserver.Seen(homeserver.EventSend)(request) {
				break // it is the answer
			}
			if homeserver.Seen(homeserver.StateWrite)(request) {
				before++
			}
		}
	}
	require.LessOrEqual(t, before, 2)
	require.Greater(t, front.Count(wentOut), 0, "changes go out, too")
}

// wentOut says whether a request was a change that the homeserver took.
func wentOut(request homeserver.Request) bool {
	return request.Status == http.StatusOK && homeserver.Seen(homeserver.StateWrite)(request)
}

// said says whether one of the last messages in a room has a text.
func said(t testing.TB, account rig.Account, room id.RoomID, text string) bool {
	t.Helper()
	last, err := account.Messages(t.Context(), room, "", "", 'b', nil, 20)
	require.NoError(t, err)
	for _, evt := range last.Chunk {
		if evt.Type == event.EventMessage && strings.Contains(string(evt.Content.VeryRaw), text) {
			return true
		}
	}
	return false
}

// A Flush that waits does not take the pauses away that lie between attempts, and says what was in
// the way.
func TestFlushKeepsThePauses(t *testing.T) {
	t.Parallel()
	front, bot := rig.Proxy(t), rig.Register(t)
	conf := rig.Journalled(t, front, bot, bot.NewRoom(t), matrix.OneStateKey)
	memory := rig.Open(t, conf)
	restore := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(500, nil, `{"errcode":"M_UNKNOWN","error":"as the test says"}`)})
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := memory.Flush(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "1 changes are not delivered")
	require.LessOrEqual(t, front.Count(homeserver.Seen(homeserver.StateWrite)), 10)
	restore()
	rig.Flush(t, memory, rig.Delivering)
}

// Where it can't be asked whether the journal is the latest, Flush says so, and is not kept waiting
// for the next attempt once that works.
func TestFlushHurriesTheQuestionOfTheLatest(t *testing.T) {
	t.Parallel()
	front, bot := rig.Proxy(t), rig.Register(t)
	asks := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/account_data/dev.joe.journal.") }
	restore := front.Inject(homeserver.Fault{Match: asks, Do: homeserver.Status(403, nil, `{"errcode":"M_FORBIDDEN","error":"as the test says"}`)})
	memory := rig.Open(t, rig.Journalled(t, front, bot, bot.NewRoom(t), matrix.OneStateKey))
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := memory.Flush(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "asking whether the journal is the latest")
	tries := func() int {
		return front.Count(func(r homeserver.Request) bool {
			return strings.Contains(r.Path, "/account_data/dev.joe.journal.") && r.Status == 403
		})
	}
	rig.Eventually(rig.Delivering)(t, func() bool { return tries() == 4 }, "the next attempt is some seconds away")
	restore()
	rig.Within(t, 3*time.Second, "Flush", func() { rig.Flush(t, memory, rig.Delivering) })
}
