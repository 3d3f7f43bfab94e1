//go:build goolm

package e2ee

import (
	"context"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// Load implements bridge.Crypto.
func (c *crypt) Load(user id.UserID, waiting bool) error {
	if err := c.store.mayBelongTo(user, ""); err != nil {
		return err
	}
	if c.store.user == "" && waiting && c.conf.RecoveryKey == "" {
		return fmt.Errorf("changes of encrypted rooms wait in the journal, and there is no %s that the bot has used: set store_path to where it is, "+
			"or put a good copy there; if it is lost, set recovery_key to go on with new keys; without one, the journal has to be moved away", c.store.path(keysFile))
	}
	c.behind = true
	c.attach()
	if c.store.user == "" { // there is nothing in it
		return nil
	}
	return c.load(context.Background(), c.store.user, c.store.device)
}

// load makes what is in the store of a device of use, unless it is, or says that the store is
// another device's.
func (c *crypt) load(ctx context.Context, user id.UserID, device id.DeviceID) error {
	if err := c.store.belongTo(ctx, user, device); err != nil || c.loaded.Load() {
		return err
	}
	store := crypto.NewSQLCryptoStore(c.store.db, nil, "", device, c.store.pickleKey)
	if err := store.DB.Upgrade(ctx); err != nil {
		return fmt.Errorf("preparing the key store %s: %w", c.store.dir, err)
	}
	c.sessions = newSessions(store)
	c.sessions.handedOn = c.handedOn
	c.machine = c.newMachine(user, device, c.attach())
	c.backup = newKeyBackup(c)
	c.machine.SessionReceived = c.received
	if err := c.machine.Load(ctx); err != nil {
		return c.store.damaged(fmt.Errorf("the device's own keys can't be read: %w", err))
	}
	if err := c.loadEncrypted(ctx); err != nil {
		return err
	}
	if c.behind { // see judge; from the store alone, as the machine has no homeserver yet
		_, _ = c.machine.GetOwnCrossSigningPublicKeys(ctx)
	}
	c.loaded.Store(true)
	return nil
}

// attach has the client encrypt by this, whoever uses it, and returns what the client and the
// machine know of rooms.
func (c *crypt) attach() states {
	if known, ok := c.client.StateStore.(states); ok {
		return known
	}
	known := states{mautrix.NewMemoryStateStore().(*mautrix.MemoryStateStore), c.encrypted}
	c.client.StateStore, c.client.Crypto = known, helper{c}
	return known
}

func (c *crypt) loadEncrypted(ctx context.Context) error {
	if err := c.encrypted.load(ctx, c.store.db, c.machine.OwnIdentity()); err != nil {
		return fmt.Errorf("the key store %s: which rooms are encrypted: %w", c.store.dir, err)
	}
	return nil
}

// isLate says whether what was sent to the device while the bot was away may still come.
func (c *crypt) isLate() bool {
	select {
	case <-c.caughtUp:
		return false
	default:
		return c.behind && !c.session.IsSyncing() // which would wait for itself
	}
}

// catchUp waits until that has come.
func (c *crypt) catchUp(ctx context.Context) error {
	if err := c.session.Reach(ctx); err != nil {
		return err
	}
	select {
	case <-c.caughtUp:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the first sync has not brought it so far: %w", ctx.Err())
	case <-c.ctx.Done():
		return session.ErrClosed
	}
}

// usable waits until what is in the store can be used: until the bot is connected, where the store
// was in no use before.
func (c *crypt) usable(ctx context.Context) error {
	if c.loaded.Load() {
		return nil
	}
	return c.session.Reach(ctx)
}
