package adapter_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/adapter"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// A follower is a bot whose rooms are upgraded, and what it heard.
type follower struct {
	*bot
	setup    setup
	told     record[adapter.UpgradeEvent]
	invited  record[adapter.InvitationEvent]
	messages record[joe.ReceiveMessageEvent]
	mu       sync.Mutex
	order    []string // of kinds of events, and rooms
}

func (f *follower) note(kind, room string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = append(f.order, kind+" "+room)
}

// startFollower starts a bot to whose rooms nobody may invite it, but for the settings.
func startFollower(t *testing.T, s setup) *follower {
	f := &follower{}
	s.options = append([]adapter.Option{adapter.WithInvitesFrom()}, s.options...)
	s.handlers = func(b *bot) {
		b.Brain.RegisterHandler(func(evt adapter.UpgradeEvent) {
			f.note("upgrade", evt.Channel)
			f.told.add(evt)
		})
		b.Brain.RegisterHandler(f.invited.add)
		b.Brain.RegisterHandler(func(evt joe.ReceiveMessageEvent) {
			f.note("message", evt.Channel)
			f.messages.add(evt)
		})
	}
	f.setup = s
	f.bot = start(t, s)
	return f
}

// again starts the bot again.
func (f *follower) again(t *testing.T) {
	t.Helper()
	f.stop()
	f.bot = start(t, f.setup)
}

// The bot follows where a room that it is in was upgraded, and its handlers are told so before
// they hear anything from there; once, and not at the next start.
func TestFollowsUpgrades(t *testing.T) {
	const body = "This room has been replaced"
	for name, test := range map[string]struct {
		rooms   []rig.RoomOption
		upgrade func(t *testing.T, alice person, room id.RoomID, robot person) id.RoomID
		invited bool
	}{
		"public, upgrade": {[]rig.RoomOption{rig.Public}, func(t *testing.T, alice person, room id.RoomID, _ person) id.RoomID {
			return alice.Upgrade(t, room)
		}, false},
		"public, by hand": {nil, func(t *testing.T, alice person, room id.RoomID, _ person) id.RoomID {
			return alice.UpgradeByHand(t, room, rig.Public)
		}, false},
		"private, upgrade": {nil, func(t *testing.T, alice person, room id.RoomID, robot person) id.RoomID {
			replacement := alice.Upgrade(t, room)
			alice.InviteTo(t, replacement, robot.Account)
			return replacement
		}, true},
		"private, by hand": {nil, func(t *testing.T, alice person, room id.RoomID, robot person) id.RoomID {
			replacement := alice.UpgradeByHand(t, room)
			alice.InviteTo(t, replacement, robot.Account)
			return replacement
		}, true},
		"private, by hand, invited first": {nil, func(t *testing.T, alice person, room id.RoomID, robot person) id.RoomID {
			return alice.UpgradeByHand(t, room, rig.Invited(robot.Account))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			robot, alice := register(t), register(t)
			room := alice.newRoom(t, append(test.rooms, robot.Account)...)
			f := startFollower(t, setup{user: robot})
			alice.say(t, room, "one")
			f.messages.wait(t, 1)

			replacement := test.upgrade(t, alice, room, robot)
			eventually(t, func() bool { return robot.IsIn(t, replacement) }, "the bot does not follow")
			alice.say(t, replacement, "two")
			f.messages.wait(t, 2)
			told := f.told.wait(t, 1)[0]
			require.Equal(t, []string{"message " + room.String(), "upgrade " + replacement.String(), "message " + replacement.String()}, f.order)
			require.Equal(t, room.String(), told.OldChannel)
			require.Equal(t, alice.UserID.String(), told.AuthorID)
			require.Equal(t, event.StateTombstone, told.Data.Type)
			if strings.Contains(name, "by hand") {
				require.Equal(t, body, told.Text)
			}
			if test.invited {
				require.True(t, f.invited.wait(t, 1)[0].Joined)
			}
			f.again(t)
			alice.say(t, replacement, "three")
			f.messages.wait(t, 3)
			f.stop()
			require.Len(t, f.told.list(), 1)
		})
	}
}

// Where the bot may not join, the log says once what to do.
func TestFollowsOnceInvited(t *testing.T) {
	robot, alice, bob := register(t), register(t), register(t)
	room := alice.newRoom(t, robot.Account)
	f := startFollower(t, setup{user: robot})
	replacement := alice.UpgradeByHand(t, room, bob.Account)
	eventually(t, func() bool { return strings.Contains(f.log.String(), "invite it there") }, "nothing is said")
	require.Len(t, f.log.Lines("level=warning", "invite"), 1)
	require.Contains(t, f.log.String(), "joining "+replacement.String()+", which replaces the room: invite the bot there")
	require.Empty(t, f.told.list())
	bob.InviteTo(t, replacement, robot.Account)
	require.Equal(t, replacement.String(), f.told.wait(t, 1)[0].Channel)
	require.True(t, f.invited.wait(t, 1)[0].Joined)
	require.NotContains(t, f.log.String(), "has rejected")
}

