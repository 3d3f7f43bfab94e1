package adapter_test

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/rig"
)

// A person is an account and what people do with it. The bots' accounts are such
// as well.
type person struct{ rig.Account }

// register makes a new account.
func register(t testing.TB) person {
	t.Helper()
	return personOf(rig.Register(t))
}

// personOf lets the account's client go on trying while a homeserver restarts.
func personOf(account rig.Account) person {
	account.DefaultHTTPRetries = 10
	return person{account}
}

// newRoom makes a room that belongs to the person, in which the bot may remember.
func (p person) newRoom(t testing.TB, options ...rig.RoomOption) id.RoomID {
	t.Helper()
	return p.NewRoom(t, append(options, rig.Writable)...)
}

// say sends a text.
func (p person) say(t testing.TB, room id.RoomID, text string) id.EventID {
	t.Helper()
	return p.send(t, room, &event.MessageEventContent{MsgType: event.MsgText, Body: text})
}

// sayUnheard sends a text, and returns once sync brings it, which may be a moment after it was taken: a bot
// that starts then does not hear it. Its filter is like no other: for two minutes Synapse gives its last
// answer to a sync that it was asked for already.
func (p person) sayUnheard(t testing.TB, room id.RoomID, text string) {
	t.Helper()
	filter := `{"presence": {"not_types": ["` + rand.Text() + `"]}}`
	sync := func(since string) *mautrix.RespSync {
		news, err := p.SyncRequest(t.Context(), 0, since, filter, false, event.PresenceOffline)
		require.NoError(t, err)
		return news
	}
	since := sync("").NextBatch
	said := p.say(t, room, text)
	eventually(t, func() bool {
		news := sync(since)
		since = news.NextBatch
		joined := news.Rooms.Join[room]
		return joined != nil && slices.ContainsFunc(joined.Timeline.Events, func(evt *event.Event) bool { return evt.ID == said })
	}, "sync brings what was said")
}

// send sends a message.
func (p person) send(t testing.TB, room id.RoomID, content *event.MessageEventContent) id.EventID {
	t.Helper()
	response, err := p.SendMessageEvent(t.Context(), room, event.EventMessage, content)
	require.NoError(t, err)
	return response.EventID
}

// messages returns what a user has said in a room, oldest first, by the
// homeserver's own account, which may be a moment behind what it has taken.
func (p person) messages(t testing.TB, room id.RoomID, from id.UserID) []*event.MessageEventContent {
	t.Helper()
	var said []*event.MessageEventContent
	for token := ""; ; {
		response, err := p.Messages(t.Context(), room, token, "", mautrix.DirectionBackward, nil, 100)
		require.NoError(t, err)
		for _, evt := range response.Chunk {
			evt.Type.Class = event.MessageEventType
			if evt.Sender == from && evt.Type == event.EventMessage {
				require.NoError(t, evt.Content.ParseRaw(evt.Type))
				said = append(said, evt.Content.AsMessage())
			}
		}
		if response.End == "" || response.End == token || len(response.Chunk) == 0 {
			slices.Reverse(said)
			return said
		}
		token = response.End
	}
}

// bodies returns the plain texts of messages.
func bodies(messages []*event.MessageEventContent) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Body)
	}
	return all
}

// answers waits until a user has said at least n things in a room, and returns them.
func (p person) answers(t testing.TB, room id.RoomID, from id.UserID, n int) []*event.MessageEventContent {
	t.Helper()
	var said []*event.MessageEventContent
	eventually(t, func() bool {
		said = p.messages(t, room, from)
		return len(said) >= n
	}, "%s has said less than %d things in %s", from, n, room)
	return said
}
