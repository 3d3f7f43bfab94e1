//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// encryptedRooms are the rooms that were ever encrypted. They are kept in the key store
// and never taken back, since a room never becomes unencrypted again
// (https://spec.matrix.org/v1.16/client-server-api/#mroomencryption), and a homeserver that
// hides it after a restart would else be sent what it must not read.
type encryptedRooms struct {
	mu   sync.Mutex       // owns what follows
	db   *dbutil.Database // nil: they are not loaded
	all  map[id.RoomID]bool
	said map[id.RoomID]bool // it was warned that the homeserver says otherwise
}

// errUnknownWhether says that rooms could be encrypted without the bot knowing.
var errUnknownWhether = errors.New("the key store was in no use so far, so that which rooms are encrypted is known once the bot is connected")

func newEncryptedRooms() *encryptedRooms {
	return &encryptedRooms{all: make(map[id.RoomID]bool), said: make(map[id.RoomID]bool)}
}

// load reads which rooms were ever encrypted. Stores of earlier versions say it by the
// sessions that a device of the account, own, has made for a room, as a restored backup does.
func (e *encryptedRooms) load(ctx context.Context, db *dbutil.Database, own *id.Device) error {
	if _, err := db.Exec(ctx, `CREATE TABLE IF NOT EXISTS matrix_memory_encrypted (room_id TEXT PRIMARY KEY)`); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, `INSERT OR IGNORE INTO matrix_memory_encrypted SELECT DISTINCT room_id FROM crypto_megolm_inbound_session
		WHERE session IS NOT NULL AND (sender_key = $1 OR source_user = $2)`, own.IdentityKey, own.UserID); err != nil {
		return err
	}
	rows, err := db.Query(ctx, `SELECT room_id FROM matrix_memory_encrypted`)
	rooms, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.RoomID], err).AsList()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.db = db
	for _, room := range rooms {
		e.all[room] = true
	}
	return nil
}

// note keeps that a room is encrypted.
func (e *encryptedRooms) note(ctx context.Context, room id.RoomID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.all[room]:
		return nil
	case e.db == nil:
		return errUnknownWhether
	}
	if _, err := e.db.Exec(ctx, `INSERT OR IGNORE INTO matrix_memory_encrypted VALUES ($1)`, room); err != nil {
		return fmt.Errorf("noting in the key store that the room is encrypted: %w", err)
	}
	e.all[room] = true
	return nil
}

// ever says whether a room was ever encrypted.
func (e *encryptedRooms) ever(room id.RoomID) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.db == nil {
		return true, errUnknownWhether
	}
	return e.all[room], nil
}

// first says whether it is asked of a room for the first time.
func (e *encryptedRooms) first(room id.RoomID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := !e.said[room]
	e.said[room] = true
	return first
}

// Encrypted implements room.Cipher.
func (c *crypt) Encrypted(room id.RoomID, now bool) (bool, error) {
	if now {
		return true, c.encrypted.note(c.ctx, room)
	}
	ever, err := c.encrypted.ever(room)
	if ever && err == nil && c.encrypted.first(room) {
		c.log.WithField("room", room.String()).Warn("The homeserver says that the room is not encrypted, and it was: " +
			"the bot goes on to encrypt there. Ask who runs the homeserver; to have a room in the clear, make a new one")
	}
	return ever, err
}

// noteEncrypted takes over which rooms a sync says to be encrypted.
func (c *crypt) noteEncrypted(ctx context.Context, response *mautrix.RespSync, _ string) bool {
	for room, news := range response.Rooms.Join {
		if !session.BecomesEncrypted(news) {
			continue
		}
		if err := c.encrypted.note(ctx, room); err != nil && ctx.Err() == nil { // who sends something tries again
			c.log.WithField("room", room.String()).WithError(err).Error("Could not take over that a room is encrypted")
		}
	}
	return true
}
