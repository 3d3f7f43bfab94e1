package test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// fillDisk makes the disk of a journal that is open full: what this process has open as that file
// is /dev/full from now on.
func fillDisk(t testing.TB, path string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	defer full.Close()
	open, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	found := false
	for _, link := range open {
		if to, err := os.Readlink(link); err == nil && to == path {
			var fd int
			for _, digit := range filepath.Base(link) {
				fd = 10*fd + int(digit-'0')
			}
			require.NoError(t, syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC))
			found = true
		}
	}
	require.True(t, found, "%s is open", path)
}

// The disk is full. What is set from then on waits for the homeserver, and what the journal holds
// waits for the next start: Flush says so at once. Where the homeserver does not answer either, the
// outcome is unknown.
func TestJournalFails(t *testing.T) {
	front := rig.Proxy(t)
	bot := rig.Register(t)
	home := bot.NewRoom(t)
	conf := rig.Journalled(t, front, bot, home, matrix.OneStateKey)
	conf.Timeout = 10 * slack
	memory := rig.Open(t, conf)
	remove := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	fillDisk(t, conf.Journal)
	room := memory.InRoom(home.String())
	ctx, cancel := context.WithTimeout(t.Context(), slack)
	defer cancel()
	require.ErrorIs(t, room.WithContext(ctx).Set("milk", 1), matrix.ErrUnknownOutcome)
	rig.Within(t, slack, "Flush", func() { require.ErrorContains(t, memory.Flush(t.Context()), "the journal failed") })
	remove()
	require.NoError(t, memory.Set("coffee", []byte(`1`)))
	require.Equal(t, `1`, bot.Entries(t, home)["coffee"])
	require.FileExists(t, conf.Journal+".failed")

	memory = rig.Reopened(t, memory, conf)
	rig.Flush(t, memory, rig.Delivering)
	held := bot.Entries(t, home)
	require.Equal(t, `1`, held["tea"])
	require.Equal(t, `1`, held["coffee"])
}

// The disk is full, and the file can't be renamed, so that a start takes it for sound. So no key
// is written that it may hold a change of, nothing of it is delivered but what was under way, and others' keys are.
func TestJournalFailsInPlace(t *testing.T) {
	front := rig.Proxy(t)
	bot := rig.Register(t)
	home := bot.NewRoom(t)
	conf := rig.Journalled(t, front, bot, home, matrix.OneStateKey)
	memory := rig.Open(t, conf)
	remove := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	require.NoError(t, os.MkdirAll(filepath.Join(conf.Journal+".failed", "in the way"), 0o700))
	fillDisk(t, conf.Journal)
	require.ErrorIs(t, memory.Set("milk", []byte(`1`)), matrix.ErrUnknownOutcome)
	remove()
	for _, key := range []string{"tea", "milk"} {
		err := memory.Set(key, []byte(`2`))
		require.ErrorContains(t, err, conf.Journal, key)
		require.NotErrorIs(t, err, matrix.ErrUnknownOutcome, key)
	}
	require.NoError(t, memory.Set("coffee", []byte(`1`)))
	rig.Within(t, slack, "Flush", func() { require.ErrorContains(t, memory.Flush(t.Context()), "could not be renamed") })
	held := bot.Entries(t, home)
	if held["tea"] == `1` { // it was under way
		delete(held, "tea")
	}
	require.Equal(t, map[string]string{"coffee": `1`}, held)

	require.NoError(t, memory.Close())
	require.NoError(t, os.RemoveAll(conf.Journal+".failed"))
	memory = rig.Open(t, conf)
	rig.Flush(t, memory, rig.Delivering)
	held = bot.Entries(t, home)
	require.Equal(t, `1`, held["tea"])
	require.Equal(t, `1`, held["coffee"])
}

