//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

const (
	maxWithheld       = 100 // of one device, the newest
	maxWithheldReason = 200 // bytes
)

// mayWithhold says whether a user's word counts that a device does not give the bot a key.
// Anybody can send that, of any key in any room, and unencrypted.
func (c *crypt) mayWithhold(ctx context.Context, sender id.UserID, content *event.RoomKeyWithheldEventContent) bool {
	if len(content.SessionID) != session.MegolmIDLength {
		return false
	}
	if ever, err := c.encrypted.ever(content.RoomID); !ever || err != nil {
		return false
	}
	device, err := c.sessions.FindDeviceByKey(ctx, sender, content.SenderKey)
	return device != nil && err == nil
}

// PutWithheldGroupSession notes that a device does not give a key.
func (s *sessions) PutWithheldGroupSession(ctx context.Context, content event.RoomKeyWithheldEventContent) error {
	content.Code = event.RoomKeyWithheldCode(cut(string(content.Code)))
	content.Reason = cut(content.Reason)
	if err := s.SQLCryptoStore.PutWithheldGroupSession(ctx, content); err != nil {
		return err
	}
	_, err := s.DB.Exec(ctx, `DELETE FROM crypto_megolm_inbound_session WHERE session IS NULL AND account_id = $1 AND session_id IN (
		SELECT session_id FROM crypto_megolm_inbound_session WHERE session IS NULL AND account_id = $1 AND sender_key = $2
		ORDER BY rowid DESC LIMIT -1 OFFSET $3)`, s.AccountID, content.SenderKey, maxWithheld)
	return err
}

// cut shortens what somebody gives as a reason.
func cut(reason string) string {
	return reason[:min(len(reason), maxWithheldReason)]
}
