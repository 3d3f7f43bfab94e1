//go:build goolm

package e2ee

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

// sessions is mautrix's store, but for what follows, and what twins.go and withheld.go say.
//
// What the bot encrypts with does not outlive the process if the store may be a copy
// of one that was used on: from a copy it would be used a second time from the same
// place, and receivers take the second message of a place for a forgery. So the
// sessions with devices (olm) are used on only by a start that knows better, see
// [crypt.wake]. Those of rooms (outbound) end with the process in any case: what
// happened in the rooms while the bot was down needs no thought then.
//
// And it takes sessions in only from those who may give them: see mayStore.
type sessions struct {
	*crypto.SQLCryptoStore

	// handedOn says why a session that somebody handed on is not to be taken.
	handedOn func(context.Context, *crypto.InboundGroupSession) error

	mu       sync.Mutex // owns what follows
	outbound map[id.RoomID]*crypto.OutboundGroupSession
	dropped  map[id.RoomID]int                   // how often a room's session was to be dropped
	olm      map[id.SenderKey]*crypto.OlmSession // what to encrypt with for a device
	unsaved  map[id.SessionID]bool               // Olm sessions that the database has not as they are
	ended    bool                                // nothing is encrypted any more
	outdated map[id.UserID]int                   // how often a user's devices were noted as outdated
	anew     int                                 // how often everybody's were
}

func newSessions(store *crypto.SQLCryptoStore) *sessions {
	return &sessions{
		SQLCryptoStore: store,
		outbound:       make(map[id.RoomID]*crypto.OutboundGroupSession),
		dropped:        make(map[id.RoomID]int),
		olm:            make(map[id.SenderKey]*crypto.OlmSession),
		unsaved:        make(map[id.SessionID]bool),
		outdated:       make(map[id.UserID]int),
	}
}

func (s *sessions) AddOutboundGroupSession(_ context.Context, session *crypto.OutboundGroupSession) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbound[session.RoomID] = session
	return nil
}

// UpdateOutboundGroupSession has nothing to do: the session is kept by reference.
func (s *sessions) UpdateOutboundGroupSession(context.Context, *crypto.OutboundGroupSession) error {
	return nil
}

func (s *sessions) GetOutboundGroupSession(_ context.Context, room id.RoomID) (*crypto.OutboundGroupSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outbound[room], nil
}

func (s *sessions) RemoveOutboundGroupSession(_ context.Context, room id.RoomID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.outbound, room)
	s.dropped[room]++
	return nil
}

// ValidateMessageIndex says whether an event is the only one that was ever encrypted with this place
// of a session, and when it was sent. That of an event that the bot itself has sent, and has not
// read again, is not known: it is 0, and fits any.
func (s *sessions) ValidateMessageIndex(ctx context.Context, session id.SessionID, eventID id.EventID, index uint, sent int64) (bool, error) {
	if eventID == "" {
		return false, errors.New("the event has no ID")
	}
	var known id.EventID
	var at int64
	err := s.DB.QueryRow(ctx, `INSERT INTO crypto_message_index (session_id, "index", event_id, timestamp) VALUES ($1, $2, $3, $4)
		ON CONFLICT (session_id, "index") DO UPDATE SET timestamp =
			CASE WHEN crypto_message_index.timestamp = 0 AND crypto_message_index.event_id = excluded.event_id THEN excluded.timestamp ELSE crypto_message_index.timestamp END
		RETURNING event_id, timestamp`, session, index, eventID, sent).Scan(&known, &at)
	return err == nil && known == eventID && (sent == 0 || at == sent), err
}

// changes counts the events in a room that end a session.
func (s *sessions) changes(room id.RoomID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped[room]
}

// MarkTrackedUsersOutdated notes that users' devices have to be asked for again.
func (s *sessions) MarkTrackedUsersOutdated(ctx context.Context, users []id.UserID) error {
	s.mu.Lock()
	for _, user := range users {
		s.outdated[user]++
	}
	s.mu.Unlock()
	return s.SQLCryptoStore.MarkTrackedUsersOutdated(ctx, users)
}

// markAllOutdated notes that everybody's devices have to be asked for again, since nobody
// tells what has changed meanwhile.
func (s *sessions) markAllOutdated(ctx context.Context) error {
	s.mu.Lock()
	s.anew++
	s.mu.Unlock()
	_, err := s.DB.Exec(ctx, `UPDATE crypto_tracked_user SET devices_outdated = TRUE`)
	return err
}

// outdatedCounts returns how often each user's devices were noted as outdated.
func (s *sessions) outdatedCounts(users []id.UserID) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make([]int, len(users))
	for i, user := range users {
		counts[i] = s.outdated[user] + s.anew
	}
	return counts
}

