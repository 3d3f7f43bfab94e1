package adapter_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// On a program's own client, which goes on from the token of an earlier run, the
// bot hears what is said from its start on.
func TestOwnClient(t *testing.T) {
	robot, alice, bob := register(t), register(t), register(t)
	room := alice.newRoom(t, robot)
	client, err := mautrix.NewClient(rig.Shared(t).URL(), robot.UserID, robot.AccessToken)
	require.NoError(t, err)
	response, err := client.FullSyncRequest(t.Context(), mautrix.ReqSync{})
	require.NoError(t, err)
	require.NoError(t, client.Store.SaveNextBatch(t.Context(), robot.UserID, response.NextBatch))
	alice.say(t, room, "while it was down")

	var heard record[joe.ReceiveMessageEvent]
	b := start(t, setup{user: robot, memory: []matrix.Option{matrix.WithClient(client)}, handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Respond("ping", func(msg joe.Message) error { return msg.RespondE("pong") })
	}})
	for i := range 60 { // more than its filter lets a sync bring
		alice.say(t, room, fmt.Sprint("since the start ", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var syncing sync.WaitGroup
	syncing.Go(func() { _ = client.SyncWithContext(ctx) })
	defer syncing.Wait()
	defer cancel()

	alice.say(t, room, "ping")
	require.Equal(t, []string{"pong"}, bodies(alice.answers(t, room, robot.UserID, 1)))

	// A room that brings its first news later has the same right to them.
	other := bob.newRoom(t, robot)
	bob.say(t, other, "hello")
	heard.wait(t, 62)
	b.stop()
	events := heard.list()
	require.Len(t, events, 62)
	for i, evt := range events[:60] {
		require.Equal(t, fmt.Sprint("since the start ", i), evt.Text)
	}
	require.Equal(t, []string{"ping", "hello"}, []string{events[60].Text, events[61].Text})
	require.NotContains(t, b.log.String(), "skipped")
}