// Who could not change the power levels leads the bot nowhere, nor does a room that does not say what
// it replaces; and an invitation there is one like any other.
func TestFollowsNobodyWhoMayNot(t *testing.T) {
	robot, alice, mallory := register(t), register(t), register(t)
	room := alice.newRoom(t, robot.Account, mallory.Account)
	other := alice.newRoom(t, robot.Account)
	alice.allow(t, room, event.StateTombstone)
	f := startFollower(t, setup{user: robot})

	replacement := mallory.UpgradeByHand(t, room, rig.Public)
	eventually(t, func() bool { return len(f.log.Lines("level=warning", room.String(), "not to be trusted")) == 1 }, "nothing is said")
	mallory.InviteTo(t, replacement, robot.Account)
	require.False(t, f.invited.wait(t, 1)[0].Joined)
	require.Contains(t, f.log.String(), "has rejected")

	unrelated := alice.newRoom(t, rig.Public)
	alice.Bury(t, other, unrelated)
	eventually(t, func() bool { return len(f.log.Lines("level=warning", other.String(), "not to be trusted")) == 1 }, "nothing is said")
	require.False(t, robot.IsIn(t, replacement))
	require.False(t, robot.IsIn(t, unrelated))
	require.Empty(t, f.told.list())
}

// With follow_upgrades: false the bot stays.
func TestDoesNotFollow(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot.Account, rig.Public)
	f := startFollower(t, setup{user: robot, config: func(conf *matrix.Config) { conf.FollowUpgrades = matrix.Off }})
	replacement := alice.UpgradeByHand(t, room, rig.Public)
	alice.say(t, room, "after it")
	f.messages.wait(t, 1)
	alice.InviteTo(t, replacement, robot.Account)
	require.False(t, f.invited.wait(t, 1)[0].Joined)
	f.stop()
	require.False(t, robot.IsIn(t, replacement))
	require.Empty(t, f.told.list())
}

// What was upgraded while the bot was down, also several times, it catches up with, and tells once.
func TestFollowsWhatWasUpgradedMeanwhile(t *testing.T) {
	robot, alice := register(t), register(t)
	first := alice.newRoom(t, robot.Account, rig.Public)
	f := startFollower(t, setup{user: robot})
	f.stop()
	second := alice.Upgrade(t, first)
	third := alice.UpgradeByHand(t, second, rig.Public)
	fourth := alice.UpgradeByHand(t, third, rig.Public)
	for range 60 { // more than the first sync brings of a room
		alice.say(t, first, "nobody is here any more")
	}
	f.again(t)
	var channels []string
	for _, told := range f.told.wait(t, 3) {
		channels = append(channels, told.Channel)
	}
	require.Equal(t, []string{second.String(), third.String(), fourth.String()}, channels)
	alice.say(t, fourth, "hello")
	f.messages.wait(t, 1)
	f.again(t)
	alice.say(t, fourth, "hello again")
	f.messages.wait(t, 2)
	f.stop()
	require.Len(t, f.told.list(), 3)
	require.Len(t, f.messages.list(), 2)
	// A room that it is called into though it is dead is nothing new.
	dead := alice.newRoom(t)
	alice.Bury(t, dead, fourth)
	f.setup.options = append(f.setup.options, adapter.WithInvitesFromAnyone())
	f.again(t)
	before := len(f.invited.list())
	alice.InviteTo(t, dead, robot.Account)
	require.True(t, f.invited.wait(t, before+1)[before].Joined)
	alice.say(t, dead, "is anybody here?")
	f.messages.wait(t, 3)
	f.stop()
	require.Len(t, f.told.list(), 3)
}

// Where the memory follows as well, the bot is told once.
func TestFollowsWithTheMemory(t *testing.T) {
	for name, down := range map[string]bool{"running": false, "down": true} {
		t.Run(name, func(t *testing.T) {
			robot, alice := register(t), register(t)
			home := alice.newRoom(t, robot.Account, rig.Public)
			f := startFollower(t, setup{user: robot, home: home})
			require.NoError(t, f.Store.Set("tea", "green"))
			if down {
				f.stop()
			}
			replacement := alice.UpgradeByHand(t, home, rig.Public, rig.Writable)
			if down {
				f.again(t)
			}
			f.told.wait(t, 1)
			eventually(t, func() bool { return alice.Entries(t, replacement)["tea"] != "" }, "the memory does not follow")
			alice.say(t, replacement, "hello")
			f.messages.wait(t, 1)
			f.stop()
			require.Len(t, f.told.list(), 1)
		})
	}
}

