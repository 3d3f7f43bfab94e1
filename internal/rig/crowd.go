package rig

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
)

// Crowd opens memories of one new room, each behind a proxy and on an account of its
// own. What is done past the proxies is done by the room's owner, who is the first.
func Crowd(t testing.TB, on Server, n int, layout matrix.StateKey, options ...matrix.Option) []Proxied {
	t.Helper()
	return CrowdWith(t, on, n, layout, false, options...)
}

// CrowdWith is Crowd, in which each may have a journal.
func CrowdWith(t testing.TB, on Server, n int, layout matrix.StateKey, journals bool, options ...matrix.Option) []Proxied {
	t.Helper()
	owner, confs := Newcomers(t, on, n, layout)
	all := make([]Proxied, n)
	for i, conf := range confs {
		if journals {
			conf.Journal = Journal(t)
		}
		all[i] = Behind(t, on.Proxy(t), owner, conf, options...)
		if journals {
			require.FileExists(t, conf.Journal)
		}
	}
	return all
}

// WithAndWithoutJournals runs a test twice.
func WithAndWithoutJournals(t *testing.T, test func(t *testing.T, journals bool)) {
	t.Helper()
	for name, journals := range map[string]bool{"no journals": false, "journals": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, journals)
		})
	}
}

// Newcomers makes accounts, the settings of a memory for each, and a room in which all
// are, of which the first is the owner.
func Newcomers(t testing.TB, on Server, n int, layout matrix.StateKey) (owner Account, confs []matrix.Config) {
	t.Helper()
	accounts := make([]Account, n)
	shape := []RoomOption{Writable}
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

// NewOpsdroid is a program as opsdroid in a memory's room, on an account of its own.
func NewOpsdroid(t testing.TB, on Server, r Proxied, layout matrix.StateKey) Opsdroid {
	t.Helper()
	account := on.NewAccount(t)
	_, err := r.InviteUser(t.Context(), r.Room, &mautrix.ReqInviteUser{UserID: account.UserID})
	require.NoError(t, err)
	_, err = account.JoinRoomByID(t.Context(), r.Room)
	require.NoError(t, err)
	return Opsdroid{Account: account, Room: r.Room, Layout: layout}
}

// Fill lets all at once set keys of their own, each one after the other, and returns what
// then is to be there.
func Fill(t testing.TB, all []Proxied, keys int) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for i := range all {
		for k := range keys {
			want[fmt.Sprint(i, "-", k)] = `1`
		}
	}
	AtOnce(t, all, func(i int, r Proxied) error {
		for k := range keys {
			if err := r.Set(fmt.Sprint(i, "-", k), []byte(`1`)); err != nil {
				return err
			}
		}
		return nil
	})
	return want
}

// AtOnce lets all memories do something at the same moment, and returns when it is
// acknowledged.
func AtOnce(t testing.TB, all []Proxied, do func(i int, r Proxied) error) {
	t.Helper()
	errs := make([]error, len(all))
	start := make(chan struct{})
	var doing sync.WaitGroup
	for i, r := range all {
		doing.Go(func() {
			<-start
			errs[i] = do(i, r)
		})
	}
	close(start)
	doing.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}
