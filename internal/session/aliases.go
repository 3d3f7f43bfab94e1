package session

import (
	"errors"
	"maps"
	"time"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix/id"
)

// remember takes over which rooms aliases stood for before, and has the homeserver asked
// again: an alias may have been moved.
func (s *Session) remember(aliases map[string]id.RoomID) {
	aliases = maps.Clone(aliases)
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.aliases, aliases)
	for alias := range aliases {
		s.unsure[alias] = true
	}
	s.tasks.Go(func() { s.renew(aliases) })
}

// renew asks which rooms aliases stand for by now, once the session is connected. One that can't
// be had goes on to mean what it did.
func (s *Session) renew(aliases map[string]id.RoomID) {
	defer Survive(s.Log, "looking up aliases")
	if s.Reach(s.life) != nil {
		return
	}
	for alias, before := range aliases {
		_, err := s.askAlias(s.life, alias)
		for pause := backOff(time.Second, time.Minute); err != nil && MayPass(err) && s.life.Err() == nil; {
			select {
			case <-time.After(pause.NextBackOff()):
				_, err = s.askAlias(s.life, alias)
			case <-s.life.Done():
			}
		}
		log := s.Log.WithFields(logrus.Fields{"alias": alias, "room": before.String()})
		switch {
		case s.life.Err() != nil:
			return
		case errors.Is(err, ErrUnknownRoom):
			log.WithError(err).Warn("An alias that the bot knows is gone; it goes on to mean the room that it did, while the bot can use that")
		case err != nil:
			log.WithError(err).Warn("An alias that the bot knows could not be looked up; it goes on to mean the room that it did")
		}
		s.mu.Lock()
		delete(s.unsure, alias)
		s.mu.Unlock()
	}
}

// HasAlias says whether an alias is known that leads to a room.
func (s *Session) HasAlias(room id.RoomID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, known := range s.aliases {
		if known == room {
			return true
		}
	}
	return false
}
