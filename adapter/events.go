package adapter

import "maunium.net/go/mautrix/event"

// An EditEvent says that somebody edited a message. It is not heard as a message
// again.
type EditEvent struct {
	ID        string // of the edit itself
	MessageID string // the message that was edited
	Text      string // what it says now, as in a joe.ReceiveMessageEvent
	AuthorID  string // who edited; servers don't check that the message was theirs, clients ignore it if not
	Channel   string
	Data      *event.Event
}

// A RedactionEvent says that somebody removed what an event said: deleted a
// message, or took a reaction back.
type RedactionEvent struct {
	MessageID string // the event that was redacted
	AuthorID  string // who redacted it
	Reason    string // "" if none was given
	Channel   string
	Data      *event.Event
}

// A JoinEvent says that somebody joined a room. It is not emitted for the bot
// itself; see [InvitationEvent].
type JoinEvent struct {
	UserID  string
	Name    string // the display name, "" if there is none
	Channel string
	Data    *event.Event
}

// A LeaveEvent says that somebody left a room, or was removed or banned; the bot
// itself too, if another removed it.
type LeaveEvent struct {
	UserID   string
	AuthorID string // who removed the user; UserID if that was the user
	Reason   string // "" if none was given
	Channel  string
	Data     *event.Event
}

// An UpgradeEvent says that a room was upgraded, which is to say replaced by another one, and that
// the bot has followed.
type UpgradeEvent struct {
	AuthorID   string // who upgraded it
	Text       string // what the old room says to people who still look there, "" if nothing
	Channel    string // the new room
	OldChannel string
	Data       *event.Event // the m.room.tombstone; some homeservers don't say its ID
}

// An InvitationEvent says that the bot was invited to a room, and has joined, rejected the
// invitation or failed to do either.
type InvitationEvent struct {
	AuthorID string // who invited it
	Joined   bool   // whether it has joined; if not, the log says why
	Channel  string
	Data     *event.Event
}
