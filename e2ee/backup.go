//go:build goolm

package e2ee

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync/atomic"
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
	current atomic.Pointer[openedBackup] // nil: there is no backup, or it can't be opened
	doubted atomic.Bool                  // the current one may not be the account's any more
	wake    chan struct{}                // holds an element if there may be something to send

	uploading *semaphore.Weighted // held while sessions are sent
}

// An openedBackup is a version of the account's key backup, with the key that opens it.
// It does not change.
type openedBackup struct {
	*crypt
	key     *backup.MegolmBackupKey
	version id.KeyBackupVersion
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

// doubt has it looked up which backup the account has now.
func (b *keyBackup) doubt() {
	b.doubted.Store(true)
	b.received(context.Background(), "", "", 0)
}

// adopt uses a backup from now on. Before that, its key stands in the store.
func (b *keyBackup) adopt(ctx context.Context, key *backup.MegolmBackupKey, version id.KeyBackupVersion) (*openedBackup, error) {
	if err := b.saveSecret(ctx, id.SecretMegolmBackupV1, key.Bytes()); err != nil {
		return nil, err
	}
	opened := &openedBackup{b.crypt, key, version}
	b.current.Store(opened)
	return opened, nil
}

// run sends sessions until the context is done.
func (b *keyBackup) run(ctx context.Context) {
	if b.machine.CrossSigningKeys == nil && b.current.Load() == nil { // no backup of the account is the bot's to use
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
		if err := b.send(ctx); err != nil && ctx.Err() == nil {
			b.log.WithError(err).Warn("Could not send keys to the key backup; trying again in a minute")
			again = time.After(backupRetry)
		}
	}
}

// send sends what there is to send, to another backup where the account has one now.
func (b *keyBackup) send(ctx context.Context) error {
	if b.current.Load() == nil && b.due("key backup") {
		b.doubted.Store(true)
	}
	if b.doubted.Load() {
		if err := b.reopen(ctx); err != nil {
			return err
		}
	}
	err := b.upload(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// It may be another client that has replaced the backup. Not each homeserver says so.
	before := b.current.Load()
	if b.reopen(ctx) != nil || b.current.Load() == before {
		return err
	}
	return b.upload(ctx)
}

// uploadNow sends what there is to send before a new session is used, so that
// no value is lost with the store. If it fails, the value goes out all the same,
// for which some of its time has to be left.
func (b *keyBackup) uploadNow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(requestTimeout, b.conf.Timeout/3))
	defer cancel()
	if err := b.upload(ctx); err != nil {
		b.received(ctx, "", "", 0)
	}
}

// finish makes a last attempt to send what is not sent yet.
func (b *keyBackup) finish() {
	ctx, cancel := b.session.Parting(requestTimeout)
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
	to := b.current.Load()
	if to == nil {
		return nil
	}
	pending, err := b.sessions.GetGroupSessionsWithoutKeyBackupVersion(ctx, to.version).AsList()
	if err != nil {
		return fmt.Errorf("reading the key store: %w", err)
	}
	b.fetchSenders(ctx, pending)
	for batch := range slices.Chunk(pending, backupBatch) {
		request := &mautrix.ReqKeyBackup{Rooms: make(map[id.RoomID]mautrix.ReqRoomKeyBackup)}
		for _, session := range batch {
			data, err := to.seal(ctx, session)
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
		if err := to.put(ctx, request); err != nil {
			return err
		}
		for _, session := range batch {
			if err := b.sessions.SetGroupSessionKeyBackupVersion(ctx, session.ID(), to.version); err != nil {
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

func (o *openedBackup) put(ctx context.Context, request *mautrix.ReqKeyBackup) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := o.client.PutKeysInBackup(ctx, o.version, request)
	return err
}
