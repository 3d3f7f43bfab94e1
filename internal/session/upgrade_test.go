package session_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// joins matches requests to join a room.
func joins(r *http.Request) bool { return strings.Contains(r.URL.Path, "/join/") }

// lower lets everybody send a room's state events of a type.
func lower(t *testing.T, owner rig.Account, room id.RoomID, eventType event.Type) {
	t.Helper()
	var levels event.PowerLevelsEventContent
	require.NoError(t, owner.StateEvent(t.Context(), room, event.StatePowerLevels, "", &levels))
	levels.SetEventLevel(eventType, 0)
	_, err := owner.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", &levels)
	require.NoError(t, err)
}

// The bot follows where a room was upgraded, by the homeserver or by hand.
func TestFollow(t *testing.T) {
	for name, upgrade := range map[string]func(rig.Account, id.RoomID) id.RoomID{
		"upgrade": func(owner rig.Account, room id.RoomID) id.RoomID { return owner.Upgrade(t, room) },
		"by hand": func(owner rig.Account, room id.RoomID) id.RoomID { return owner.UpgradeByHand(t, room, rig.Public) },
	} {
		t.Run(name, func(t *testing.T) {
			bot, owner := rig.Register(t), rig.Register(t)
			room := owner.NewRoom(t, bot, rig.Public)
			c := connect(t, bot)
			none, err := c.Upgraded(t.Context(), room)
			require.NoError(t, err)
			require.Nil(t, none)
			old, maker, err := c.Predecessor(t.Context(), room)
			require.NoError(t, err)
			require.Empty(t, old)
			require.Equal(t, owner.UserID, maker)

			before := time.Now().Add(-time.Second)
			replacement := upgrade(owner, room)
			u, err := c.Upgraded(t.Context(), room)
			require.NoError(t, err)
			require.Equal(t, room, u.Old)
			require.Equal(t, replacement, u.New)
			require.Equal(t, owner.UserID, u.Tombstone.Sender)
			require.Greater(t, u.Tombstone.Timestamp, before.UnixMilli())
			require.False(t, c.HasFollowed(replacement))
			require.NoError(t, c.Follow(t.Context(), u))
			require.True(t, c.HasFollowed(replacement))
			require.True(t, bot.IsIn(t, replacement))
			old, maker, err = c.Predecessor(t.Context(), replacement)
			require.NoError(t, err)
			require.Equal(t, room, old)
			require.Equal(t, owner.UserID, maker)

			require.NoError(t, c.Follow(t.Context(), u), "it is there already")
			require.Equal(t, 1, c.count(joins))
		})
	}
}

// Who could not change a room's power levels leads the bot nowhere.
func TestUpgradeByWhoMayNot(t *testing.T) {
	bot, owner, mallory := rig.Register(t), rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot, mallory)
	lower(t, owner, room, event.StateTombstone)
	replacement := mallory.NewRoom(t, rig.Replacing(room))
	mallory.Bury(t, room, replacement)
	c := connect(t, bot)
	u, err := c.Upgraded(t.Context(), room)
	require.ErrorIs(t, err, session.ErrUntrusted)
	require.ErrorContains(t, err, mallory.UserID.String()+", who has sent the tombstone that names "+replacement.String()+", has power level 0, and to change the power levels takes 100")
	require.Equal(t, replacement, u.New)

	// Dendrite takes a tombstone that says the same for the one that stands.
	_, err = owner.SendStateEvent(t.Context(), room, event.StateTombstone, "", &event.TombstoneEventContent{Body: "So it is", ReplacementRoom: replacement})
	require.NoError(t, err)
	_, err = c.Upgraded(t.Context(), room)
	require.NoError(t, err)
}

// A room that does not say that it replaces the other is left again, unless the bot was there before.
func TestFollowIntoAnotherRoom(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room, other := owner.NewRoom(t, bot), owner.NewRoom(t, bot)
	unrelated, others := owner.NewRoom(t, rig.Public), owner.NewRoom(t, rig.Public, rig.Replacing(other))
	c := connect(t, bot)
	for replacement, why := range map[id.RoomID]string{
		unrelated: "does not say that it replaces a room",
		others:    "says that it replaces " + other.String(),
		other:     "does not say that it replaces a room",
	} {
		owner.Bury(t, room, replacement)
		u, err := c.Upgraded(t.Context(), room)
		require.NoError(t, err)
		require.Equal(t, replacement, u.New)
		err = c.Follow(t.Context(), u)
		require.ErrorIs(t, err, session.ErrUntrusted)
		require.ErrorContains(t, err, why)
		require.Equal(t, replacement == other, bot.IsIn(t, replacement))
	}
}

