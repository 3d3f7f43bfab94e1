//go:build goolm

package e2ee

import (
	"context"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto/olm"
	"maunium.net/go/mautrix/id"
)

// Anybody can publish a device, signed with a key of their own, that has the identity key of
// somebody else's. Olm sessions are kept by that key, and one that is made with the one-time key
// of such a twin nobody can decrypt: it must not take the place of one with the true owner.
//
// What tells is a session by which something was decrypted: that takes the private key.
// Devices that are gone count, or a twin could come, leave its session, and go.
const contested = `SELECT identity_key FROM crypto_device GROUP BY identity_key HAVING count(*) > 1`

// isContested says whether more than one device has an identity key.
func (s *sessions) isContested(ctx context.Context, key id.IdentityKey) (is bool, err error) {
	err = s.DB.QueryRow(ctx, `SELECT count(*) > 1 FROM crypto_device WHERE identity_key = $1`, key).Scan(&is)
	return is, err
}

// forgetUnproven lets go of the sessions of contested keys by which nothing was ever decrypted,
// so that each device with such a key is asked anew for a one-time key of its own.
func (s *sessions) forgetUnproven(ctx context.Context) error {
	rows, err := s.DB.Query(ctx, `SELECT sender_key, session_id, session FROM crypto_olm_session
		WHERE account_id = $1 AND sender_key IN (`+contested+`)`, s.AccountID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key id.SenderKey
		var sessionID id.SessionID
		var pickled []byte
		if err := rows.Scan(&key, &sessionID, &pickled); err != nil {
			return err
		}
		// A copy: the machine may be using the session.
		stored, err := olm.SessionFromPickled(pickled, s.PickleKey)
		if err != nil {
			return err
		}
		if stored.HasReceivedMessage() {
			continue
		}
		s.mu.Lock()
		if session := s.olm[key]; session != nil && session.ID() == sessionID {
			delete(s.olm, key)
		}
		s.mu.Unlock()
	}
	return rows.Err()
}

// twins returns which of the devices that are asked for one-time keys have the identity key of
// another one of them that was known before.
func (s *sessions) twins(ctx context.Context, asked mautrix.OneTimeKeysRequest) (map[id.UserID]map[id.DeviceID]bool, error) {
	rows, err := s.DB.Query(ctx, `SELECT user_id, device_id, identity_key FROM crypto_device WHERE identity_key IN (`+contested+`) ORDER BY rowid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	twins := make(map[id.UserID]map[id.DeviceID]bool)
	first := make(map[id.IdentityKey]bool)
	for rows.Next() {
		var user id.UserID
		var device id.DeviceID
		var key id.IdentityKey
		if err := rows.Scan(&user, &device, &key); err != nil {
			return nil, err
		}
		if _, is := asked[user][device]; !is {
			continue
		}
		if first[key] {
			if twins[user] == nil {
				twins[user] = make(map[id.DeviceID]bool)
			}
			twins[user][device] = true
		}
		first[key] = true
	}
	return twins, rows.Err()
}
