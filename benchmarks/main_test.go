package benchmarks

import (
	"os"
	"testing"

	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) {
	code := rig.Run(m)
	found.print(os.Stdout)
	os.Exit(code)
}

// open opens the memory of a bot in a room, on the homeserver or on a proxy in
// front of it.
func open(b *testing.B, bot rig.Account, room id.RoomID, url string) *matrix.Memory {
	b.Helper()
	conf := bot.Config(room)
	conf.Homeserver = url
	return rig.Open(b, conf, matrix.WithLogger(rig.Silence()))
}

// counter puts a proxy in front of the homeserver, and returns how many requests it
// has seen but those of sync loops, which always have one open.
func counter(b *testing.B) (url string, requests func() int) {
	b.Helper()
	proxy := rig.Proxy(b)
	sync := homeserver.Seen(rig.OfSync)
	return proxy.URL(), func() int {
		return proxy.Count(func(r homeserver.Request) bool { return !sync(r) })
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
