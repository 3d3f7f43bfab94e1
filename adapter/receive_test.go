package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// An ear is an adapter without a connection, in one room, which notes what it emits.
type ear struct {
	*adapter
	room    *room
	said    *test.Hook
	emitted []any
}

func newEar(t testing.TB) *ear {
	client, err := mautrix.NewClient("https://example.org", "@bot:example.org", "token")
	require.NoError(t, err)
	log, said := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	s := session.New(client, true)
	s.Options = session.Options{Log: log}
	e := &ear{adapter: &adapter{session: s, outlet: new(outlet.Outlet), client: client, rooms: make(map[id.RoomID]*room)}, said: said}
	e.ctx, e.cancel = context.WithCancel(t.Context())
	e.outlet.Open(e)
	e.forget()
	return e
}

// forget makes the room a new one.
func (e *ear) forget() {
	e.room = &room{id: "!r:example.org", names: map[id.UserID]string{"@bot:example.org": "Bot"}}
	e.rooms[e.room.id] = e.room
}

// Emit implements joe.EventEmitter.
func (e *ear) Emit(evt any, callbacks ...func(joe.Event)) {
	if _, before := evt.(askedEvent); !before {
		e.emitted = append(e.emitted, evt)
	}
	for _, done := range callbacks {
		done(joe.Event{Data: evt})
	}
}

// hears returns what is emitted for an event.
func (e *ear) hears(evt *event.Event) []any {
	e.emitted = nil
	e.receive(e.room, own(e.room.id, []*event.Event{evt})[0])
	return e.emitted
}

// received returns an event as a sync brings it.
func received(eventType, content string) *event.Event {
	evt := &event.Event{Type: event.Type{Type: eventType}, Sender: "@alice:example.org", ID: "$event", Timestamp: 1}
	if eventType == event.StateMember.Type {
		alice := "@alice:example.org"
		evt.StateKey = &alice
	}
	if json.Unmarshal([]byte(content), &evt.Content) != nil {
		return nil // no homeserver takes it
	}
	return evt
}

