package rig

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// Delivering is how long a memory may take until it has delivered what it can, once the
// homeserver is back: it may pause between its attempts to get a connection.
const Delivering = 90 * time.Second

// Delivers waits for what a memory does once it has a connection.
var Delivers = Eventually(Delivering)

// Journalled returns the settings of a bot with a journal of its own in a room, by way of a
// proxy.
func Journalled(t testing.TB, front *homeserver.Proxy, bot Account, room id.RoomID, layout matrix.StateKey) matrix.Config {
	t.Helper()
	conf := bot.Config(room)
	conf.Homeserver, conf.Journal, conf.SingleStateKey = front.URL(), Journal(t), layout
	return conf
}

// Offline lets no request come through, until what it returns is called. A memory that is
// opened meanwhile has no connection, and so attempts to deliver nothing.
func Offline(front *homeserver.Proxy) (online func()) {
	return front.Inject(homeserver.Fault{Do: homeserver.Page(502)})
}

// Pending waits until so many changes are not delivered, of which so many are refused.
func Pending(t testing.TB, memory *matrix.Memory, changes, refused int) {
	t.Helper()
	Delivers(t, func() bool {
		now := memory.Pending()
		return now.Changes == changes && now.Refused == refused
	}, "%d changes are pending, %d of them refused", changes, refused)
}

// Reopened closes a memory and opens it again, with the same settings.
func Reopened(t testing.TB, memory *matrix.Memory, conf matrix.Config, options ...matrix.Option) *matrix.Memory {
	t.Helper()
	require.NoError(t, memory.Close())
	return Open(t, conf, options...)
}

// Warned waits until the log warns of something with all of the words, and checks that it does
// so just once, and that no value stands in the log: those of these tests hold the word
// "secret".
func Warned(t testing.TB, kept *Buffer, words ...string) {
	t.Helper()
	warnings := func() []string {
		return append(kept.Lines(append(words, "level=warning")...), kept.Lines(append(words, "level=error")...)...)
	}
	Delivers(t, func() bool { return len(warnings()) > 0 }, "the log warns of something with %q", words)
	require.Len(t, warnings(), 1, "it is said once")
	require.NotContains(t, kept.String(), "secret")
}
