package session

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// requestSync makes one sync request. It asks for the state after the timeline in place
// of that before it (MSC4222, since v1.16 in the specification). A homeserver that does
// not know that leaves StateAfter nil, and gives the state before.
func (s *Session) requestSync(ctx context.Context, req mautrix.ReqSync) (*mautrix.RespSync, error) {
	req.UseStateAfter = true
	req.SetPresence = s.client.SyncPresence
	query := maps.Clone(req.BuildQuery())
	query["org.matrix.msc4222.use_state_after"] = "true"
	var answer syncAnswer
	if _, err := s.client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method:       http.MethodGet,
		URL:          s.client.BuildURLWithQuery(mautrix.ClientURLPath{"v3", "sync"}, query),
		ResponseJSON: &answer,
		MaxAttempts:  1,
	}); err != nil {
		return nil, err
	}
	if answer.NextBatch == "" {
		return nil, Missing("next_batch")
	}
	return answer.response(), nil
}

// A syncAnswer is a mautrix.RespSync that knows the name of state_after from before it
// was in the specification, too.
type syncAnswer struct {
	mautrix.RespSync
	Rooms struct {
		mautrix.RespSyncRooms
		Join  map[id.RoomID]*joinedAnswer `json:"join"`
		Leave map[id.RoomID]*leftAnswer   `json:"leave"`
	} `json:"rooms"`
}

type joinedAnswer struct {
	mautrix.SyncJoinedRoom
	Unstable *mautrix.SyncEventsList `json:"org.matrix.msc4222.state_after"`
}

type leftAnswer struct {
	mautrix.SyncLeftRoom
	Unstable *mautrix.SyncEventsList `json:"org.matrix.msc4222.state_after"`
}

// response returns the answer in the form that mautrix's handlers take, without events that
// are null.
func (a *syncAnswer) response() *mautrix.RespSync {
	response := &a.RespSync
	dropNull(&response.AccountData, &response.ToDevice)
	response.Rooms = a.Rooms.RespSyncRooms
	response.Rooms.Join = make(map[id.RoomID]*mautrix.SyncJoinedRoom, len(a.Rooms.Join))
	for room, joined := range a.Rooms.Join {
		if joined == nil {
			continue
		}
		joined.StateAfter = cmp.Or(joined.StateAfter, joined.Unstable)
		dropNull(&joined.State, joined.StateAfter, &joined.Timeline.SyncEventsList, &joined.Ephemeral, &joined.AccountData)
		response.Rooms.Join[room] = &joined.SyncJoinedRoom
	}
	maps.DeleteFunc(response.Rooms.Invite, func(_ id.RoomID, invited *mautrix.SyncInvitedRoom) bool { return invited == nil })
	for _, invited := range response.Rooms.Invite { // what the inviter's homeserver says
		dropNull(&invited.State, &invited.FullState)
	}
	response.Rooms.Leave = make(map[id.RoomID]*mautrix.SyncLeftRoom, len(a.Rooms.Leave))
	for room, left := range a.Rooms.Leave {
		if left == nil {
			continue
		}
		left.StateAfter = cmp.Or(left.StateAfter, left.Unstable)
		dropNull(&left.State, left.StateAfter, &left.Timeline.SyncEventsList)
		response.Rooms.Leave[room] = &left.SyncLeftRoom
	}
	return response
}

// dropNull removes events that are null, which are none, from lists, of which some may be nil.
func dropNull(lists ...*mautrix.SyncEventsList) {
	for _, list := range lists {
		if list != nil {
			list.Events = slices.DeleteFunc(list.Events, func(evt *event.Event) bool { return evt == nil })
		}
	}
}
