package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// Whatever a sync brings of a room, what is said there, and elsewhere, is heard.
func TestMalformedNews(t *testing.T) {
	client, err := mautrix.NewClient("http://127.0.0.1:0", "@bot:x", "token")
	require.NoError(t, err)
	s := session.New(client, true)
	log, kept := rig.KeepLog()
	s.Options = session.Options{Log: log, Timeout: time.Millisecond}
	a := &adapter{session: s, outlet: new(outlet.Outlet), client: client, running: true, primed: true, rooms: make(map[id.RoomID]*room)}
	a.encrypted.rooms = make(map[id.RoomID]bool)
	a.invitations.standing = make(map[id.RoomID]context.CancelFunc)
	a.invitations.joins = make(chan struct{}, maxJoins)
	a.ctx, a.cancel = context.WithCancel(t.Context())
	var got heardTexts
	a.outlet.Open(&got)

	var events []string
	for _, eventType := range []string{
		"m.room.message", "m.room.encrypted", "m.reaction", "m.room.redaction", "m.room.member", "m.room.encryption", "m.typing", "",
	} {
		for _, content := range []string{
			`null`, `{}`, `{"membership":5,"user_ids":5,"algorithm":5,"msgtype":5,"body":5,"redacts":5}`,
			`{"membership":"join","user_ids":[null,5],"msgtype":"m.text","body":"x","m.relates_to":null,"m.new_content":null}`,
			`{"membership":"invite","m.relates_to":{"rel_type":"m.replace"},"msgtype":"m.text","body":"x"}`,
			`{"membership":"leave","m.relates_to":{"rel_type":"m.annotation"},"m.mentions":{"user_ids":[null]}}`,
		} {
			for _, rest := range []string{
				``, `,"state_key":null`, `,"state_key":"@bot:x"`, `,"state_key":""`, `,"state_key":"@bot:x","sender":"@bot:x"`,
				`,"unsigned":{"prev_content":null}`, `,"unsigned":{"prev_content":{"membership":5}},"state_key":"@bot:x"`,
			} {
				events = append(events, fmt.Sprintf(`{"type":%q,"content":%s%s}`, eventType, content, rest))
			}
		}
	}
	all := strings.Join(events, ",")
	var response mautrix.RespSync
	require.NoError(t, json.Unmarshal([]byte(`{"rooms":{
		"join":{"!a:x":{"timeline":{"events":[`+all+`]},"ephemeral":{"events":[`+all+`]},"state":{"events":[`+all+`]}},"!b:x":{}},
		"invite":{"!c:x":{"invite_state":{"events":[{"type":"m.room.member","state_key":"@bot:x","content":null}]}},"!d:x":{}},
		"leave":{"!e:x":{"timeline":{"events":[`+all+`]}},"!f:x":{}}
	}}`), &response))
	require.True(t, a.synced(t.Context(), &response, "since"))

	response = mautrix.RespSync{}
	require.NoError(t, json.Unmarshal([]byte(`{"rooms":{"join":{"!a:x":{"timeline":{"events":[
		{"type":"m.room.message","event_id":"$1","sender":"@a:x","content":{"msgtype":"m.text","body":"the last"}}]}}}}}`), &response))
	require.True(t, a.synced(t.Context(), &response, "since"))
	a.lanes.Wait()
	require.Equal(t, "the last", got[len(got)-1])
	require.NotContains(t, kept.String(), "A fault in this program")
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.rooms, 2, "those that the bot is in")
	require.Empty(t, a.invitations.waiting)
}

// Large events count as several, and are not held decoded, which takes much more memory.
func TestLargeEventsThatWait(t *testing.T) {
	large := received("m.room.message", `{"msgtype":"m.text","body":"hello","z":[`+strings.Repeat(`{},`, 20_000)+`{}]}`)
	var events []*event.Event
	for range maxWaiting / 5 {
		events = append(events, large)
	}
	r := &room{queue: []news{{timeline: own("!r:x", events)}}}
	require.Greater(t, r.waiting(), maxWaiting)
	require.Nil(t, r.queue[0].timeline[0].Content.Raw)
	require.Contains(t, newEar(t).hears(large)[0].(joe.ReceiveMessageEvent).Data.(*event.Event).Content.Raw, "z")
}
