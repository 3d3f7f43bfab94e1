package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The sync that tells of a join brings the room's earlier events, and may bring an old
// one after a newer, as after a join over federation. The first write in the room takes
// away nothing of what stands there.
func TestFirstWriteAfterJoining(t *testing.T) {
	for name, layout := range rig.Layouts {
		for moment, early := range map[string]bool{"before sync tells": true, "once sync has told": false} {
			t.Run(name+", "+moment, func(t *testing.T) {
				bot, owner := rig.Register(t), rig.Register(t)
				room := owner.NewRoom(t, rig.Writable)
				_, err := owner.InviteUser(t.Context(), room, &mautrix.ReqInviteUser{UserID: bot.UserID})
				require.NoError(t, err)
				other := rig.Opsdroid{Account: owner, Room: room, Layout: layout}
				want := make(map[string]string)
				require.NoError(t, other.Put(t.Context(), "k0", `"old"`))
				for i := range 4 {
					key := fmt.Sprint("k", i)
					require.NoError(t, other.Put(t.Context(), key, `1`))
					want[key] = `1`
				}
				r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
				loaded := make(chan struct{})
				release := sync.OnceFunc(func() { close(loaded) })
				t.Cleanup(release) // before the proxy ends, which waits for what it has under way
				r.Front.Inject(homeserver.Fault{Match: rig.FollowUp, Do: homeserver.Edit(func(answer any) {
					if oldestLast(answer, room) {
						<-loaded // what it brings of a room that is not used yet is passed over
					}
				})})
				r.InStep(t) // the next sync is edited
				_, err = bot.JoinRoomByID(t.Context(), room)
				require.NoError(t, err)
				joined := r.InRoom(room.String())
				_, err = joined.Keys()
				require.NoError(t, err)
				want["ours"] = `1`
				if early {
					require.NoError(t, joined.Set("ours", 1))
				}
				release()
				r.InStep(t)
				if !early {
					require.NoError(t, joined.Set("ours", 1))
				}
				conf := bot.Config(room)
				conf.SingleStateKey = layout
				there := rig.Proxied{Account: owner, Memory: rig.Open(t, conf), Room: room}
				settle(t, want, lasting, there)
				for key, value := range want {
					var held json.RawMessage
					ok, err := joined.Get(key, &held)
					require.NoError(t, err)
					require.True(t, ok, key)
					require.Equal(t, value, string(held), key)
				}
			})
		}
	}
}

// oldestLast edits a sync so that the first of a room's memory events comes last, and
// says whether there are any.
func oldestLast(answer any, room id.RoomID) bool {
	timeline, _ := member(answer, "rooms", "join", room.String(), "timeline").(map[string]any)
	events, _ := timeline["events"].([]any)
	for i, evt := range events {
		if member(evt, "type") == rig.MemoryType.Type {
			timeline["events"] = append(slices.Concat(events[:i], events[i+1:]), evt)
			return true
		}
	}
	return false
}

// member returns a member of a member of a decoded JSON object, or nil.
func member(object any, path ...string) any {
	for _, name := range path {
		members, _ := object.(map[string]any)
		object = members[name]
	}
	return object
}
