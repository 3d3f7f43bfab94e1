package adapter

import (
	"github.com/go-joe/joe"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A thread is where a message is to be answered.
type thread struct {
	message id.EventID // that is answered
	room    id.RoomID
	root    id.EventID
}

// began handles each message before the bot's own handlers do: from now on until
// the last of them has returned, what is sent to its room answers it.
func (a *adapter) began(msg joe.ReceiveMessageEvent) {
	a.answering.Store(nil)
	evt, ok := msg.Data.(*event.Event)
	if !ok {
		return
	}
	content, ok := evt.Content.Parsed.(*event.MessageEventContent)
	if !ok {
		return
	}
	if root := content.RelatesTo.GetThreadParent(); root != "" {
		a.answering.Store(&thread{message: evt.ID, room: evt.RoomID, root: root})
	}
}

// ended runs when joe is done with a message.
func (a *adapter) ended(joe.Event) { a.answering.Store(nil) }

// relation returns what a message to a room relates to: nil, or the thread that
// is being answered there. A client without threads shows it as a reply
// (Matrix spec, "Fallback for unthreaded clients").
func (a *adapter) relation(room id.RoomID) *event.RelatesTo {
	current := a.answering.Load()
	if current == nil || current.room != room {
		return nil
	}
	return (&event.RelatesTo{}).SetThread(current.root, current.message)
}
