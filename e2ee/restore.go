//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

const (
	restoreBatch    = 500                  // sessions in one transaction
	restoreProgress = 5 * time.Second      // between two lines in the log
	restorePace     = 5 * time.Millisecond // to wait for each session of a download, beside a request's time
)

// restore takes over all sessions of the backup, of which there are about count. Many make one
// transaction if the store is the caller's alone. Else none does: it would hold the store while
// it waits for a session that somebody else is decrypting with, who waits for the store.
func (o *openedBackup) restore(ctx context.Context, count int, alone bool) error {
	store := func(ctx context.Context, do func(context.Context) error) error { return do(ctx) }
	if alone {
		store = func(ctx context.Context, do func(context.Context) error) error {
			return o.sessions.DB.DoTxn(ctx, nil, do)
		}
	}
	var all mautrix.RespRoomKeys[entry]
	began := time.Now()
	// The time of an attempt is too short for a large backup: it is only asked to
	// try again.
	if err := o.try(ctx, func(context.Context) error {
		ctx, cancel := context.WithTimeout(mautrix.WithMaxRetries(ctx, 0), requestTimeout+time.Duration(count)*restorePace)
		defer cancel()
		all = mautrix.RespRoomKeys[entry]{}
		_, err := o.client.MakeRequest(ctx, http.MethodGet, o.url(), nil, &all)
		return err
	}); err != nil {
		return fmt.Errorf("fetching the key backup: %w", err)
	}
	type session struct {
		room id.RoomID
		id   id.SessionID
	}
	var sessions []session
	for room, keys := range all.Rooms {
		for sessionID := range keys.Sessions {
			sessions = append(sessions, session{room, sessionID})
		}
	}
	broken, said := 0, began
	for begin := 0; begin < len(sessions); begin += restoreBatch {
		batch := sessions[begin:min(begin+restoreBatch, len(sessions))]
		if err := store(ctx, func(ctx context.Context) error {
			for _, s := range batch {
				data := all.Rooms[s.room].Sessions[s.id].SessionData
				if _, err := o.take(ctx, s.room, s.id, &data, false); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					broken++
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("writing the key store: %w", err)
		}
		if time.Since(said) > restoreProgress {
			said = time.Now()
			o.log.WithField("done", begin+len(batch)).WithField("total", len(sessions)).Info("Restoring keys from the key backup")
		}
	}
	if broken > 0 {
		o.log.WithField("keys", broken).WithField("total", len(sessions)).Warn("Some keys of the key backup can't be used")
	}
	return nil
}

// find takes over one session of the backup; known says that the store has it already, but not
// whose it is. It returns nil if the session can't be had, or was asked for just now.
func (b *keyBackup) find(ctx context.Context, room id.RoomID, sessionID id.SessionID, known bool) *crypto.InboundGroupSession {
	what := "backup of " + sessionID.String()
	from := b.current.Load()
	if from == nil || !b.due(what) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	log := b.log.WithField("room", room.String())
	var answer mautrix.RespKeyBackupData[entry]
	_, err := b.client.MakeRequest(ctx, http.MethodGet, from.url(room.String(), sessionID.String()), nil, &answer)
	switch {
	case errors.Is(err, mautrix.MNotFound): // the key, or the backup
		if b.due("key backup") {
			b.doubt()
		}
		return nil
	case err != nil && ctx.Err() == context.Canceled: // nobody waits for it any more
		b.askSoon(what)
		return nil
	case err != nil:
		b.askSoon(what)
		log.WithError(err).Warn("Could not look for a missing key in the key backup; the next read tries again")
		return nil
	}
	session, err := from.take(ctx, room, sessionID, &answer.SessionData, known)
	if err != nil {
		log.WithError(err).Warn("A missing key is in the key backup, and can't be used")
		return nil
	}
	return session
}

// url returns the address of what is in the backup:
// https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3room_keyskeys
func (o *openedBackup) url(path ...any) string {
	return o.client.BuildURLWithQuery(append(mautrix.ClientURLPath{"v3", "room_keys", "keys"}, path...), map[string]string{"version": string(o.version)})
}
