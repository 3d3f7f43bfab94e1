package benchmarks

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// server is the homeserver of all benchmarks.
var server *homeserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "matrix-memory-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	server, err = homeserver.Start(context.Background(), homeserver.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "The benchmarks need a homeserver:", err)
		return 1
	}
	defer server.Stop()
	code := m.Run()
	found.print(os.Stdout)
	return code
}

// An account is a user of the server with a plain client of its own.
type account struct {
	homeserver.Account
	client *mautrix.Client
}

// register makes a new account.
func register(b *testing.B) account {
	b.Helper()
	made, err := server.Register(b.Context(), "u"+strings.ToLower(rand.Text()), "a password")
	check(b, err)
	client, err := mautrix.NewClient(server.URL(), id.UserID(made.UserID), made.AccessToken)
	check(b, err)
	b.Cleanup(client.Client.CloseIdleConnections)
	return account{made, client}
}

// newRoom makes a room that belongs to the account.
func (a account) newRoom(b *testing.B) id.RoomID {
	b.Helper()
	room, err := a.client.CreateRoom(b.Context(), &mautrix.ReqCreateRoom{Preset: "private_chat"})
	check(b, err)
	return room.RoomID
}

// config returns the settings of a bot with this account in a room, on the
// server or on a proxy in front of it.
func (a account) config(room id.RoomID, url string) matrix.Config {
	return matrix.Config{Homeserver: url, AccessToken: a.AccessToken, DefaultRoom: room.String()}
}

// open opens a memory and closes it when the benchmark ends.
func open(b *testing.B, conf matrix.Config) *matrix.Memory {
	b.Helper()
	memory := matrix.New(conf, matrix.WithLogger(silent()))
	check(b, memory.Open(b.Context()))
	b.Cleanup(func() { check(b, memory.Close()) })
	return memory
}

func silent() logrus.FieldLogger {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logger
}

// counter puts a proxy in front of the server, and returns how many requests it
// has seen but those of sync loops, which always have one open.
func counter(b *testing.B) (url string, requests func() int) {
	b.Helper()
	proxy, err := server.Proxy()
	check(b, err)
	b.Cleanup(func() { check(b, proxy.Close()) })
	sync := homeserver.Seen(homeserver.Sync)
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
