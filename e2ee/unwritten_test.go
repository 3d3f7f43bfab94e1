//go:build goolm

package e2ee_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A store that can't be written, be its disk full or not to be written, is said to be so.
// Nothing goes out meanwhile that is not stored or that somebody could not read, and once
// the store can be written again, the bot goes on.
func TestStoreThatCannotBeWritten(t *testing.T) {
	for _, fault := range []struct{ name, breaks, mends, says string }{
		{"disk full", "max_page_count = 1", "max_page_count = 1000000", "database or disk is full"},
		{"read-only", "query_only = ON", "query_only = OFF", "readonly database"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			bot := register(t)
			room := bot.newRoom(t)
			conf := bot.config(t, room)
			memory := open(t, conf)
			require.NoError(t, memory.Set("key", []byte(`0`)))
			require.NoError(t, e2ee.SetPragma(memory.Client(), fault.breaks))

			var members []*peer
			var last string
			var err error
			for n := 1; err == nil; n++ { // what is there of pages takes a few sessions still
				require.Less(t, n, 12, "the store does not fail")
				member := newPeer(t, register(t))
				members = append(members, member)
				_, inviteErr := bot.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: member.UserID})
				require.NoError(t, inviteErr)
				_, joinErr := member.JoinRoomByID(t.Context(), room)
				require.NoError(t, joinErr)
				before := sessionOf(t, bot, room)
				eventually(t, func() bool {
					last = fmt.Sprint(n)
					err = memory.Set("key", []byte(last))
					return err != nil || sessionOf(t, bot, room) != before
				}, "the key stays the same when a member comes")
			}
			require.ErrorContains(t, err, "keys.db can't be written")
			require.ErrorContains(t, err, fault.says)
			require.ErrorContains(t, err, "space")
			require.ErrorContains(t, err, "goes on without a restart")
			require.ErrorContains(t, memory.Set("key", []byte(`"again"`)), fault.says)
			t.Logf("%v", err)

			require.NoError(t, e2ee.SetPragma(memory.Client(), fault.mends))
			require.NoError(t, memory.Set("key", []byte(`"mended"`)))
			for _, member := range members {
				member.decrypt(t, room, bot.pointers(t, room)["key"])
			}
			require.NoError(t, memory.Close())
			memory = open(t, conf)
			rig.Has(t, memory, "key", `"mended"`)
			require.NoError(t, memory.Close())
		})
	}
}

// sessionOf returns the session of the value that a key has.
func sessionOf(t *testing.T, bot account, room id.RoomID) id.SessionID {
	t.Helper()
	evt, err := bot.GetEvent(t.Context(), room, bot.pointers(t, room)["key"])
	require.NoError(t, err)
	require.NoError(t, evt.Content.ParseRaw(evt.Type))
	return evt.Content.AsEncrypted().SessionID
}

// A start that can't write the store fails. It does not go on by itself.
func TestStartThatCannotWriteTheStore(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	require.NoError(t, open(t, conf).Close())
	db, err := sql.Open("sqlite", filepath.Join(conf.StorePath, "keys.db"))
	require.NoError(t, err)
	_, err = db.Exec(`UPDATE matrix_memory SET device_id = '';
		CREATE TRIGGER full BEFORE UPDATE ON matrix_memory BEGIN SELECT RAISE(FAIL, 'no more space'); END`)
	require.NoError(t, errors.Join(err, db.Close()))
	err = refuse(t, conf)
	require.ErrorContains(t, err, "keys.db can't be written")
	require.NotContains(t, err.Error(), "without a restart")
}
