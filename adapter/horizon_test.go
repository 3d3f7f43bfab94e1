package adapter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/session"
)

// heardTexts collects the texts of messages.
type heardTexts []string

func (h *heardTexts) Emit(evt interface{}, callbacks ...func(joe.Event)) {
	if message, ok := evt.(joe.ReceiveMessageEvent); ok {
		*h = append(*h, message.Text)
	}
	for _, done := range callbacks {
		done(joe.Event{Data: evt})
	}
}

// Where a homeserver's history has another order than its syncs, as after it was
// cut off from others, going back may pass all that was heard of late. It goes no
// further than what was there at the start.
func TestHistoryInAnotherOrder(t *testing.T) {
	message := func(name string) map[string]any {
		return map[string]any{
			"event_id": "$" + name, "type": "m.room.message", "sender": "@a:x",
			"content": map[string]any{"msgtype": "m.text", "body": name},
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := r.URL.Query().Get("from")
		chunk := map[string][]any{
			"gap":   {message("missed 2"), message("missed 1")},
			"older": {message("start 9"), message("start 8"), message("long before the start")},
		}[from]
		_ = json.NewEncoder(w).Encode(map[string]any{"start": from, "end": map[string]string{"gap": "older"}[from], "chunk": chunk})
	}))
	defer server.Close()
	client, err := mautrix.NewClient(server.URL, "@bot:x", "token")
	require.NoError(t, err)
	client.Client = server.Client()
	log := logrus.New()
	log.SetLevel(logrus.PanicLevel)
	s := session.New(client, true)
	s.Options = session.Options{Timeout: 5 * time.Second, Log: log}
	a := &adapter{session: s, outlet: new(outlet.Outlet), client: client, ctx: t.Context()}
	var got heardTexts
	a.outlet.Open(&got)

	events := func(name string, n int) []*event.Event {
		var all []*event.Event
		for i := range n {
			raw, err := json.Marshal(message(fmt.Sprint(name, " ", i)))
			require.NoError(t, err)
			evt := &event.Event{}
			require.NoError(t, json.Unmarshal(raw, evt))
			all = append(all, evt)
		}
		return own("!r:x", all)
	}
	r := &room{id: id.RoomID("!r:x")}
	a.handle(r, news{initial: true, timeline: events("start", 10)})
	a.handle(r, news{timeline: events("later", remembered)})
	require.Len(t, got, remembered)
	got = nil
	a.handle(r, news{limited: true, prevBatch: "gap", timeline: events("new", 1)})
	require.Equal(t, heardTexts{"missed 1", "missed 2", "new 0"}, got)
}
