//go:build goolm

package e2ee

import (
	"context"
	"sync"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

// sessions is mautrix's store with the sessions that the bot encrypts with kept
// out of the database. They end with the process: if one outlived it, a store
// that was restored from a copy would use it a second time from the same place,
// and receivers take the second event of a place for a forgery. Besides, what
// happened in the rooms while the bot was down needs no thought then.
type sessions struct {
	*crypto.SQLCryptoStore

	mu       sync.Mutex // owns what follows
	outbound map[id.RoomID]*crypto.OutboundGroupSession
	dropped  map[id.RoomID]int // how often a room's session was to be dropped
}

func newSessions(store *crypto.SQLCryptoStore) *sessions {
	return &sessions{
		SQLCryptoStore: store,
		outbound:       make(map[id.RoomID]*crypto.OutboundGroupSession),
		dropped:        make(map[id.RoomID]int),
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

// changes counts the events in a room that end a session.
func (s *sessions) changes(room id.RoomID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped[room]
}
