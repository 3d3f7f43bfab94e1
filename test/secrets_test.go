package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Nothing of what the bot remembers, and no secret, reaches a log at any level.
func TestLogsHoldNoSecrets(t *testing.T) {
	bot := rig.Register(t)
	front := rig.Proxy(t)
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.Status(503, nil, "")})
	room := bot.NewRoom(t)
	log, kept := rig.KeepLog()
	memory := matrix.New(matrix.Config{
		Homeserver: front.URL(), UserID: bot.UserID.String(), Password: bot.Password, DefaultRoom: room.String(), Timeout: 15 * time.Second,
	}, matrix.WithLogger(log))
	require.NoError(t, memory.Open(t.Context()))
	require.NoError(t, memory.Set("tea", []byte(`"the-secret-value"`)))
	token := memory.Client().AccessToken
	require.NoError(t, memory.Close())

	text := kept.String()
	require.Contains(t, text, "Request completed", "the log is at debug level")
	for _, secret := range []string{"the-secret-value", bot.Password, token} {
		require.NotContains(t, text, secret)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		require.NotContains(t, fmt.Sprintf(verb, memory), bot.Password)
	}
}
