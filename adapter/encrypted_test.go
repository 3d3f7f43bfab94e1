//go:build goolm

package adapter_test

import (
	"testing"
	"time"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"

	"github.com/go-joe/matrix-memory/adapter"
)

func TestHearingEncryptedMessages(t *testing.T) {
	noLeaks(t)
	var heard record[joe.ReceiveMessageEvent]
	var redacted record[adapter.RedactionEvent]
	var joined record[adapter.JoinEvent]
	robot := start(t, encrypted(t, setup{handlers: func(b *bot) {
		b.Brain.RegisterHandler(heard.add)
		b.Brain.RegisterHandler(redacted.add)
		b.Brain.RegisterHandler(joined.add)
	}}))
	t.Cleanup(robot.stop)
	texts := func(t *testing.T, n int) (texts []string) {
		for _, message := range heard.wait(t, n) {
			texts = append(texts, message.Text)
		}
		return texts
	}

	// Of what is encrypted, only messages and reactions count: a homeserver checks who
	// may redact what, and who is in a room, but not in there. What is no event at all
	// stops nothing.
	alice := newPeer(t)
	room := alice.invite(t, robot)
	alice.giveKey(t, room, robot)
	said := alice.encrypt(t, room, text(t, room, "the deploy is approved"))
	heard.wait(t, 1)
	joins := len(joined.list()) // of alice, as some homeservers tell it
	for _, forged := range []string{
		plaintext(t, room, "m.room.redaction", `{"redacts":"`+said.String()+`"}`),
		plaintext(t, room, "m.room.member", `{"membership":"join"}`),
		plaintext(t, room, "m.room.encrypted", `{}`),
		plaintext(t, room, "m.room.message", `null`),
		plaintext(t, room, "m.room.message", `5`),
		`null`, `{}`, `[]`, `"x"`,
	} {
		alice.encrypt(t, room, forged)
	}
	alice.encrypt(t, room, plaintext(t, room, "m.room.message", `{"msgtype":"m.text","body":"still there?","m.mentions":[],"info":"x"}`))
	require.Equal(t, []string{"the deploy is approved", "still there?"}, texts(t, 2))
	require.Equal(t, event.EventMessage, heard.list()[1].Data.(*event.Event).Type)
	require.Empty(t, redacted.list())
	require.Len(t, joined.list(), joins)

	// Messages whose key comes late are heard then, in their order, but for those that
	// were redacted meanwhile; what else is said is heard before.
	alice.newKey(t, room)
	alice.encrypt(t, room, text(t, room, "one"))
	wrong := alice.encrypt(t, room, text(t, room, "wrong"))
	alice.encrypt(t, room, text(t, room, "two"))
	alice.say(t, room, "meanwhile")
	heard.wait(t, 3)
	_, err := alice.RedactEvent(t.Context(), room, wrong, mautrix.ReqRedact{})
	require.NoError(t, err)
	redacted.wait(t, 1)
	alice.giveKey(t, room, robot)
	heard.wait(t, 5)
	alice.encrypt(t, room, text(t, room, "three"))
	require.Equal(t, []string{"meanwhile", "one", "two", "three"}, texts(t, 6)[2:])
	alice.junk(t, room) // nothing waits for its key once the bot has ended
	alice.say(t, room, "end")
	heard.wait(t, 7)
}

// Messages whose keys never come hold up the others for no longer than a few seconds,
// however many they are.
func TestKeysThatNeverCome(t *testing.T) {
	var heard record[joe.ReceiveMessageEvent]
	robot := start(t, encrypted(t, setup{handlers: func(b *bot) { b.Brain.RegisterHandler(heard.add) }}))
	mallory := newPeer(t)
	room := mallory.invite(t, robot)
	mallory.giveKey(t, room, robot)
	for range 20 {
		mallory.junk(t, room)
	}
	began := time.Now()
	mallory.encrypt(t, room, text(t, room, "answer me"))
	require.Equal(t, "answer me", heard.wait(t, 1)[0].Text)
	require.Less(t, time.Since(began), 15*time.Second, "they wait for 5 s")
}