// The journal fails while it holds changes. What is set and deleted through after that is later than all
// that its file holds: no start brings that back, whatever the room held before.
func TestNothingOfAFailedJournalComesBack(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			front := rig.Proxy(t)
			bot := rig.Register(t)
			home := bot.NewRoom(t)
			conf := rig.Journalled(t, front, bot, home, layout)
			memory := rig.Open(t, conf)
			for _, key := range []string{"deleted before", "set before", "set back", "no UTF-8: \xff"} {
				require.NoError(t, memory.Set(key, []byte(`1`)))
			}
			rig.Flush(t, memory, rig.Delivering)
			_, err := memory.Delete("deleted before")
			require.NoError(t, err)
			rig.Flush(t, memory, rig.Delivering)

			remove := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
			for _, key := range []string{"deleted before", "set before", "set back", "no UTF-8: \xff", "new", "newer", "kept", "told"} {
				require.NoError(t, memory.Set(key, []byte(`2`)))
			}
			fillDisk(t, conf.Journal)
			remove()
			require.NoError(t, memory.Set("fails", []byte(`2`)))
			require.NoError(t, memory.Set("fails", []byte(`3`)))
			require.NoError(t, memory.Set("set before", []byte(`3`)))
			require.NoError(t, memory.Set("set back", []byte(`1`)))
			require.NoError(t, memory.Set("no UTF-8: \xff", []byte(`1`)))
			require.NoError(t, memory.Set("newer", []byte(`3`)))
			for _, key := range []string{"deleted before", "new"} {
				was, err := memory.Delete(key)
				require.NoError(t, err)
				require.True(t, was)
			}
			noted := front.Inject(homeserver.Fault{Do: rig.Forbidden, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/account_data/") }})
			err = memory.Set("told", []byte(`3`))
			require.ErrorIs(t, err, matrix.ErrUnknownOutcome, "the next start would deliver what the file holds")
			require.ErrorContains(t, err, "the next start")
			noted()
			require.NoError(t, memory.Set("told", []byte(`3`)))
			want := map[string]string{"told": `3`, "set before": `3`, "set back": `1`, "no UTF-8: \xff": `1`, "newer": `3`, "kept": `2`, "fails": `3`}
			require.Equal(t, want, rig.Entries(t, memory))

			memory = rig.Reopened(t, memory, conf)
			rig.Flush(t, memory, rig.Delivering)
			require.Equal(t, want, rig.Entries(t, memory))
			delete(want, "no UTF-8: \xff")
			want["dev.joe.key:bm8gVVRGLTg6IP8="] = `1` // its name in the room
			require.Equal(t, want, bot.Entries(t, home))
		})
	}
}

// All that a failed journal held was written through since. The next start finds that out while somebody waits in
// Flush, who has nothing more to wait for then.
func TestFlushWhileAllIsFoundOutdated(t *testing.T) {
	front := rig.Proxy(t)
	bot := rig.Register(t)
	home := bot.NewRoom(t)
	conf := rig.Journalled(t, front, bot, home, matrix.PerKey)
	memory := rig.Open(t, conf)
	remove := front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Page(502)})
	require.NoError(t, memory.Set("tea", []byte(`1`)))
	fillDisk(t, conf.Journal)
	remove()
	require.NoError(t, memory.Set("fails", []byte(`1`)))
	require.NoError(t, memory.Set("tea", []byte(`2`)))

	reached, release := make(chan struct{}), make(chan struct{})
	accountData := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/account_data/") }
	front.Inject(homeserver.Fault{Match: accountData, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	memory = rig.Reopened(t, memory, conf)
	<-reached
	ctx, cancel := context.WithTimeout(t.Context(), rig.Delivering)
	defer cancel()
	flushed := make(chan error, 1)
	go func() { flushed <- memory.Flush(ctx) }()
	require.Equal(t, 1, memory.Pending().Changes)
	close(release)
	require.NoError(t, <-flushed)
	require.Equal(t, matrix.Pending{}, memory.Pending())
	require.Equal(t, map[string]string{"tea": `2`, "fails": `1`}, bot.Entries(t, home))
}

// The disk gets full while the homeserver is away, and a room was set that the bot never looked into. What was
// acknowledged wins over what was there before all that, as it would have without the failure, and stays
// what it is once it was set again.
func TestJournalFailsWithWhatWasSetBlindly(t *testing.T) {
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			front := rig.Proxy(t)
			bot, others := neighbours(t, layout)
			alias := others.NewAlias(t, others.Room).String()
			conf := rig.Journalled(t, front, bot, bot.NewRoom(t), layout)
			conf.Rooms["found"] = alias
			memory := rig.Open(t, conf)
			require.NoError(t, memory.Set("tea", []byte(`1`)))
			rig.Flush(t, memory, rig.Delivering)
			for _, key := range []string{"kept", "set again"} {
				require.NoError(t, others.Put(t.Context(), key, theirs))
			}
			require.NoError(t, memory.Close())

			online := rig.Offline(front)
			memory = rig.Open(t, conf)
			found := memory.InRoom("found")
			require.NoError(t, found.Set("kept", "ours"))
			require.NoError(t, found.Set("set again", "ours"))
			fillDisk(t, conf.Journal)
			ctx, cancel := context.WithTimeout(t.Context(), slack)
			defer cancel()
			require.ErrorIs(t, found.WithContext(ctx).Set("fails", 1), matrix.ErrUnknownOutcome)
			online()
			rig.Delivers(t, func() bool { return found.Set("set again", "later") == nil }, "the homeserver is back")

			memory = rig.Reopened(t, memory, conf)
			rig.Flush(t, memory, rig.Delivering)
			held := others.Entries(t, others.Room)
			require.Equal(t, ours, held["kept"])
			require.Equal(t, `"later"`, held["set again"])
		})
	}
}
