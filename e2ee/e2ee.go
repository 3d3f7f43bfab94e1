//go:build goolm

package e2ee

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sirupsen/logrus"
	"go.mau.fi/util/exsync"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/session"
)

// Enable makes a memory keep values encrypted in encrypted rooms. It needs
// Config.StorePath.
func Enable() matrix.Option {
	return func(m *matrix.Memory) { bridge.Encrypt(m, &crypt{}) }
}

// requestTimeout bounds a request that nobody waits for.
const requestTimeout = 15 * time.Second

// crypt is the encryption of one memory.
type crypt struct {
	conf    bridge.CryptoOptions
	session *session.Session
	client  *mautrix.Client
	log     logrus.FieldLogger

	store     *keyStore
	sessions  *sessions
	encrypted *encryptedRooms
	machine   *crypto.OlmMachine
	backup    *keyBackup

	encrypting exsync.KeyedMutex[id.RoomID] // held while a room's event is encrypted
	lookups    exsync.KeyedMutex[id.UserID] // held while a sender's devices are asked for
	judging    sync.RWMutex                 // see judge

	unwedging tickets // for new Olm sessions that are made in the background
	answering tickets // for answers to others' devices

	publishing sync.Mutex // held while the keys of the device's account are used or published; owns what follows
	publishAt  time.Time  // when they may be published again
	unsent     bool       // the homeserver does not have the present fallback key
	forgetAt   time.Time  // when the fallback key before that may be forgotten
	againAt    time.Time  // when publishAgain may try again

	behind    bool          // Load was called: others may use the store while Start runs
	loaded    atomic.Bool   // what is in the store can be used: sessions, machine and backup do not change any more
	started   atomic.Bool   // Start has succeeded
	caughtUp  chan struct{} // closed when the first sync was taken over
	logouts   atomic.Int64  // how often the homeserver has logged the bot out
	published atomic.Int64  // how many of these the keys were published since; written with publishing held

	ctx    context.Context // of what runs in the background
	cancel context.CancelFunc
	tasks  sync.WaitGroup // what runs in the background

	mu     sync.Mutex // owns what follows
	closed bool
	asked  map[string]time.Time       // what was asked for, and when it may be asked for again
	wanted map[id.SessionID]id.RoomID // the sessions that other devices were asked for

	unreached map[id.RoomID]unreached
	waiters   waiters
}

var _ bridge.Crypto = (*crypt)(nil)

// Open implements bridge.Crypto.
func (c *crypt) Open(opts bridge.CryptoOptions) (device id.DeviceID, err error) {
	c.conf, c.session, c.log = opts, opts.Session, opts.Log
	c.client = c.session.Client()
	c.asked = make(map[string]time.Time)
	c.wanted = make(map[id.SessionID]id.RoomID)
	c.unreached = make(map[id.RoomID]unreached)
	c.unwedging, c.answering = make(tickets, maxUnwedging), make(tickets, maxAnswering)
	c.waiters = make(waiters)
	c.encrypted = newEncryptedRooms()
	c.caughtUp = make(chan struct{})
	c.ctx, c.cancel = context.WithCancel(c.session.Life())
	if c.store, err = openStore(c.conf.StorePath, c.conf.StoreKey, c.log); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			c.store.close()
		}
	}()
	named := id.DeviceID(c.conf.DeviceID)
	if c.conf.AccessToken != "" {
		named = "" // the token's device counts
	}
	if err := c.store.mayBelongTo(id.UserID(c.conf.UserID), named); err != nil {
		return "", err
	}
	if c.store.device == "" && c.conf.AccessToken == "" {
		// The device is the bot's from now on, whatever becomes of this start, so
		// that failed ones don't pile up devices.
		device := id.DeviceID(c.conf.DeviceID)
		if device == "" {
			device = id.DeviceID(rand.Text()[:10])
		}
		if err := c.store.belongTo(context.Background(), "", device); err != nil {
			return "", err
		}
	}
	return c.store.device, nil
}

