package test

import (
	"errors"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Close waits for the writes that were accepted, and takes no new ones.
func TestCloseWhileWriting(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 15*time.Second, matrix.OneStateKey)
	reached, release := make(chan struct{}), make(chan struct{})
	r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	results := make(chan error, 2)
	go func() { results <- r.Set("one", []byte(`1`)) }()
	<-reached
	accepted := make(chan error, 1)
	go func() { accepted <- r.Set("two", []byte(`2`)) }()

	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	eventually(t, func() bool { _, _, err := r.Get("one"); return errors.Is(err, matrix.ErrClosed) }, "Close has begun")
	usedAfterClose(t, r.Memory)
	require.Empty(t, closed, "Close waits")
	close(release)
	require.NoError(t, <-results)
	second := <-accepted // a write that came too late is refused, and else it is stored
	require.NoError(t, <-closed)
	require.NoError(t, r.Close(), "again")
	usedAfterClose(t, r.Memory)

	want := `{"one":1,"two":2}`
	if second != nil {
		require.ErrorIs(t, second, matrix.ErrClosed)
		want = `{"one":1}`
	}
	require.JSONEq(t, want, r.Standing(t, r.Room)[""])
}

// usedAfterClose checks that every operation on a closed memory says that it is.
func usedAfterClose(t testing.TB, memory *matrix.Memory) {
	t.Helper()
	room := memory.InRoom("main")
	for op, use := range map[string]func() error{
		"Set":             func() error { return memory.Set("key", nil) },
		"Get":             func() error { _, _, err := memory.Get("key"); return err },
		"Delete":          func() error { _, err := memory.Delete("key"); return err },
		"Keys":            func() error { _, err := memory.Keys(); return err },
		"InRoom.Set":      func() error { return room.Set("key", 1) },
		"InRoom.Get":      func() error { _, err := room.Get("key", nil); return err },
		"InRoom.Delete":   func() error { _, err := room.Delete("key"); return err },
		"InRoom.Keys":     func() error { _, err := room.Keys(); return err },
		"InEventRoom":     func() error { return memory.InEventRoom(func(joe.Message) error { return nil })(joe.Message{}) },
		"Set permissions": func() error { return memory.Set("joe.permissions.x", nil) },
	} {
		err := use()
		require.ErrorIs(t, err, matrix.ErrClosed, op)
		var failure *matrix.Error
		require.ErrorAs(t, err, &failure, op)
	}
}

// A write that was accepted before Close, and has no answer by its own deadline,
// is told so.
func TestCloseGivesUp(t *testing.T) {
	rig.NoLeaks(t)
	r := behind(t, rig.Proxy(t), rig.Register(t), 6*time.Second, matrix.OneStateKey)
	r.Front.Inject(homeserver.Fault{Do: homeserver.BlackHole()})
	result := make(chan error, 1)
	go func() { result <- r.Set("tea", []byte(`"secret"`)) }()
	eventually(t, func() bool { return r.Writes() > 0 }, "the write")
	rig.Within(t, 2*r.Timeout+slack, "Close", func() { require.NoError(t, r.Close()) })
	err := <-result
	r.Failed(t, err, "set", "tea")
	require.ErrorIs(t, err, matrix.ErrUnknownOutcome)
}
