package room_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// What was never loaded is an error while the homeserver is away, which says so, for all who ask.
// Then all is loaded, the rooms of the settings are joined, and an alias leads to where it does by
// now.
func TestRoomsBehind(t *testing.T) {
	rig.NoLeaks(t)
	account, friend := rig.Register(t), rig.Register(t)
	before, now, invited := account.NewRoom(t), account.NewRoom(t), friend.NewRoom(t)
	_, err := friend.InviteUser(t.Context(), invited, &mautrix.ReqInviteUser{UserID: account.UserID})
	require.NoError(t, err)
	alias := account.NewAlias(t, now).String()
	account.Put(t, before, "", map[string]string{"tea": "green"})
	account.Put(t, now, "", map[string]string{"tea": "black"})
	front := rig.Proxy(t)
	back := front.Inject(homeserver.Fault{Do: homeserver.ResetBefore()})

	log, kept := rig.KeepLog()
	connection := session.New(session.NewClient(), false)
	rooms := room.New(room.Env{Session: connection, EventType: rig.MemoryType, Layout: wire.Layout{}, Timeout: 15 * time.Second, Log: log})
	require.NoError(t, connection.OpenBehind(session.Options{
		Homeserver: front.URL(), AccessToken: account.AccessToken, Names: []string{alias, invited.String()},
		Types: rooms.Types(), Recent: rig.MemoryType, Update: rooms.Update, Anew: rooms.Anew, Timeout: rooms.Timeout, Log: log,
	}, session.Known{User: account.UserID, Aliases: map[string]id.RoomID{alias: before}}))
	shut := func() {
		ctx, cancel := context.WithTimeout(context.Background(), rooms.Timeout)
		defer cancel()
		rooms.Close(ctx)
		connection.Close()
	}
	defer shut()
	rooms.JoinAll()

	for _, name := range []string{alias, alias, "#unknown:localhost"} {
		rig.Within(t, rooms.Timeout/2, "Find", func() {
			_, err := rooms.Find(t.Context(), name)
			require.ErrorContains(t, err, "the homeserver could not be reached since", "and nobody waits for it")
			require.NotErrorIs(t, err, room.ErrUnknownRoom)
		})
	}
	back()
	eventually(t, func() bool { _, err := rooms.Find(t.Context(), before.String()); return err == nil }, "it is back")
	r, err := rooms.Find(t.Context(), before.String())
	require.NoError(t, err)
	requireValue(t, r, "tea", `"green"`)
	eventually(t, func() bool { r, err := rooms.Find(t.Context(), alias); return err == nil && r.ID() == now }, "the alias leads elsewhere")
	r, err = rooms.Find(t.Context(), alias)
	require.NoError(t, err)
	requireValue(t, r, "tea", `"black"`)
	require.NoError(t, r.Set(budget(t), "tea", []byte(`"white"`)))
	eventually(t, func() bool {
		var member event.MemberEventContent
		err := account.StateEvent(t.Context(), invited, event.StateMember, account.UserID.String(), &member)
		return err == nil && member.Membership == event.MembershipJoin
	}, "it joins the rooms of the settings")
	require.NotContains(t, kept.String(), "Could not join")
}
