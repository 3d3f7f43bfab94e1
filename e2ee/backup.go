//go:build goolm

package e2ee

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/id"
)

const (
	backupBatch = 100         // sessions in one request
	backupRetry = time.Minute // after an upload that failed
)

// keyBackup sends sessions to the homeserver's key backup as they are made:
// https://spec.matrix.org/v1.16/client-server-api/#server-side-key-backups
type keyBackup struct {
	*crypt
	key     *backup.MegolmBackupKey // nil: there is no backup, or it can't be opened; never changes after Start
	version id.KeyBackupVersion
	wake    chan struct{} // holds an element if there may be something to send

	uploading *semaphore.Weighted // held while sessions are sent
}

func newKeyBackup(c *crypt) *keyBackup {
	return &keyBackup{crypt: c, wake: make(chan struct{}, 1), uploading: semaphore.NewWeighted(1)}
}

// publicKey returns the key that a backup's version bears.
func publicKey(key *backup.MegolmBackupKey) id.Ed25519 {
	return id.Ed25519(base64.RawStdEncoding.EncodeToString(key.PublicKey().Bytes()))
}

// received is told of every session that comes into the store.
func (b *keyBackup) received(context.Context, id.RoomID, id.SessionID, uint32) {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run sends sessions until the context is done.
func (b *keyBackup) run(ctx context.Context) {
	if b.key == nil {
		return
	}
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-again:
		}
		again = nil
		if err := b.upload(ctx); err != nil && ctx.Err() == nil {
			b.log.WithError(err).Warn("Could not send keys to the key backup; trying again in a minute")
			again = time.After(backupRetry)
		}
	}
}

// uploadNow sends what there is to send before a new session is used, so that
// no value is lost with the store. If it fails, the value goes out all the same,
// for which some of its time has to be left.
func (b *keyBackup) uploadNow(ctx context.Context) {
	if b.key == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(requestTimeout, b.conf.Timeout/3))
	defer cancel()
	if err := b.upload(ctx); err != nil {
		b.received(ctx, "", "", 0)
	}
}

// finish makes a last attempt to send what is not sent yet.
func (b *keyBackup) finish() {
	if b.key == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := b.upload(ctx); err != nil {
		b.log.WithError(err).Warn("Could not send keys to the key backup; the next start tries again")
	}
}

// upload sends the sessions that are not in the backup yet.
func (b *keyBackup) upload(ctx context.Context) error {
	if err := b.uploading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer b.uploading.Release(1)
	pending, err := b.sessions.GetGroupSessionsWithoutKeyBackupVersion(ctx, b.version).AsList()
	if err != nil {
		return fmt.Errorf("reading the key store: %w", err)
	}
	b.fetchSenders(ctx, pending)
	for batch := range slices.Chunk(pending, backupBatch) {
		request := &mautrix.ReqKeyBackup{Rooms: make(map[id.RoomID]mautrix.ReqRoomKeyBackup)}
		for _, session := range batch {
			data, err := b.seal(ctx, session)
			if err != nil {
				return fmt.Errorf("encrypting the key %s: %w", session.ID(), err)
			}
			room, ok := request.Rooms[session.RoomID]
			if !ok {
				room.Sessions = make(map[id.SessionID]mautrix.ReqKeyBackupData)
				request.Rooms[session.RoomID] = room
			}
			room.Sessions[session.ID()] = *data
		}
		if err := b.put(ctx, request); err != nil {
			return err
		}
		for _, session := range batch {
			if err := b.sessions.SetGroupSessionKeyBackupVersion(ctx, session.ID(), b.version); err != nil {
				return fmt.Errorf("writing the key store: %w", err)
			}
		}
	}
	return nil
}

// fetchSenders sees to it that the devices of those who sent sessions are known, so
// that it can be noted whose they are. What can't be had now is not noted.
func (b *keyBackup) fetchSenders(ctx context.Context, sessions []*crypto.InboundGroupSession) {
	var senders []id.UserID
	for _, session := range sessions {
		if sender := session.SourceUser; session.KeySource == id.KeySourceDirect && sender != b.client.UserID && !slices.Contains(senders, sender) {
			senders = append(senders, sender)
		}
	}
	if len(senders) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout/2)
	defer cancel()
	if err := b.fetchDevices(ctx, senders); err != nil {
		b.log.WithError(err).Debug("Could not ask for the devices of those whose keys go to the key backup")
	}
}

func (b *keyBackup) put(ctx context.Context, request *mautrix.ReqKeyBackup) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := b.client.PutKeysInBackup(ctx, b.version, request)
	return err
}