// What names no room, or the room itself, is no upgrade.
func TestNoUpgrade(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot)
	c := connect(t, bot)
	for _, content := range []string{
		`{}`,
		`{"replacement_room":"#alias:elsewhere.example"}`,
		`{"replacement_room":1}`,
		`{"replacement_room":"` + room.String() + `"}`,
	} {
		remove := c.Front.Inject(homeserver.Fault{Match: tombstones, Do: homeserver.Status(http.StatusOK, nil, content)})
		u, err := c.Upgraded(t.Context(), room)
		require.NoError(t, err, content)
		require.Nil(t, u, content)
		remove()
	}
	sent, err := owner.SendStateEvent(t.Context(), room, event.StateTombstone, "", map[string]any{"replacement_room": "!elsewhere:elsewhere.example"})
	require.NoError(t, err)
	u, err := c.Upgraded(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, id.RoomID("!elsewhere:elsewhere.example"), u.New)
	_, err = owner.RedactEvent(t.Context(), room, sent.EventID)
	require.NoError(t, err)
	eventually(t, func() bool {
		u, err = c.Upgraded(t.Context(), room)
		require.NoError(t, err)
		return u == nil
	}, "a redacted tombstone counts")
}

// tombstones matches questions for a room's tombstone.
func tombstones(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/state/"+event.StateTombstone.Type)
}

// Into a room for which it needs an invitation, the bot follows once it has it.
func TestFollowWhenInvited(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot)
	replacement := owner.UpgradeByHand(t, room)
	c := connect(t, bot)
	u, err := c.Upgraded(t.Context(), room)
	require.NoError(t, err)
	err = c.Follow(t.Context(), u)
	require.True(t, session.IsStatus(err, http.StatusForbidden), err)
	require.ErrorContains(t, err, "joining "+replacement.String()+", which replaces the room: invite the bot there")
	owner.InviteTo(t, replacement, bot)
	require.NoError(t, c.Follow(t.Context(), u))
	require.True(t, bot.IsIn(t, replacement))
}

// However many follow at the same time, the bot joins once; and who has no time left waits for nobody.
func TestFollowAtTheSameTime(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot, rig.Public)
	owner.Upgrade(t, room)
	c := connect(t, bot)
	u, err := c.Upgraded(t.Context(), room)
	require.NoError(t, err)
	reached, release := make(chan struct{}), make(chan struct{})
	c.Front.Inject(homeserver.Fault{Match: joins, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	var following sync.WaitGroup
	errs := make(chan error, 5)
	for range cap(errs) {
		following.Go(func() { errs <- c.Follow(t.Context(), u) })
	}
	<-reached
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Follow(ctx, u), context.DeadlineExceeded)
	close(release)
	following.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, c.count(joins))
}

// The servers that know the room are named, the bot's own and those that no ID names left out.
func TestFollowByTheServersThatKnowTheRoom(t *testing.T) {
	bot := rig.Register(t)
	c := connect(t, bot)
	for _, test := range []struct {
		upgrade session.Upgrade
		via     []string
	}{
		{session.Upgrade{Old: "!old:a.example", New: "!new:b.example", Tombstone: &event.Event{Sender: "@owner:c.example:8448"}}, []string{"c.example:8448", "b.example", "a.example"}},
		{session.Upgrade{Old: "!old:a.example", New: "!new", Tombstone: &event.Event{Sender: "@owner:a.example"}}, []string{"a.example"}},
		{session.Upgrade{Old: id.RoomID("!old:" + rig.Shared(t).Name()), New: "!hash", Tombstone: &event.Event{Sender: bot.UserID}}, nil},
	} {
		var asked http.Request
		c.Front.Inject(homeserver.Fault{Match: joins, Times: 1, Do: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			asked = *r
			homeserver.Status(http.StatusForbidden, nil, `{"errcode":"M_FORBIDDEN","error":"no"}`)(w, r, nil)
		}})
		require.Error(t, c.Follow(t.Context(), &test.upgrade))
		require.Equal(t, test.via, asked.URL.Query()["via"])
		require.Equal(t, test.via, asked.URL.Query()["server_name"])
	}
}

