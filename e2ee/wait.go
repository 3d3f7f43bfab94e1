//go:build goolm

package e2ee

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"
)

// waiters are those who wait for sessions. mautrix keeps its own until the session comes, and
// anybody can send events with sessions that never do. crypt.mu owns them.
type waiters map[id.SessionID]map[chan struct{}]bool

// waitForSession waits until a session is there. One that is said to be withheld may still
// come: its ID is no secret, and anybody can say that.
func (c *crypt) waitForSession(ctx context.Context, room id.RoomID, sessionID id.SessionID, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if c.usable(ctx) != nil {
		return false
	}
	came := make(chan struct{}, 1)
	c.mu.Lock()
	if c.waiters[sessionID] == nil {
		c.waiters[sessionID] = make(map[chan struct{}]bool)
	}
	c.waiters[sessionID][came] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiters[sessionID], came)
		if len(c.waiters[sessionID]) == 0 {
			delete(c.waiters, sessionID)
		}
	}()
	// Also with a timeout of 0, by which it is asked whether it is there now.
	there := func() bool {
		session, err := c.sessions.GetGroupSession(context.WithoutCancel(ctx), room, sessionID)
		return session != nil && err == nil
	}
	for !there() {
		select {
		case <-came:
		case <-ctx.Done():
			return there()
		}
	}
	return true
}

// received is told of every session that comes into the store.
func (c *crypt) received(ctx context.Context, room id.RoomID, sessionID id.SessionID, index uint32) {
	c.mu.Lock()
	delete(c.wanted, sessionID)
	for came := range c.waiters[sessionID] {
		select {
		case came <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()
	c.backup.received(ctx, room, sessionID, index)
}