// begin takes over the Olm sessions to encrypt with from the start before, or sees to it
// that none is used.
func (s *sessions) begin(ctx context.Context, resumed bool) error {
	_, err := s.DB.Exec(ctx, `CREATE TABLE IF NOT EXISTS matrix_memory_olm (sender_key TEXT PRIMARY KEY, session_id TEXT NOT NULL)`)
	if err != nil {
		return err
	}
	if !resumed {
		_, err := s.DB.Exec(ctx, `DELETE FROM matrix_memory_olm`)
		return err
	}
	latest, err := s.latest(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for device, sessionID := range latest {
		all, err := s.GetSessions(ctx, device)
		if err != nil {
			return err
		}
		for _, session := range all {
			if session.ID() == sessionID {
				s.olm[device] = session
			}
		}
	}
	return nil
}

// latest returns which Olm sessions the start before encrypted with.
func (s *sessions) latest(ctx context.Context) (map[id.SenderKey]id.SessionID, error) {
	rows, err := s.DB.Query(ctx, `SELECT sender_key, session_id FROM matrix_memory_olm`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	latest := make(map[id.SenderKey]id.SessionID)
	for rows.Next() {
		var device id.SenderKey
		var sessionID id.SessionID
		if err := rows.Scan(&device, &sessionID); err != nil {
			return nil, err
		}
		latest[device] = sessionID
	}
	return latest, rows.Err()
}

// end ends encryption. It says whether there are Olm sessions that the next start may go on
// with.
func (s *sessions) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return len(s.olm) > 0 && len(s.unsaved) == 0
}

// HasSession tells whether there is a session to encrypt with for a device. Where there
// is none, that costs a claim of a one-time key of the device.
func (s *sessions) HasSession(ctx context.Context, device id.SenderKey) bool {
	session, err := s.GetLatestSession(ctx, device)
	return session != nil && err == nil
}

// GetLatestSession returns the session to encrypt with for a device.
func (s *sessions) GetLatestSession(_ context.Context, device id.SenderKey) (*crypto.OlmSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, errors.New("encryption has ended")
	}
	return s.olm[device], nil
}

// UpdateSession stores a session with a device that has encrypted or decrypted something.
// mautrix sends what it has encrypted though this fails.
func (s *sessions) UpdateSession(ctx context.Context, device id.SenderKey, session *crypto.OlmSession) error {
	err := s.SQLCryptoStore.UpdateSession(ctx, device, session)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsaved, session.ID())
	if err != nil {
		s.unsaved[session.ID()] = true
	}
	return err
}

// AddSession stores a new session with a device. Older ones stay for decrypting, at
// most as many as mautrix keeps of a device that sends something.
func (s *sessions) AddSession(ctx context.Context, device id.SenderKey, session *crypto.OlmSession) error {
	if err := s.SQLCryptoStore.AddSession(ctx, device, session); err != nil {
		return err
	}
	// Anybody can begin sessions from keys that no device has, to which nothing is ever sent.
	var known bool
	if err := s.DB.QueryRow(ctx, `SELECT EXISTS(SELECT 1 FROM crypto_device WHERE identity_key = $1)`, device).Scan(&known); err != nil {
		return err
	}
	if known {
		if _, err := s.DB.Exec(ctx, `INSERT INTO matrix_memory_olm (sender_key, session_id) VALUES ($1, $2)
			ON CONFLICT (sender_key) DO UPDATE SET session_id = excluded.session_id`, device, session.ID()); err != nil {
			return err
		}
		s.mu.Lock()
		s.olm[device] = session
		s.mu.Unlock()
	}
	const kept = 2 * crypto.MaxOlmSessionsPerDevice
	all, err := s.GetSessions(ctx, device) // those that decrypted something last come first
	for i := kept; i < len(all); i++ {
		err = errors.Join(err, s.DeleteSession(ctx, device, all[i]))
	}
	return err
}

// DeleteSession forgets a session with a device, and that it could not be saved: the next start
// can't go on with it.
func (s *sessions) DeleteSession(ctx context.Context, device id.SenderKey, session *crypto.OlmSession) error {
	err := s.SQLCryptoStore.DeleteSession(ctx, device, session)
	if err == nil {
		s.mu.Lock()
		delete(s.unsaved, session.ID())
		s.mu.Unlock()
	}
	return err
}

// PutGroupSession stores a session that rooms' events are decrypted with.
func (s *sessions) PutGroupSession(ctx context.Context, session *crypto.InboundGroupSession) error {
	if err := s.mayStore(ctx, session); err != nil {
		return fmt.Errorf("refusing the key %s: %w", session.ID(), err)
	}
	return s.SQLCryptoStore.PutGroupSession(ctx, session)
}

// mayStore says why a session is not to be stored. mautrix asks for the session's
// ID only, which is no secret, and takes whatever comes under it, also from people
// whom nobody has asked.
func (s *sessions) mayStore(ctx context.Context, session *crypto.InboundGroupSession) error {
	if session.KeySource == id.KeySourceForward {
		if err := s.handedOn(ctx, session); err != nil {
			return err
		}
	}
	stored, err := s.find(ctx, session.ID())
	if err != nil || stored == nil {
		return err
	}
	if stored.RoomID != session.RoomID || stored.SenderKey != session.SenderKey || stored.SigningKey != session.SigningKey {
		return errors.New("it is known as that of another room or sender")
	}
	// It may begin earlier, if it leads to what is known.
	place := max(stored.Internal.FirstKnownIndex(), session.Internal.FirstKnownIndex())
	had, err := stored.Internal.Export(place)
	if err != nil {
		return err
	}
	given, err := session.Internal.Export(place)
	if err != nil {
		return err
	}
	if !bytes.Equal(had, given) {
		return errors.New("it does not agree with what is known of it")
	}
	// mautrix takes one that it has for whoever sends it once more, as every member can.
	if session.KeySource == id.KeySourceDirect && session.SourceUser != stored.SourceUser {
		device, err := s.FindDeviceByKey(ctx, session.SourceUser, session.SenderKey)
		if err != nil {
			return err
		}
		if device == nil || device.SigningKey != session.SigningKey {
			return fmt.Errorf("%s sends it as another's", session.SourceUser)
		}
	}
	return nil
}

// find returns a session by its ID, in whatever room it is, or nil.
func (s *sessions) find(ctx context.Context, sessionID id.SessionID) (*crypto.InboundGroupSession, error) {
	var room id.RoomID
	err := s.DB.QueryRow(ctx, `SELECT room_id FROM crypto_megolm_inbound_session WHERE session_id = $1 AND account_id = $2 AND session IS NOT NULL`,
		sessionID, s.AccountID).Scan(&room)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return s.GetGroupSession(ctx, room, sessionID)
}
