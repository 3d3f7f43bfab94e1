// Package matrix keeps a Joe bot's memory in Matrix rooms. It is the Go
// counterpart of opsdroid's Matrix database, and reads what that wrote.
//
//	conf, err := matrix.LoadConfig("configuration.yaml")
//	…
//	bot := joe.New("example", matrix.New(conf))
//
// From then on bot.Store lives in the state events of a room, the default room.
// It is replicated by every homeserver in that room, it needs no database, and
// any Matrix client can look at it.
//
// # Guarantees
//
// Acknowledged means stored: Set and Delete return nil only after the homeserver
// has stored the change, or with Config.Journal the disk. Until then, and when they
// fail, Get returns what was there before. If no answer settles it, the error is an [ErrUnknownOutcome]. What
// was acknowledged stays until somebody changes that key who had heard of it, or at
// the same moment.
//
// Reads are local: once a room is loaded, Get and Keys don't touch the network. A
// memory sees its own writes at once, and what others write (a second bot,
// opsdroid, a person) after the next sync. It never goes back to an older value,
// unless somebody redacts the newer one.
//
// A write costs one request. If the value is there already, nothing is written, and
// the request is the question whether that is still so. Writes that meet are sent
// together; each caller gets its own result. What can't be read is never taken for
// "no data" and never overwritten by accident.
//
// Requests are tried again after a failure that may pass, as long as the
// homeserver says and in all at most for Config.Timeout. Homeservers limit how much
// an account sends (Synapse by default to one event in 5 seconds, after a burst of
// 10), so all rooms keep one pace then: what the bot says goes first, then what is
// set and deleted, room by room, and last what nobody waits for. Close waits for the
// writes that were accepted, and until they are known to stand in the room.
//
// Matrix has no compare-and-swap. If two programs write the same dictionary at
// the same moment, one of the two events becomes the room's state, and the other's
// keys are not in it. So every dictionary says when its latest changes were made;
// memories answer from what all events say together, and write that again where
// something else stands in the room. If both write the same key, one of the two
// values stays, the same for all. With single_state_key false, a state event for
// each key, what stands in the room counts. Programs that know nothing of this, as
// opsdroid, may write as well, on an account of their own.
//
// # Local first
//
// With Config.Journal, a file, Set and Delete return once the change is on disk, and
// Get sees it at once. The memory delivers it at the homeserver's pace: of a key that was
// set many times meanwhile, the last value. What is left when the bot ends or is killed is
// delivered after the next start, which needs no homeserver to answer. [Memory.Flush] waits
// for deliveries; [Memory.Pending] says what is left. Keys of joe.Auth, and values of
// encrypted rooms if there is no Config.StoreKey, wait for the homeserver as without.
//
// # Rooms
//
// [Memory.InRoom] gives the memory of any other room that the bot is in.
//
// [Memory.InEventRoom] wraps a handler so that bot.Store is the memory of the
// room that the message came from, on the goroutine that runs the handler.
//
// The keys of joe.Auth (they begin with "joe.permissions.") always stay in the
// default room, as whoever runs another room could otherwise grant themselves
// rights.
//
// # What others change
//
// [Room.Watch] tells what changes in a room, and [Room.History] what a key was, by whom and when. A bot's handlers
// for a [ChangeEvent] hear when somebody else has changed a key.
//
// # Concurrency and errors
//
// Memory and Room are safe for concurrent use, but for Apply and Open, which are
// called once. Values are copied on their way in and out.
//
// Every error of a Memory or a Room is an [*Error]. With errors.Is it can be told
// apart by [ErrClosed] and its like; with errors.As the homeserver's own answer is
// reached, a mautrix.RespError. Neither errors nor logs hold values, passwords,
// tokens or keys.
//
// # Limits
//
// An event has at most 65,536 bytes, some two thousand of which are Matrix's own.
// With single_state_key true, the default, or a name of its own, that is the limit
// of a room's whole memory; with single_state_key false it is the limit of each
// value. What does not fit is refused with [ErrTooLarge] before it is sent.
package matrix
