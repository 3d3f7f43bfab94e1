// Package adapter makes Matrix the chat of a Joe bot, on the connection that its
// memory has already: one login, one device, one sync.
//
//	memory := matrix.New(conf)
//	bot := joe.New("example", memory, adapter.New(memory))
//
// # What the bot hears
//
// Every message that somebody sends to a room that the bot is in becomes a
// joe.ReceiveMessageEvent: ID is the event ID, Text the message, AuthorID the
// sender's user ID, Channel the room ID, and Data the *event.Event of mautrix,
// decrypted and parsed. Text has no reply fallback, and not the bot's own name or
// user ID, or a link to it, in front if the message begins by addressing it. Of a file, Text is the
// caption, and "" without one. Besides, these are emitted:
//
//   - reactions.Event when somebody reacts. Its Reaction has only the Unicode
//     form, Raw, spelled as joe's own are, as Matrix has no short codes.
//   - joe.UserTypingEvent when somebody begins to type. ID is the user ID, Name
//     its local part, RealName the display name.
//   - [EditEvent], [RedactionEvent], [JoinEvent], [LeaveEvent], [InvitationEvent],
//     [UpgradeEvent].
//
// People can put anything into an event. What is of a wrong type in it, as mentions that
// are no list, is passed over: in Content.Parsed of the *event.Event it is left out, and in
// Content.Raw it stands as it was sent. Where nothing is left that says something, as in a message
// whose text is a number, the event is not heard, and the log says so at debug. The bot's name is
// recognised whatever invisible characters (Unicode's format characters) are around it.
//
// The bot does not hear itself, other bots (m.notice; Matrix spec, "m.notice"),
// or what was said before it started. What is said between joe.New and Bot.Run is
// heard once it runs. After trouble with the homeserver, or a pause, what was
// missed is fetched and comes once and in its room's order: up to 500 messages
// and the like in a room, or 5,000 events of any kind, as a memory's own; else
// the log says that some were skipped. So it is when the bot's handlers take longer
// than people write: of each room, up to 500 events and the like wait, which the log says, and then
// what was said last is fetched. Rooms take turns. When the bot is told to stop, joe
// finishes the event that it has; what waits then is not answered. What was said while the bot
// was not running, or what it had not answered yet when it was killed, is not
// answered, for a chat does not wait; and in a room that it has just joined,
// nothing from before it joined is.
//
// In rooms with three or more members, [WithMentionsOnly] makes the bot hear only
// what is meant for it.
//
// # What the bot says
//
// The channel of Send and of Bot.Say is a name from Config.Rooms, an alias or a
// room ID. The text is Markdown, but without definitions of links, as
// "[INFO]: done" would be one; HTML in it is shown as it stands, and so are links
// that Matrix does not allow, as those to javascript: are, and images that are not in
// Matrix (mxc:). It goes out as it
// is and, where that makes a difference, formatted (Matrix spec, "formatted_body"):
// as an m.notice, so that other bots don't answer, or as m.text with
// [WithTextMessages]. Invalid UTF-8 and NUL become U+FFFD. A text that is too long for
// an event, or takes too long to format, is cut at line ends,
// and a code block that is cut goes on as one; tables of more than 20,000 cells are no
// tables, and a text that nests more than 50 quotes and lists in a line is not
// formatted. Each part is sent with a
// transaction ID of its own (Matrix spec, "Transaction identifiers"), tried again as
// the memory tries, and said only once. Send returns when the homeserver has taken
// all parts, or with an error once Config.Timeout is over, as React does. Where the homeserver
// limits how much the account sends, that goes before what the memory writes.
//
// A message in a thread is answered in its thread. Joe does not tell an
// adapter what it answers, but handles one event at a time: so what is sent to
// the message's room while its handlers run goes to its thread, also by another
// goroutine. What a handler sends later than joe waits for it (see
// joe.WithHandlerTimeout), or from a goroutine that outlives it, goes to the room
// itself, or to the thread of a message there that is being handled by then.
//
// # What others said
//
// A link to a user in what the bot says mentions that user, who is notified, as
// "[Alice](https://matrix.to/#/@alice:example.org)" does. But what the bot says while a
// message, or an edit of one, is handled mentions nobody whom that names by user ID, as links do,
// but for its author: else whoever writes to the bot could have it ping others. "@room"
// notifies nobody. What others gave the bot and it says at another time, as the name in a
// [JoinEvent] or what it remembers, and what is not meant to be formatted, should go
// through [Escape], which shows it as it stands:
//
//	bot.Say(event.Channel, "Welcome, %s!", adapter.Escape(event.Name))
//
// # Invitations
//
// The bot joins when it is invited by someone on its own homeserver, also if the
// invitation came before it started. [WithInvitesFrom] and
// [WithInvitesFromAnyone] change that. It also joins the rooms of Config.Rooms and
// the default room, whoever invites it there. Any other invitation it rejects, which is
// logged once for each inviter, or leaves until the next start if the homeserver does not
// take that; see below for those to rooms that take the place of others. It joins up to eight
// rooms at the same time, and rejects one invitation at a time, when there are none to follow.
//
// # Upgraded rooms
//
// When a room is upgraded, which means that another room takes its place (Matrix spec,
// client-server API, "Room upgrades"), the bot follows there, unless Config.FollowUpgrades is off. It
// follows if whoever sent the room's tombstone could change the power levels there, and if
// the new room itself says which one it replaces; else it stays, and the log says why. An
// [UpgradeEvent] tells the bot once that it has followed, before it hears anything else from the new
// room. Where a room was upgraded while the bot was not running, it follows at its start; if it
// is in the new room by then, it is told nothing.
//
// If the bot has to be invited to the new room, the log says so, and it accepts that
// invitation, whoever sends it. It may also be invited before the old room's tombstone is sent, as
// where people upgrade a room by hand: an invitation to a room that says it replaces
// one that the bot is in is not rejected, and the bot joins once the tombstone says the same. What
// else keeps it from joining and may pass, as that a homeserver can't be reached, makes it
// try again every ten minutes.
//
// What the bot says to a name or an alias of the old room goes to the new one from then on. Under
// the old room's ID that is meant itself, so that who still asks there is answered there, if the
// room lets the bot.
//
// # Encrypted rooms
//
// With package e2ee the bot reads and writes in encrypted rooms like in others. Of
// what is encrypted, it hears messages, edits and reactions only: whether a redaction is allowed,
// or who has joined, a homeserver can't check in there.
//
// A message's key comes by another way, and may be late. So that the order of the room is kept, the
// message and those after it wait for it: a second, and five seconds a minute in all. Then it is
// set aside, with those after it that have the same key, and heard out of order once the key comes. After
// ten minutes, or when a room has more than a hundred such messages, it is not heard, and the log says so; of
// many, those of whoever sent most go first.
//
// Without package e2ee, it says once a room in the log that it can't read there, and Send
// and React return matrix.ErrNoEncryption: nothing goes out in the clear. With package e2ee a room that
// was encrypted once stays so for the bot, whatever the homeserver says after that.
//
// A reaction goes in the clear, as every client's does, since the homeserver
// counts reactions by what they say: it sees the emoji, and to which message.
//
// # A program's own client
//
// With matrix.WithClient, call [New] before the client syncs, and let
// the filter of its syncer pass what the adapter needs, which is said if it does not.
// If its first sync starts from a token that the program kept, the time at
// the homeserver decides what was said before the start: in what that sync
// brings, and where it or the first later news of a room left something out.
//
// No text of a message is ever logged.
package adapter