// Start implements bridge.Crypto.
func (c *crypt) Start(ctx context.Context) error {
	if c.client.DeviceID == "" {
		return errors.New("encryption: the access token belongs to no device, and keys belong to one: make a token by logging in")
	}
	if err := c.load(ctx, c.client.UserID, c.client.DeviceID); err != nil {
		return err
	}
	c.session.KeepDevice()
	c.equip()
	if err := c.sessions.markAllOutdated(ctx); err != nil { // the bot was down
		return c.store.unwritable(err)
	}
	c.unsent, c.forgetAt = len(c.keys().FallbackKeyUnpublished()) > 0, time.Now().Add(keepFallback)
	if err := c.publishDevice(ctx); err != nil {
		return fmt.Errorf("the keys of the bot's device: %w", err)
	}
	if err := c.recovery(ctx); err != nil {
		return fmt.Errorf("cross-signing and key backup: %w", err)
	}
	if err := c.loadEncrypted(ctx); err != nil { // with what the key backup has brought
		return err
	}
	resumed, err := c.wake(ctx)
	if err == nil {
		err = c.sessions.begin(ctx, resumed)
	}
	if err != nil {
		return fmt.Errorf("the key store %s: %w", c.store.dir, err)
	}
	c.followSync()
	c.run(c.backup.run)
	c.started.Store(true)
	return nil
}

// publishDevice sees to it that the homeserver has the keys of the bot's device.
func (c *crypt) publishDevice(ctx context.Context) error {
	var devices map[id.DeviceID]*id.Device
	if err := c.try(ctx, func(ctx context.Context) error {
		all, err := c.fetchKeys(ctx, []id.UserID{c.client.UserID})
		devices = all[c.client.UserID]
		return err
	}); err != nil {
		return err
	}
	own, account := c.machine.OwnIdentity(), c.machine.GetAccount()
	published := devices[c.client.DeviceID]
	switch {
	case published == nil:
		if account.Shared {
			c.log.WithField("device", own.DeviceID.String()).Warn("The homeserver has no keys of the bot's device any more, as after all devices were logged out, and gets them again. " +
				"What members wrote meanwhile they have not encrypted for the bot: where neither the key backup nor another device of the account has the key, such a value has to be written again")
		}
		account.Shared = false // never published, or the homeserver lost them
		c.unsent = c.keys().NumFallbackKeys > 0
	case published.SigningKey == own.SigningKey && published.IdentityKey == own.IdentityKey && published.Trust != id.TrustStateDeviceKeyMismatch:
		account.Shared = true
	case account.Shared:
		return unusable{fmt.Errorf("the homeserver has other keys for the device %s than the key store %s: another program or store used the device since; log in as a new device, with another store_path", own.DeviceID, c.store.dir)}
	case c.conf.RecoveryKey == "":
		return unusable{fmt.Errorf("the device %s has keys on the homeserver that are not in the key store %s: use the store that it had, or log in as a new device; to restore a lost store, set recovery_key as well", own.DeviceID, c.store.dir)}
	default:
		c.log.WithField("device", own.DeviceID.String()).Warn("The bot's device had keys before, which are lost, and gets new ones. " +
			"Clients that knew the old ones may refuse the new ones: better log in as a new device")
		if _, err := c.store.db.Exec(ctx, `DELETE FROM crypto_device WHERE user_id = $1 AND device_id = $2`, own.UserID, own.DeviceID); err != nil {
			return err
		}
		// The one-time keys of the lost store have to go: the new ones bear the same numbers.
		if err := c.machine.RepairOneTimeKeys(ctx); err != nil {
			return err
		}
	}
	return c.try(ctx, c.shareKeys)
}

// Close implements bridge.Crypto.
func (c *crypt) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
	if c.machine != nil {
		c.backup.finish()
		c.sleep()
		c.machine.Destroy()
	}
	return c.store.close()
}

// run runs a task in the background, which ends when its context does. Close
// waits for it.
func (c *crypt) run(task func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.tasks.Go(func() {
			defer session.Survive(c.log, "work of encryption in the background")
			task(c.ctx)
		})
	}
}

// try makes a request, and makes it again as the memory does. What fails for
// another reason than a request it does not try again.
func (c *crypt) try(ctx context.Context, attempt func(context.Context) error) error {
	_, err := c.session.Try(ctx, func(ctx context.Context) error {
		err := attempt(ctx)
		var request mautrix.HTTPError
		if err != nil && !errors.As(err, &request) {
			return backoff.Permanent(err)
		}
		return err
	})
	return err
}
