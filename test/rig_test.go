package test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// A rig is a memory behind a fault proxy, in a room of its own. What the account
// itself does goes past the proxy.
type rig struct {
	account
	*matrix.Memory
	front   *homeserver.Proxy
	room    id.RoomID
	timeout time.Duration
}

// behind opens a memory behind a proxy, in which faults may wait already.
func behind(t testing.TB, front *homeserver.Proxy, bot account, timeout time.Duration, layout matrix.StateKey, opts ...matrix.Option) rig {
	t.Helper()
	room := bot.newRoom(t)
	conf := bot.config(room)
	conf.Homeserver, conf.Timeout, conf.SingleStateKey = front.URL(), timeout, layout
	return rig{bot, open(t, conf, opts...), front, room, timeout}
}

// seen returns the requests that the proxy has seen of one kind.
func (r rig) seen(match func(*http.Request) bool) (requests []homeserver.Request) {
	matches := homeserver.Seen(match)
	for _, request := range r.front.Requests() {
		if matches(request) {
			requests = append(requests, request)
		}
	}
	return requests
}

func (r rig) writes() int { return len(r.seen(homeserver.StateWrite)) }

// has checks what Get returns; an empty want means that there is no such key.
func (r rig) has(t testing.TB, key, want string) {
	t.Helper()
	value, ok, err := r.Get(key)
	require.NoError(t, err)
	require.Equal(t, want != "", ok, "is %q there?", key)
	require.Equal(t, want, string(value))
}

// failed checks that an error tells all that an Error promises.
func (r rig) failed(t testing.TB, err error, op, key string) {
	t.Helper()
	var failure *matrix.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, op, failure.Op)
	require.Equal(t, r.room.String(), failure.Room)
	require.Equal(t, key, failure.Key)
	require.ErrorContains(t, err, fmt.Sprintf("%s %q in room %s", op, key, r.room))
	require.NotContains(t, err.Error(), "secret", "the value must not be in the error")
}

// answered checks that the homeserver's own answer is reached.
func answered(t testing.TB, err error, code string) {
	t.Helper()
	var answer mautrix.RespError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, code, answer.ErrCode)
}

// history returns how many of the memory's events the room has ever had.
func (r rig) history(t testing.TB) int {
	t.Helper()
	all, err := r.Messages(t.Context(), r.room, "", "", mautrix.DirectionBackward, &mautrix.FilterPart{Types: []event.Type{memoryType}}, 1000)
	require.NoError(t, err)
	return len(all.Chunk)
}

// followUp matches the requests of the sync loop, but for the first.
func followUp(r *http.Request) bool { return homeserver.Sync(r) && r.URL.Query().Has("since") }

// stateRead matches reads of a single state event.
func stateRead(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/state/"+memoryType.Type)
}

// wholeState matches reads of a room's whole state.
func wholeState(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/state")
}

// within runs something that must end in time.
func within(t testing.TB, bound time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	require.Less(t, time.Since(start), bound, what)
}

// slack is what a slow machine may take besides what a test waits for.
const slack = 5 * time.Second

// proxy puts a fault proxy in front of the server for one test.
func proxy(t testing.TB) *homeserver.Proxy {
	t.Helper()
	p, err := server.Proxy()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// logged returns a logger that keeps everything, and what it kept.
func logged() (logrus.FieldLogger, *syncBuffer) {
	var kept syncBuffer
	logger := logrus.New()
	logger.SetOutput(&kept)
	logger.SetLevel(logrus.TraceLevel)
	return logger, &kept
}

// A syncBuffer is a buffer that may be written and read at the same time.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