// On a program's own client, which goes on from a token or begins anew, the bot is told once as well.
func TestFollowsOnAnOwnClient(t *testing.T) {
	for name, resumed := range map[string]bool{"resumed": true, "anew": false} {
		t.Run(name, func(t *testing.T) {
			robot, alice := register(t), register(t)
			home := alice.newRoom(t, robot.Account, rig.Public)
			client, err := mautrix.NewClient(rig.Shared(t).URL(), robot.UserID, robot.AccessToken)
			require.NoError(t, err)
			if resumed {
				response, err := client.FullSyncRequest(t.Context(), mautrix.ReqSync{})
				require.NoError(t, err)
				require.NoError(t, client.Store.SaveNextBatch(t.Context(), robot.UserID, response.NextBatch))
			}
			replacement := alice.UpgradeByHand(t, home, rig.Public, rig.Writable)
			f := startFollower(t, setup{user: robot, home: home, memory: []matrix.Option{matrix.WithClient(client)}})
			eventually(t, func() bool { return robot.IsIn(t, replacement) }, "the memory does not follow")
			ctx, cancel := context.WithCancel(t.Context())
			var syncing sync.WaitGroup
			syncing.Go(func() { _ = client.SyncWithContext(ctx) })
			defer syncing.Wait()
			defer cancel()
			require.Equal(t, replacement.String(), f.told.wait(t, 1)[0].Channel)
			alice.say(t, replacement, "hello")
			f.messages.wait(t, 1)
			f.stop()
			require.Len(t, f.told.list(), 1)
		})
	}
}

// An invitation to a room that only says itself that it replaces one is neither accepted nor rejected;
// one to a room that is not the one that replaces it is rejected.
func TestInvitedToWhatMayReplaceARoom(t *testing.T) {
	robot, alice, mallory := register(t), register(t), register(t)
	room, upgraded, strange := alice.newRoom(t, robot.Account), alice.newRoom(t, robot.Account, rig.Public), alice.newRoom(t)
	f := startFollower(t, setup{user: robot})
	alice.UpgradeByHand(t, upgraded, rig.Public)
	f.told.wait(t, 1)
	claims := make(map[string]bool) // whether the invitation stands
	for old, stands := range map[id.RoomID]bool{room: true, upgraded: false, strange: false} {
		claims[mallory.newRoom(t, rig.Replacing(old), rig.Invited(robot.Account)).String()] = stands
	}
	for _, evt := range f.invited.wait(t, 3) {
		require.False(t, evt.Joined)
	}
	f.stop()
	response, err := robot.FullSyncRequest(t.Context(), mautrix.ReqSync{})
	require.NoError(t, err)
	for claim, stands := range claims {
		_, found := response.Rooms.Invite[id.RoomID(claim)]
		require.Equal(t, stands, found)
	}
	require.Len(t, f.told.list(), 1)
}

// Where a homeserver can't join for a while, the bot tries again.
func TestFollowsLater(t *testing.T) {
	t.Cleanup(adapter.FollowAgain(time.Second))
	robot, alice, proxy := register(t), register(t), rig.Proxy(t)
	room := alice.newRoom(t, robot.Account, rig.Public)
	f := startFollower(t, setup{user: robot, homeserver: proxy.URL(), config: func(conf *matrix.Config) { conf.Timeout = 2 * time.Second }})
	t.Cleanup(f.stop)
	repair := proxy.Inject(homeserver.Fault{Match: joins, Do: homeserver.Status(http.StatusBadGateway, nil, `{"errcode":"M_UNKNOWN","error":"no server can be reached"}`)})
	replacement := alice.UpgradeByHand(t, room, rig.Public)
	eventually(t, func() bool { return len(f.log.Lines("it tries again every 1s")) > 1 }, "it does not try again")
	require.Len(t, f.log.Lines("level=warning", "it tries again"), 1)
	alice.say(t, room, "meanwhile")
	f.messages.wait(t, 1)
	repair()
	require.Equal(t, replacement.String(), f.told.wait(t, 1)[0].Channel)
}

// That a room was upgraded is heard though a sync leaves the tombstone out of the timeline.
func TestFollowsAfterAGap(t *testing.T) {
	t.Cleanup(adapter.Bound(5, 5, 100, 50))
	robot, alice, proxy := register(t), register(t), rig.Proxy(t)
	room := alice.newRoom(t, robot.Account, rig.Public)
	f := startFollower(t, setup{user: robot, homeserver: proxy.URL()})
	t.Cleanup(f.stop)
	alice.say(t, room, "one")
	f.messages.wait(t, 1)
	reached, release := make(chan struct{}), make(chan struct{})
	proxy.Inject(homeserver.Fault{Match: rig.FollowUp, Times: 1, Do: homeserver.PauseBefore(reached, release)})
	alice.say(t, room, "two")
	<-reached
	replacement := alice.UpgradeByHand(t, room, rig.Public)
	for range 20 {
		alice.say(t, room, "later")
	}
	close(release)
	require.Equal(t, replacement.String(), f.told.wait(t, 1)[0].Channel)
	eventually(t, func() bool { return len(f.messages.list()) == 22 }, "something was not heard")
	require.False(t, slices.ContainsFunc(f.messages.list(), func(evt joe.ReceiveMessageEvent) bool { return evt.Channel != room.String() }))
}

