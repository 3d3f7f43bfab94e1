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

// A threadEvent comes just before a message in a thread. It says nothing to the
// bot's handlers; when joe is done with it, the message's own are next.
type threadEvent struct{}

// emitMessage emits a message: if it is in a thread, then while its handlers run
// what is sent to its room answers it.
func (a *adapter) emitMessage(message joe.ReceiveMessageEvent, evt *event.Event, content *event.MessageEventContent) {
	root := threadOf(content.RelatesTo)
	if root == "" {
		a.outlet.emit(message)
		return
	}
	a.outlet.emitAll(
		emission{threadEvent{}, func(joe.Event) { a.answering.Store(&thread{message: evt.ID, room: evt.RoomID, root: root}) }},
		emission{message, func(joe.Event) { a.answering.Store(nil) }},
	)
}

// Older clients of Element still send threads as they were before Matrix had them (MSC3440).
const unstableThread event.RelationType = "io.element.thread"

// maxEventID is how long an event ID may be, in bytes (Matrix spec, "Common identifier
// format"). An answer in a thread holds its root twice, and may be cut to make room for it.
const maxEventID = 255

// threadOf returns the root of the thread that a message is in, or "".
func threadOf(relation *event.RelatesTo) id.EventID {
	if relation == nil || relation.Type != event.RelThread && relation.Type != unstableThread || len(relation.EventID) > maxEventID {
		return ""
	}
	return relation.EventID
}

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