// Whatever is of a wrong type and not needed is passed over.
func TestMembersOfWrongTypes(t *testing.T) {
	e := newEar(t)
	for _, member := range []string{
		`"info":"x"`, `"info":{"w":"x","size":5}`, `"m.mentions":[]`, `"m.mentions":{"user_ids":"@bot:example.org"}`, `"m.mentions":5`,
		`"m.relates_to":"x"`, `"m.relates_to":{"m.in_reply_to":"x"}`, `"m.relates_to":{"m.in_reply_to":{"event_id":5}}`,
		`"m.relates_to":{"rel_type":5,"event_id":"$x"}`, `"m.relates_to":{"rel_type":"m.replace","event_id":5}`,
		`"m.new_content":"x"`, `"url":5`, `"file":"x"`, `"filename":5`, `"format":5`, `"format":"org.matrix.custom.html","formatted_body":5`,
		`"geo_uri":5`, `"com.beeper.linkpreviews":"x"`, `"com.beeper.linkpreviews":[5,{"matched_url":5}]`,
		`"org.matrix.msc1767.audio":"x"`, `"org.matrix.msc1767.audio":{"waveform":"x"}`, `"org.matrix.msc3245.voice":5`,
		`"items":[{"body":5},{"items":[{"items":[{"items":[{"items":5}]}]}]}]`, `"methods":"x"`, `"to":{}`, `"from_device":5`,
		`"BODY":5`, `"` + strings.Repeat("x", 300) + `":5`, `"com.beeper.bridged_emojis":{"` + strings.Repeat("x", 300) + `":5}`,
	} {
		emitted := e.hears(received("m.room.message", `{"msgtype":"m.text","body":"tea",`+member+`}`))
		require.Len(t, emitted, 1, member)
		message := emitted[0].(joe.ReceiveMessageEvent)
		require.Equal(t, "tea", message.Text, member)
		require.Equal(t, "tea", message.Data.(*event.Event).Content.AsMessage().Body, member)
		require.NotNil(t, message.Data.(*event.Event).Content.Raw["body"])
	}

	// What is of the right type counts.
	e.mentionsOnly = true
	e.room.members = map[id.UserID]bool{"@a:x": true, "@b:x": true, "@bot:example.org": true}
	require.Len(t, e.hears(received("m.room.message", `{"msgtype":"m.text","body":"tea","info":5,"m.mentions":{"room":5,"user_ids":[5,"@bot:example.org"]}}`)), 1)
	require.Empty(t, e.hears(received("m.room.message", `{"msgtype":"m.text","body":"tea","info":5,"m.mentions":{"user_ids":[5]}}`)))
	e.mentionsOnly = false
	alice, channel := "@alice:example.org", "!r:example.org"
	for _, test := range []struct {
		eventType, content string
		want               any
	}{
		{"m.room.message", `{"msgtype":"m.text","body":"* tea","m.relates_to":{"rel_type":"m.replace","event_id":"$x","key":[]},"m.new_content":{"msgtype":"m.text","body":"tea","info":5}}`,
			EditEvent{ID: "$event", MessageID: "$x", Text: "tea", AuthorID: alice, Channel: channel}},
		{"m.reaction", `{"m.relates_to":{"rel_type":"m.annotation","event_id":"$x","key":"🎉","is_falling_back":5}}`,
			reactions.Event{Reaction: reactions.Reaction{Raw: "🎉"}, MessageID: "$x", AuthorID: alice, Channel: channel}},
		{"m.room.redaction", `{"redacts":"$x","reason":5}`,
			RedactionEvent{MessageID: "$x", AuthorID: alice, Channel: channel}},
		{"m.room.member", `{"membership":"join","displayname":5,"avatar_url":5,"third_party_invite":"x"}`,
			JoinEvent{UserID: alice, Channel: channel}},
	} {
		emitted := e.hears(received(test.eventType, test.content))
		require.Len(t, emitted, 1, test.content)
		require.Equal(t, test.want, bare(emitted[0]))
	}
	require.Empty(t, e.said.AllEntries())

	// What is needed and of a wrong type is not heard, and the log says so, without what it is.
	e.said.Reset()
	for i, malformed := range [][2]string{
		{"m.room.message", `{"msgtype":"m.text","body":12345}`},
		{"m.room.message", `{"msgtype":12345,"body":"tea"}`},
		{"m.reaction", `{"m.relates_to":12345}`},
		{"m.room.message", `{"msgtype":"m.text","body":"* tea","m.relates_to":{"rel_type":"m.replace","event_id":"$x"},"m.new_content":{"msgtype":"m.text","body":12345}}`},
		{"m.room.member", `{"membership":12345}`},
		{"m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2","session_id":"12345"}`},
	} {
		require.Empty(t, e.hears(received(malformed[0], malformed[1])), malformed)
		require.Len(t, e.said.AllEntries(), i+1, malformed)
		line, err := e.said.LastEntry().String()
		require.NoError(t, err)
		require.Contains(t, line, malformed[0])
		require.NotContains(t, line, "12345")
	}
}

// A redaction that names one event where homeservers of the room's version look, and
// another elsewhere, is none.
func TestRedactionOfTwoEvents(t *testing.T) {
	e := newEar(t)
	evt := received("m.room.redaction", `{"redacts":"$x"}`)
	evt.Redacts = "$y"
	require.Empty(t, e.hears(evt))
	evt.Redacts = "$x"
	require.Len(t, e.hears(evt), 1)
	evt = received("m.room.redaction", `{}`)
	require.Empty(t, e.hears(evt))
	evt.Redacts = "$x"
	require.Equal(t, "$x", e.hears(evt)[0].(RedactionEvent).MessageID)
}

// What is longer than the ID of an event may be is the root of no thread, in which the
// bot would have to answer.
func TestLongThreadRoot(t *testing.T) {
	for length, inThread := range map[int]bool{255: true, 256: false, 60_000: false} {
		root := id.EventID("$" + strings.Repeat("x", length-1))
		require.Equal(t, inThread, threadOf((&event.RelatesTo{}).SetThread(root, "$message")) == root, length)
	}
}

// bare returns what was emitted without the event that it came from.
func bare(emitted any) any {
	switch emitted := emitted.(type) {
	case EditEvent:
		emitted.Data = nil
		return emitted
	case RedactionEvent:
		emitted.Data = nil
		return emitted
	case JoinEvent:
		emitted.Data = nil
		return emitted
	}
	return emitted
}

// However much of a message is of a wrong type, and it may be as long as Matrix lets
// an event be, it is heard soon.
func TestManyMembersOfWrongTypes(t *testing.T) {
	const n = 60_000
	var formats []string
	for i := range n / 24 {
		formats = append(formats, fmt.Sprintf(`%q:5`, inCases("formatted_body", i)))
	}
	for name, members := range map[string]string{
		"elements":              `"m.new_content":{"m.mentions":{"user_ids":[` + strings.Repeat("5,", n/8) + `5]}}`,
		"below a long name":     `"com.beeper.bridged_emojis":{"` + strings.Repeat("x", n/2) + `":[` + strings.Repeat("5,", n/4) + `5]}`,
		"one name in all cases": strings.Join(formats, ","),
	} {
		t.Run(name, func(t *testing.T) {
			e, evt := newEar(t), received("m.room.message", `{"msgtype":"m.text","body":"tea",`+members+`}`)
			rig.Within(t, 4*time.Second, "hearing the message", func() { require.Len(t, e.hears(evt), 1) })
		})
	}
}

// inCases returns a name with those of its letters in upper case that the bits of n say.
func inCases(name string, n int) string {
	letters := []byte(name)
	for i, letter := range letters {
		if n>>i&1 == 1 && letter != '_' {
			letters[i] = letter - 'a' + 'A'
		}
	}
	return string(letters)
}

// A reader is encryption by which each event says the same.
type reader struct {
	mautrix.CryptoHelper
	says event.Event
}

func (r *reader) WaitForSession(context.Context, id.RoomID, id.SenderKey, id.SessionID, time.Duration) bool {
	return true
}

func (r *reader) Decrypt(context.Context, *event.Event) (*event.Event, error) {
	says := r.says
	return &says, nil
}

// Whatever people send, in the clear or encrypted, each message that has a text is heard.
func FuzzReceive(f *testing.F) {
	for _, content := range []string{
		`{"msgtype":"m.text","body":"Bot: hi","format":"org.matrix.custom.html","formatted_body":"<a href=\"https://matrix.to/#/@bot:example.org\">Bot</a>: hi","m.mentions":{"user_ids":["@bot:example.org",5]}}`,
		`{"msgtype":"m.text","body":"> <@a:b> x\n\nreply","m.relates_to":{"m.in_reply_to":{"event_id":"$x"},"is_falling_back":5}}`,
		`{"msgtype":"m.text","body":"* n","m.new_content":{"msgtype":"m.text","body":"n","info":5},"m.relates_to":{"rel_type":"m.replace","event_id":"$x"}}`,
		`{"msgtype":"m.image","body":"c","filename":"f","url":"mxc://a/b","info":{"w":"x","thumbnail_info":{"h":[]}},"file":{"v":2,"key":5}}`,
		`{"msgtype":"m.emote","body":"\u2068Bot\u2069: waves","items":[{"body":5}],"com.beeper.linkpreviews":[5]}`,
		`{"m.relates_to":{"rel_type":"m.annotation","event_id":"$x","key":"k"}}`,
		`{"redacts":"$x","reason":5}`,
		`{"membership":"join","displayname":5,"third_party_invite":{"signed":5}}`,
		`{"algorithm":"m.megolm.v1.aes-sha2","session_id":"x","ciphertext":"x","device_id":5}`,
		`{}`, `null`,
	} {
		for _, eventType := range []string{"m.room.message", "m.reaction", "m.room.redaction", "m.room.member", "m.room.encrypted", "m.sticker", "org.example.unknown"} {
			f.Add(eventType, content, false)
			f.Add(eventType, content, true)
		}
	}
	e, crypto := newEar(f), &reader{}
	e.client.Crypto = crypto
	f.Fuzz(func(t *testing.T, eventType, content string, encrypted bool) {
		evt := received(eventType, content)
		if evt == nil {
			return
		}
		e.forget()
		e.said.Reset()
		sent := evt
		if encrypted {
			evt.Type.Class = event.MessageEventType
			crypto.says = *evt
			sent = received("m.room.encrypted", `{"algorithm":"m.megolm.v1.aes-sha2","session_id":"x","ciphertext":"x"}`)
		}
		emitted := e.hears(sent)
		for _, said := range e.said.AllEntries() {
			require.NotContains(t, said.Message, "A fault in this program")
		}
		if encrypted && eventType != "m.room.message" && eventType != "m.reaction" {
			require.Empty(t, emitted, "a homeserver has to allow that")
		}
		if eventType == "m.room.message" && hasText(evt.Content.Raw) {
			require.Len(t, emitted, 1)
		}
	})
}

// hasText says whether a content is that of a message that a person writes, and not
// that of an edit.
func hasText(content map[string]any) bool {
	for name := range content {
		for _, exact := range []string{"msgtype", "body", "m.relates_to"} {
			if name != exact && strings.EqualFold(name, exact) { // which mautrix takes for the same
				return false
			}
		}
	}
	msgType, _ := content["msgtype"].(string)
	_, text := content["body"].(string)
	_, relates := content["m.relates_to"].(map[string]any)
	return text && !relates && slices.Contains([]string{"m.text", "m.emote", "m.image", "m.video", "m.audio", "m.file", "m.location", "org.example.other"}, msgType)
}