// What is said to a name or an alias goes where the bot has followed, also after a restart; what is said to a
// room's ID goes there.
func TestSaysWhereItHasFollowed(t *testing.T) {
	robot, alice := register(t), register(t)
	room := alice.newRoom(t, robot.Account)
	alias := alice.NewAlias(t, room)
	f := startFollower(t, setup{user: robot, home: robot.newRoom(t), config: func(conf *matrix.Config) { conf.Rooms["ops"] = room.String() }})
	require.NoError(t, f.Adapter.Send("before", alias.String()))
	second := alice.UpgradeByHand(t, room, rig.Public)
	f.told.wait(t, 1)
	third := alice.UpgradeByHand(t, second, rig.Public)
	f.told.wait(t, 2)
	say := func(text string) {
		for _, channel := range []string{"ops", alias.String(), room.String()} {
			require.NoError(t, f.Adapter.Send(text+" to "+channel, channel))
		}
	}
	say("after")
	f.again(t)
	say("again")
	require.Equal(t, []string{"after to ops", "after to " + alias.String(), "again to ops", "again to " + alias.String()}, bodies(alice.answers(t, third, robot.UserID, 4)))
	require.Equal(t, []string{"before", "after to " + room.String(), "again to " + room.String()}, bodies(alice.answers(t, room, robot.UserID, 3)))
	require.Empty(t, alice.messages(t, second, robot.UserID))
}

// What is said to a name does not go where somebody who may not upgrade the room would lead it.
func TestSaysNothingWhereNobodyMayLead(t *testing.T) {
	robot, alice, mallory := register(t), register(t), register(t)
	room := alice.newRoom(t, robot.Account, mallory.Account)
	alice.allow(t, room, event.StateTombstone)
	replacement := mallory.newRoom(t, rig.Replacing(room), robot.Account)
	mallory.Bury(t, room, replacement)
	f := startFollower(t, setup{user: robot, config: func(conf *matrix.Config) { conf.Rooms["ops"] = room.String() }})
	require.NoError(t, f.Adapter.Send("hello", "ops"))
	require.Len(t, alice.answers(t, room, robot.UserID, 1), 1)
	f.stop()
	require.Empty(t, f.told.list())
	require.Empty(t, mallory.messages(t, replacement, robot.UserID))
}

// allow lets everybody send a room's state events of a type.
func (p person) allow(t testing.TB, room id.RoomID, eventType event.Type) {
	t.Helper()
	var levels event.PowerLevelsEventContent
	require.NoError(t, p.StateEvent(t.Context(), room, event.StatePowerLevels, "", &levels))
	levels.SetEventLevel(eventType, 0)
	_, err := p.SendStateEvent(t.Context(), room, event.StatePowerLevels, "", &levels)
	require.NoError(t, err)
}

// An invitation to a room that the bot has followed to meanwhile is not rejected: that would be to leave it.
func TestInvitedWhereItHasFollowed(t *testing.T) {
	robot, alice, proxy := register(t), register(t), rig.Proxy(t)
	room := alice.newRoom(t, robot.Account)
	f := startFollower(t, setup{user: robot, homeserver: proxy.URL()})
	t.Cleanup(f.stop)
	reached, release := make(chan struct{}), make(chan struct{})
	proxy.Inject(homeserver.Fault{
		Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/joined_rooms") },
		Times: 1, Do: homeserver.PauseAfter(reached, release),
	})
	replacement := alice.newRoom(t, rig.Replacing(room), rig.Invited(robot.Account))
	// The homeserver has said that the bot is not in the room, and sync does not tell otherwise in time.
	<-reached
	proxy.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Edit(func(answer any) {
		rooms, _ := answer.(map[string]any)["rooms"].(map[string]any)
		joined, _ := rooms["join"].(map[string]any)
		delete(joined, replacement.String())
	})})
	alice.say(t, room, "ends the sync that is under way, which is as it is")
	f.messages.wait(t, 1)
	alice.Bury(t, room, replacement)
	f.told.wait(t, 1)
	close(release)
	require.True(t, f.invited.wait(t, 1)[0].Joined)
	require.True(t, robot.IsIn(t, replacement))
	require.Zero(t, proxy.Count(homeserver.Seen(rejections)))
}
