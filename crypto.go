package matrix

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// A Crypto keeps the keys of the bot's device, and encrypts and decrypts values
// with them. Package e2ee has the one there is: this package itself reaches
// neither a cipher nor a database. A Crypto serves one Memory.
type Crypto interface {
	// Open opens the keys, before the bot logs in. It returns the device that they
	// belong to; a login by password uses that device.
	Open(CryptoOptions) (id.DeviceID, error)
	// Start is called once the bot is logged in, before the first sync. If it
	// fails, Close is called.
	Start(context.Context) error
	// Encrypt returns the content of an m.room.encrypted event that only members
	// of the room can read. It may be called concurrently, as may Decrypt.
	Encrypt(ctx context.Context, room id.RoomID, eventType event.Type, content json.RawMessage) (json.RawMessage, error)
	// Decrypt returns what an m.room.encrypted event holds, if it was encrypted
	// with a key that belongs to its sender. If the key is missing, it sees to it
	// that the key is asked for, and a later call may succeed.
	Decrypt(ctx context.Context, evt *event.Event) (eventType string, content json.RawMessage, err error)
	// Close is called after all else, when sync has ended.
	Close() error
}

// CryptoOptions is what a Crypto is opened with.
type CryptoOptions struct {
	Config  Config
	Session *session.Session
	Log     logrus.FieldLogger
}

// WithCrypto makes the memory keep values encrypted in encrypted rooms. It is
// what e2ee.Enable uses.
func WithCrypto(crypto Crypto) Option {
	return func(m *Memory) { m.crypto = crypto }
}

// openCrypto opens the keys, if there is encryption, and has the session log in
// with their device.
func (m *Memory) openCrypto(opts *session.Options) error {
	if m.crypto == nil {
		return nil
	}
	if m.ownClient {
		return errors.New("encryption needs the memory's own connection: leave out either WithClient or WithCrypto")
	}
	device, err := m.crypto.Open(CryptoOptions{Config: *m.conf, Session: m.session, Log: m.log})
	if err != nil {
		return err
	}
	if opts.AccessToken == "" {
		opts.DeviceID = device.String()
	}
	opts.LoggedIn = m.crypto.Start
	return nil
}

// closeCrypto closes the keys, if there is encryption.
func (m *Memory) closeCrypto() {
	if m.crypto == nil {
		return
	}
	if err := m.crypto.Close(); err != nil {
		m.log.WithError(err).Warn("Could not close the key store in good order")
	}
}
