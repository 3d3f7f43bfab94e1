package adapter_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// BenchmarkAnswer measures the time from a person's send to the bot's answer
// being in that person's sync, against the same ping-pong with two bare mautrix
// clients, turn by turn in the same run. The ratio of the medians is reported.
func BenchmarkAnswer(b *testing.B) {
	robot, bare, person := register(b), register(b), register(b)
	botRoom, bareRoom := person.newRoom(b, robot), person.newRoom(b, bare)
	start(b, setup{user: robot, handlers: func(b *bot) {
		b.Respond("ping (.+)", func(msg joe.Message) error { return msg.RespondE("pong %s", msg.Matches[0]) })
	}})
	ctx, cancel := context.WithCancel(b.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	follow := func(client *mautrix.Client, heard mautrix.EventHandler) {
		syncer := mautrix.NewDefaultSyncer()
		syncer.OnEventType(event.EventMessage, heard)
		client.Syncer = syncer
		following.Go(func() { _ = client.SyncWithContext(ctx) })
	}
	follow(bare.Client, func(ctx context.Context, evt *event.Event) {
		if evt.Sender != bare.UserID {
			_, _ = bare.SendText(ctx, evt.RoomID, "pong "+evt.Content.AsMessage().Body[len("ping "):])
		}
	})
	answers := make(chan string, 100)
	follow(person.Client, func(_ context.Context, evt *event.Event) {
		if evt.Sender != person.UserID && (evt.RoomID == botRoom || evt.RoomID == bareRoom) {
			answers <- evt.Content.AsMessage().Body
		}
	})
	turn := 0
	ping := func(room id.RoomID) time.Duration {
		turn++
		begin := time.Now()
		_, err := person.SendText(ctx, room, fmt.Sprint("ping ", turn))
		require.NoError(b, err)
		for {
			select {
			case answer := <-answers:
				if answer == fmt.Sprint("pong ", turn) {
					return time.Since(begin)
				}
			case <-time.After(bound):
				require.FailNow(b, "no answer")
			}
		}
	}
	for range 3 { // until all follow, and connections are open
		ping(botRoom)
		ping(bareRoom)
	}
	var withBot, withBare []time.Duration
	for b.Loop() {
		withBot = append(withBot, ping(botRoom))
		withBare = append(withBare, ping(bareRoom))
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Microseconds()) / 1000
	}
	b.ReportMetric(median(withBot), "bot-ms")
	b.ReportMetric(median(withBare), "bare-ms")
	b.ReportMetric(median(withBot)/median(withBare), "ratio")
}
