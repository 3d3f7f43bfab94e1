package test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// crowd opens memories of one new room, each behind a proxy and on an account of its
// own. What is done past the proxies is done by the room's owner, who is the first.
func crowd(t testing.TB, on rig.Server, n int, layout matrix.StateKey, options ...matrix.Option) []rig.Proxied {
	t.Helper()
	return crowdWith(t, on, n, layout, false, options...)
}

// crowdWith is crowd, in which each may have a journal.
func crowdWith(t testing.TB, on rig.Server, n int, layout matrix.StateKey, journals bool, options ...matrix.Option) []rig.Proxied {
	t.Helper()
	owner, confs := newcomers(t, on, n, layout)
	all := make([]rig.Proxied, n)
	for i, conf := range confs {
		if journals {
			conf.Journal = rig.Journal(t)
		}
		all[i] = rig.Behind(t, on.Proxy(t), owner, conf, options...)
		if journals {
			require.FileExists(t, conf.Journal)
		}
	}
	return all
}

// withAndWithoutJournals runs a test twice.
func withAndWithoutJournals(t *testing.T, test func(t *testing.T, journals bool)) {
	t.Helper()
	for name, journals := range map[string]bool{"no journals": false, "journals": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, journals)
		})
	}
}

// newcomers makes accounts, the settings of a memory for each, and a room in which all
// are, of which the first is the owner.
func newcomers(t testing.TB, on rig.Server, n int, layout matrix.StateKey) (owner rig.Account, confs []matrix.Config) {
	t.Helper()
	accounts := make([]rig.Account, n)
	shape := []rig.RoomOption{rig.Writable}
	for i := range accounts {
		accounts[i] = on.NewAccount(t)
		if i > 0 {
			shape = append(shape, accounts[i])
		}
	}
	room := accounts[0].NewRoom(t, shape...)
	for _, account := range accounts {
		conf := account.Config(room)
		conf.SingleStateKey, conf.Timeout = layout, 30*time.Second
		confs = append(confs, conf)
	}
	return accounts[0], confs
}

// opsdroid is a program as opsdroid in a memory's room, on an account of its own.
func opsdroid(t testing.TB, on rig.Server, r rig.Proxied, layout matrix.StateKey) rig.Opsdroid {
	t.Helper()
	account := on.NewAccount(t)
	_, err := r.InviteUser(t.Context(), r.Room, &mautrix.ReqInviteUser{UserID: account.UserID})
	require.NoError(t, err)
	_, err = account.JoinRoomByID(t.Context(), r.Room)
	require.NoError(t, err)
	return rig.Opsdroid{Account: account, Room: r.Room, Layout: layout}
}

// paused begins a write and returns once its request is paused, as [homeserver.PauseBefore]
// and its like do. release lets the request go on.
func paused(t testing.TB, front *homeserver.Proxy, pause func(chan<- struct{}, <-chan struct{}) homeserver.Action, write func() error) (release func(), result <-chan error) {
	t.Helper()
	reached, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Times: 1, Do: pause(reached, goOn)})
	go func() { ended <- write() }()
	select {
	case <-reached:
	case err := <-ended:
		require.FailNow(t, "the write has not come to the homeserver", "%v", err)
	}
	return func() { close(goOn) }, ended
}

// overtaken begins a write and lets something else happen before the homeserver sees
// it. Then it returns the write's result.
func overtaken(t testing.TB, r rig.Proxied, write func() error, by func()) error {
	t.Helper()
	release, result := paused(t, r.Front, homeserver.PauseBefore, write)
	by()
	release()
	return <-result
}

// latest returns the state event in which a key of the memory stands.
func latest(t testing.TB, r rig.Proxied, layout matrix.StateKey, key string) id.EventID {
	t.Helper()
	all, err := r.State(t.Context(), r.Room)
	require.NoError(t, err)
	stateKey := string(layout)
	if layout == matrix.PerKey {
		stateKey = key
	}
	require.Contains(t, all[rig.MemoryType], stateKey)
	return all[rig.MemoryType][stateKey].ID
}

// redact takes from an event what it holds.
func redact(t testing.TB, r rig.Proxied, event id.EventID) {
	t.Helper()
	_, err := r.RedactEvent(t.Context(), r.Room, event)
	require.NoError(t, err)
}

const (
	// settling is how long all may take until nobody has anything to put back any more.
	settling = 30 * time.Second
	// lasting is for how long what has settled is seen to stay.
	lasting = 500 * time.Millisecond
)

// settle waits until the room and all memories hold just that, and have for some time.
func settle(t testing.TB, want map[string]string, forTime time.Duration, all ...rig.Proxied) {
	t.Helper()
	settleBut(t, want, nil, forTime, all...)
}

// settleBut is like settle, whatever stands under some keys.
func settleBut(t testing.TB, want map[string]string, whatever []string, forTime time.Duration, all ...rig.Proxied) {
	t.Helper()
	compare := func(where string, want, got map[string]string) difference {
		for _, key := range whatever {
			delete(got, key)
		}
		return compare(where, want, got)
	}
	var differs difference
	var since time.Time
	rig.Eventually(settling)(t, func() bool {
		differs = compare("the room", want, all[0].Account.Entries(t, all[0].Room))
		for i, r := range all {
			differs += compare(fmt.Sprint("memory ", i), want, rig.Entries(t, r.Memory))
		}
		if differs != "" || since.IsZero() {
			since = time.Now()
		}
		return differs == "" && time.Since(since) >= forTime
	}, "the room and all memories hold what was acknowledged%v", &differs)
}

// A difference is shown as it is when it is printed, not as it was when it was handed over.
type difference string

func (d *difference) String() string { return string(*d) }

// compare says what is missing, too much or otherwise in one place.
func compare(where string, want, got map[string]string) (d difference) {
	var missing, tooMuch []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[key]; !ok {
			missing = append(missing, key)
		} else if value != want[key] {
			d += difference(fmt.Sprintf("\n%s has %s under %q, and not %s", where, value, key, want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			tooMuch = append(tooMuch, key)
		}
	}
	if missing != nil {
		d += difference(fmt.Sprintf("\n%s lacks %d of %d keys: %q", where, len(missing), len(want), missing))
	}
	if tooMuch != nil {
		d += difference(fmt.Sprintf("\n%s has, too much: %q", where, tooMuch))
	}
	return d
}

// fill lets all at once set keys of their own, each one after the other, and returns what
// then is to be there.
func fill(t testing.TB, all []rig.Proxied, keys int) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for i := range all {
		for k := range keys {
			want[fmt.Sprint(i, "-", k)] = `1`
		}
	}
	atOnce(t, all, func(i int, r rig.Proxied) error {
		for k := range keys {
			if err := r.Set(fmt.Sprint(i, "-", k), []byte(`1`)); err != nil {
				return err
			}
		}
		return nil
	})
	return want
}