// Who may upgrade a room is who can change its power levels, also where these are strings, there are none,
// or creators stand above them. No homeserver of the tests has such rooms, so the proxy answers for it.
func TestWhoMayUpgrade(t *testing.T) {
	bot, owner := rig.Register(t), rig.Register(t)
	room := owner.NewRoom(t, bot)
	c := connect(t, bot)
	answer := func(eventType event.Type, code int, body string) (remove func()) {
		return c.Front.Inject(homeserver.Fault{Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/state/"+eventType.Type) }, Do: homeserver.Status(code, nil, body)})
	}
	answer(event.StateTombstone, http.StatusOK, `{"replacement_room":"!hash","type":"m.room.tombstone","state_key":"","sender":"@sender:x","content":{"replacement_room":"!hash"}}`)
	const (
		made   = `{"type":"m.room.create","state_key":"","sender":"@maker:x","content":{"room_version":"10","creator":"@maker:x"}}`
		made12 = `{"type":"m.room.create","state_key":"","sender":"@maker:x","content":{"room_version":"12"}}`
	)
	for name, test := range map[string]struct {
		create, levels string // "": there are none
		may            bool
	}{
		"enough":             {made, `{"users":{"@sender:x":50}}`, true},
		"not enough":         {made, `{"users":{"@sender:x":50},"events":{"m.room.power_levels":51,"m.room.tombstone":0}}`, false},
		"all may":            {made, `{"state_default":0}`, true},
		"by default":         {made, `{"users_default":50}`, true},
		"strings":            {made, `{"users":{"@sender:x":" 100 "},"events":{"m.room.power_levels":"100"}}`, true},
		"low strings":        {made, `{"users":{"@sender:x":"99"},"events":{"m.room.power_levels":"100"}}`, false},
		"no levels":          {made, "", false},
		"no levels, creator": {strings.ReplaceAll(made, "maker", "sender"), "", true},
		"creator, demoted":   {strings.ReplaceAll(made, "maker", "sender"), `{}`, false},
		"12, creator":        {strings.ReplaceAll(made12, "maker", "sender"), `{"events":{"m.room.power_levels":150}}`, true},
		"12, another":        {made12, `{"users":{"@sender:x":100},"events":{"m.room.power_levels":150}}`, false},
		"12, creator too":    {strings.Replace(made12, `"12"`, `"12","additional_creators":["@sender:x"]`, 1), `{"events":{"m.room.power_levels":150}}`, true},
		"malformed create":   {strings.Replace(made, `"10"`, "10", 1), `{"users":{"@sender:x":50}}`, true},
	} {
		code := http.StatusOK
		if test.levels == "" {
			code, test.levels = http.StatusNotFound, `{"errcode":"M_NOT_FOUND","error":"none"}`
		}
		create, levels := answer(event.StateCreate, http.StatusOK, test.create), answer(event.StatePowerLevels, code, test.levels)
		u, err := c.Upgraded(t.Context(), room)
		create()
		levels()
		require.Equal(t, id.RoomID("!hash"), u.New, name)
		if test.may {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, session.ErrUntrusted, name)
		}
	}
}

// Right after a join a homeserver may not give a room's first event yet. Since room version 12 it names
// no event of the predecessor.
func TestPredecessorThatComesLater(t *testing.T) {
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	c := connect(t, bot)
	creates := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/state/"+event.StateCreate.Type) }
	c.Front.Inject(homeserver.Fault{Match: creates, Times: 2, Do: homeserver.Status(http.StatusNotFound, nil, `{"errcode":"M_NOT_FOUND","error":"not yet"}`)})
	_, maker, err := c.Predecessor(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, bot.UserID, maker)
	require.Equal(t, 3, c.count(creates))
	c.Front.Inject(homeserver.Fault{Match: creates, Do: homeserver.Status(http.StatusOK, nil, `{"type":"m.room.create","state_key":"","sender":"@maker:x","content":{"room_version":"12","predecessor":{"room_id":"!old"}}}`)})
	old, maker, err := c.Predecessor(t.Context(), "!new")
	require.NoError(t, err)
	require.Equal(t, []string{"!old", "@maker:x"}, []string{old.String(), maker.String()})
}
