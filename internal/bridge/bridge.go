// Package bridge gives packages adapter and e2ee, and the operator's tool, what a matrix.Memory does not show
// its users. A Memory is an any here, because package matrix imports this one: it
// sets the variables before anybody can have a Memory.
package bridge

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/session"
)

// Session returns the connection of a *matrix.Memory.
var Session func(memory any) *session.Session

// Outlet returns what hands a *matrix.Memory's events to its bot.
var Outlet func(memory any) *outlet.Outlet

// Encrypt makes a *matrix.Memory that is not open yet keep values encrypted in
// encrypted rooms.
var Encrypt func(memory any, crypto Crypto)

// Encrypted is told whether a room's state says that the room is encrypted, and returns
// whether it has ever said so, as far as the *matrix.Memory keeps that: without encryption
// it keeps nothing.
var Encrypted func(memory any, room id.RoomID, now bool) (bool, error)

// Trust makes a *matrix.Memory that is not open yet answer from its journal who may do what, though that
// may have been changed since: for a program that moves what is there, and grants nobody anything.
var Trust func(memory any)

// A Crypto keeps the keys of the bot's device, and encrypts and decrypts values with
// them. Package e2ee has the one there is: package matrix itself reaches neither a
// cipher nor a database. A Crypto serves one Memory.
type Crypto interface {
	room.Cipher
	// Open opens the keys, before the bot logs in. It returns the device that they
	// belong to; a login by password uses that device.
	Open(CryptoOptions) (id.DeviceID, error)
	// Load makes the keys of use that the account had before, for a bot that connects behind: it
	// is called after Open, and decrypts from then on what it can. What it can't, and what is to
	// be encrypted, waits until the bot is connected. Where changes of encrypted rooms wait for
	// their delivery, a key store that is new is an error: it is not the one that the bot had.
	Load(user id.UserID, waiting bool) error
	// Start is called once the bot is logged in, before the first sync. If it
	// fails, Close is called; for a bot that connects behind, it is called again.
	Start(context.Context) error
	// LoggedInAgain says that the homeserver had logged the bot's device out, and may have
	// forgotten its keys. It makes no request, and may be called concurrently with anything,
	// also before Start.
	LoggedInAgain()
	// Close is called after all else, when sync has ended.
	Close() error
}

// CryptoOptions is what a Crypto is opened with.
type CryptoOptions struct {
	// As in matrix.Config.
	UserID, Password, AccessToken, DeviceID string
	StorePath, StoreKey, RecoveryKey        string
	Timeout                                 time.Duration

	Session *session.Session // is not open yet
	Log     logrus.FieldLogger
}
