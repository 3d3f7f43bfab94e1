package matrix

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A Pending says how much of what was acknowledged the homeserver does not have yet. Of a
// memory without a journal, nothing is ever pending.
type Pending struct {
	// Changes is how many keys have a change that is not delivered, in all rooms together,
	// those that are refused included.
	Changes int
	// Refused is how many of them the homeserver has refused, as those of a room that the
	// bot may not write in any more. They stay in the journal, Get answers from them, and
	// they are tried again when that may help; the log has said why, and what to do. What a
	// copy of a journal held when it was copied counts here, too, and does neither.
	Refused int
	// Since is when the oldest of the changes was made. It is zero if there is none.
	Since time.Time
}

// Pending says how much is not delivered yet. It asks nobody, and works on a memory that
// is closed, too: then it says what the next start will deliver.
func (m *Memory) Pending() Pending {
	if m.journal == nil {
		return Pending{}
	}
	waiting, refused, since := m.journal.Pending()
	return Pending{Changes: waiting + refused, Refused: refused, Since: since}
}

// Flush waits until all that was acknowledged before the call is delivered, or was changed
// again since, or the context is done; then the error says what keeps the rest. What the
// homeserver refuses is not waited for: it is an error that says which rooms and keys that
// is about; so are the changes of a copy, and a journal that has failed. A memory without a
// journal has nothing to wait for, as its changes are acknowledged once they are delivered.
// It may be called concurrently with anything; while somebody waits for it, deliveries go
// as often as the homeserver lets them.
func (m *Memory) Flush(ctx context.Context) error {
	if _, err := m.homeRoom(); err != nil {
		return fail("flush", "", "", err)
	}
	if m.journal == nil {
		return fail("flush", "", "", ctx.Err())
	}
	for last := m.journal.Last(); ; {
		if err := m.rooms.Flush(ctx); err != nil {
			return fail("flush", "", "", err)
		}
		if err := m.refused(); err != nil {
			return fail("flush", "", "", err)
		}
		if !m.journal.Holds(last) { // else what was refused is tried again just now
			return nil
		}
	}
}

// refused says what the homeserver refuses, if it does.
func (m *Memory) refused() error {
	var all []error
	for _, roomID := range m.journal.Refused() {
		for _, change := range m.journal.Changes(roomID) {
			if change.Refused != "" {
				all = append(all, fmt.Errorf("%q in room %s: %s", change.Key, roomID, change.Refused))
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("some changes can't be delivered: %w", errors.Join(all...))
}

// openJournal opens the journal, if there is to be one.
func (m *Memory) openJournal() (err error) {
	if m.conf.Journal == "" {
		return nil
	}
	account := m.conf.UserID
	if m.foreign {
		account = m.client.UserID.String()
	}
	m.journal, err = journal.Open(m.conf.Journal, journal.Options{Account: account, Key: m.conf.StoreKey, Log: m.log})
	return err
}

// closeJournal closes it. It stays readable, for Pending.
func (m *Memory) closeJournal() {
	if m.journal == nil {
		return
	}
	if seen, err := m.journal.Note(tokenBefore); err == nil && m.session.IsConnected() && seen != m.tokenDigest() {
		_ = m.noteAccount() // a journal that failed has said so
	}
	if err := m.journal.Close(); err != nil {
		m.log.WithError(err).Warn("Could not close the journal in good order")
	}
}

// The notes of a memory that has been open with a journal: which account it was, and what tells
// whether the access token is still the one that it connected with last.
const (
	connectedBefore = "connected"
	tokenBefore     = "token"
)

// connect connects to the homeserver: in the background where the journal knows enough to
// go on from.
func (m *Memory) connect(ctx context.Context, opts session.Options) error {
	if m.journal == nil {
		return m.session.Open(ctx, opts)
	}
	before, err := m.journal.Note(connectedBefore)
	if err != nil {
		return err
	}
	if before == "" {
		if err := m.session.Open(ctx, opts); err != nil {
			return err
		}
		return m.noteAccount()
	}
	user := id.UserID(before)
	if m.conf.UserID != "" && m.conf.UserID != before {
		return fmt.Errorf("the journal %s belongs to the account %s, and the bot is %s: give each account a file of its own", m.conf.Journal, before, m.conf.UserID)
	}
	if m.crypto != nil {
		if err := m.crypto.Load(user, m.rooms.HoldSealed()); err != nil {
			return err
		}
	}
	aliases, err := m.journal.Aliases()
	if err != nil {
		return err
	}
	known := session.Known{User: user, Aliases: make(map[string]id.RoomID, len(aliases))}
	for alias, roomID := range aliases {
		known.Aliases[alias] = id.RoomID(roomID)
	}
	if err := m.session.OpenBehind(opts, known); err != nil {
		return err
	}
	return m.confirmAccount(ctx)
}

// noteAccount notes which account the memory is connected as.
func (m *Memory) noteAccount() error {
	return m.journal.Save(journal.Known{Notes: map[string]string{
		connectedBefore: m.session.Client().UserID.String(), tokenBefore: m.tokenDigest(),
	}})
}

// tokenDigest tells access tokens apart, which can't be guessed from it.
func (m *Memory) tokenDigest() string {
	digest := sha256.Sum256([]byte(m.conf.AccessToken))
	return base64.RawStdEncoding.EncodeToString(digest[:])
}

// confirmAccount asks whose an access token is that the journal has not seen, where mxid does not
// say it. If nobody answers, the journal's account counts until somebody does.
func (m *Memory) confirmAccount(ctx context.Context) error {
	seen, err := m.journal.Note(tokenBefore)
	if err == nil && (m.foreign || m.conf.UserID != "" || seen == m.tokenDigest()) {
		return nil
	}
	if err == nil {
		err = m.session.Confirm(ctx)
	}
	if err == nil && m.session.IsConnected() {
		err = m.noteAccount()
	}
	if err != nil {
		m.session.Close()
		return fmt.Errorf("the journal %s: %w", m.conf.Journal, err)
	}
	return nil
}

// learnt keeps which room an alias leads to.
func (m *Memory) learnt(alias string, roomID id.RoomID) {
	if m.journal != nil {
		_ = m.journal.Save(journal.Known{Aliases: map[string]string{alias: roomID.String()}}) // a journal that failed has said so
	}
}

// lastDeliveries delivers what it can before the memory closes, in two thirds of its time: what
// was begun needs the rest.
func (m *Memory) lastDeliveries(ctx context.Context) {
	if m.journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.conf.Timeout*2/3)
	defer cancel()
	if err := m.rooms.Flush(ctx); err != nil {
		m.log.WithError(err).Warn("Not all that the journal holds was delivered; the next start does that")
	}
}
