package matrix

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/room"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	_ joe.Module = (*Memory)(nil)
	_ joe.Memory = (*Memory)(nil)
)

func init() {
	bridge.Session = func(memory any) *session.Session { return memory.(*Memory).session }
	bridge.Outlet = func(memory any) *outlet.Outlet { return &memory.(*Memory).outlet }
	bridge.Encrypt = func(memory any, crypto bridge.Crypto) { memory.(*Memory).crypto = crypto }
	bridge.Trust = func(memory any) { memory.(*Memory).trusting = true }
	bridge.Encrypted = func(memory any, roomID id.RoomID, now bool) (bool, error) {
		if crypto := memory.(*Memory).crypto; crypto != nil {
			return crypto.Encrypted(roomID, now)
		}
		return now, nil
	}
}

// New returns a memory with these settings. Nothing happens before it is opened,
// by joe.New or by [Memory.Open], which also say what is wrong with the settings.
func New(conf Config, opts ...Option) *Memory {
	m := &Memory{conf: &conf, ended: make(chan struct{})}
	m.bindings.rooms = make(map[int64][]*room.Room)
	for _, opt := range opts {
		opt(m)
	}
	if m.client == nil {
		m.session = session.New(session.NewClient(), false)
	} else {
		m.session = session.New(m.client, true)
	}
	return m
}

// Apply implements joe.Module: it opens the memory and makes it the bot's. If
// another module of the bot fails, joe does not close this one; a program that
// goes on after that calls [Memory.Close] itself.
func (m *Memory) Apply(conf *joe.Config) error {
	if m.log == nil {
		m.log = zapLogger(conf.Logger("matrix"))
	}
	encoder := m.encoder
	*m.conf = m.conf.withDefaults(conf.Name)
	m.tells = true
	if err := m.Open(conf.Context); err != nil {
		return err
	}
	m.startTelling(conf)
	conf.SetMemory(m)
	if encoder != nil { // else it stays the bot's own
		conf.SetMemoryEncoder(encoder)
	}
	return nil
}

// Open connects to the homeserver, joins the default room if the bot is not in
// it, and loads what that room remembers. Each step is bounded by Config.Timeout.
// The other rooms of Config.Rooms are joined in the background, where one that can't
// be is a warning; so are all of them where the bot is invited again later.
//
// With Config.Journal, all but the first start answer from what the rooms held, and
// connect in the background; that this does not work is in the log. A default room that the
// journal does not know needs the homeserver.
//
// It may be called once; if it fails, nothing is left running.
func (m *Memory) Open(ctx context.Context) error {
	if !m.opened.CompareAndSwap(false, true) {
		return fail("open", "", "", errors.New("it was opened before"))
	}
	if m.log == nil {
		m.log = logrus.StandardLogger()
	}
	if m.encoder == nil {
		m.encoder = jsonEncoder{}
	}
	*m.conf = m.conf.withDefaults("matrix-memory")
	if err := m.checkSettings(); err != nil {
		return fail("open", "", "", err)
	}
	if err := m.openJournal(); err != nil {
		return fail("open", "", "", err)
	}
	m.rooms = room.New(m.roomEnv())
	if m.tells {
		m.others = m.rooms.WatchOthers()
	}

	opts := m.sessionOptions()
	if err := m.openCrypto(&opts); err != nil {
		m.closeJournal()
		return fail("open", "", "", err)
	}
	if err := m.connect(ctx, opts); err != nil {
		m.closeCrypto()
		m.closeJournal()
		return fail("open", "", "", err)
	}
	if err := m.openHome(ctx); err != nil {
		m.shutDown()
		return fail("open", m.conf.DefaultRoom, "", err)
	}
	m.rooms.JoinAll()
	if m.journal != nil {
		m.rooms.StartDelivering()
	}
	return nil
}

// openHome makes the default room ready, unless the memory was closed meanwhile,
// when there was nothing to close yet.
func (m *Memory) openHome(ctx context.Context) error {
	if m.closed.Load() {
		return ErrClosed
	}
	home, err := m.rooms.FindOrJoin(ctx, m.conf.DefaultRoom)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return ErrClosed
	}
	m.home.Store(home)
	return nil
}

// checkSettings says what is wrong with the settings and with how they go together.
func (m *Memory) checkSettings() error {
	if m.foreign && m.client == nil {
		return errors.New("WithClient was given no client, but nil")
	}
	if err := m.conf.validate(m.foreign); err != nil {
		return err
	}
	switch {
	case m.client != nil && m.crypto != nil:
		return errors.New("encryption needs the memory's own connection: leave out either WithClient or e2ee.Enable")
	case m.client != nil && m.httpClient != nil:
		return errors.New("the client of WithClient makes its requests itself: leave out either WithClient or WithHTTPClient")
	}
	return nil
}

func (m *Memory) roomEnv() room.Env {
	env := room.Env{
		Session:   m.session,
		EventType: event.Type{Type: m.conf.EventType, Class: event.StateEventType},
		Layout:    wire.Layout{StateKey: string(m.conf.SingleStateKey)},
		Encrypt:   m.conf.ShouldEncrypt == On,
		Timeout:   m.conf.Timeout,
		Log:       m.log,
		Journal:   m.journal,
		Through:   func(key string) bool { return isPermission(key) && !m.trusting },
	}
	if m.conf.EventType == defaultEventType {
		env.OlderType = "opsdroid.database" // opsdroid's first
	}
	if m.conf.SingleStateKey == PerKey {
		env.Layout = wire.Layout{PerKey: true}
	}
	if m.crypto != nil {
		env.Cipher = m.crypto
	}
	return env
}

func (m *Memory) sessionOptions() session.Options {
	return session.Options{
		Homeserver:  m.conf.Homeserver,
		UserID:      m.conf.UserID,
		Password:    m.conf.Password,
		AccessToken: m.conf.AccessToken,
		DeviceID:    m.conf.DeviceID,
		DeviceName:  m.conf.DeviceName,
		Rooms:       m.conf.Rooms,
		Names:       append(slices.Sorted(maps.Keys(m.conf.Rooms)), m.conf.DefaultRoom),
		Types:       m.rooms.Types(),
		Recent:      m.rooms.EventType,
		PerKey:      m.rooms.Layout.PerKey,
		Timeout:     m.conf.Timeout,
		HTTPClient:  m.httpClient,
		Log:         m.log,
		Update:      m.rooms.Update,
		Invited:     m.rooms.Invited,
		Anew:        m.rooms.Anew,
		Learnt:      m.learnt,

		FollowUpgrades: m.conf.FollowUpgrades == On,
	}
}

// openCrypto opens the keys, if there is encryption, and has the session log in
// with their device.
func (m *Memory) openCrypto(opts *session.Options) error {
	if m.crypto == nil {
		return nil
	}
	device, err := m.crypto.Open(bridge.CryptoOptions{
		UserID:      m.conf.UserID,
		Password:    m.conf.Password,
		AccessToken: m.conf.AccessToken,
		DeviceID:    m.conf.DeviceID,
		StorePath:   m.conf.StorePath,
		StoreKey:    m.conf.StoreKey,
		RecoveryKey: m.conf.RecoveryKey,
		Timeout:     m.conf.Timeout,
		Session:     m.session,
		Log:         m.log,
	})
	if err != nil {
		return err
	}
	opts.DeviceID = cmp.Or(device.String(), opts.DeviceID)
	opts.LoggedIn, opts.LoggedInAgain = m.crypto.Start, m.crypto.LoggedInAgain
	return nil
}

// closeCrypto closes the keys, if there is encryption.
func (m *Memory) closeCrypto() {
	if m.crypto == nil {
		return
	}
	if err := m.crypto.Close(); err != nil {
		m.log.WithError(err).Warn("Could not close the key store in good order")
	}
	m.session.Disconnect() // it has made requests
}

// Client returns the client of the memory's connection. Its credentials are set
// once the memory is open. Handlers may be registered at its syncer before that, and
// run on the goroutine that syncs, so they must not wait for anything that needs a
// sync. They may call [Memory.Close]. The syncer's filter, the FilterJSON of a *mautrix.DefaultSyncer, lets nothing
// through but what the memory needs: add there what the handlers want, too.
func (m *Memory) Client() *mautrix.Client { return m.session.Client() }

// Close refuses new operations, waits for the writes that were accepted, and until what
// was written is known to stand in the room, and ends the connection. It takes at most
// about Config.Timeout. With Config.Journal it delivers what waits there, in two thirds of
// that time, and leaves the rest to the next start; it does not wait where the homeserver
// can't be reached. Later calls wait for the first one. A handler at the client's
// syncer may call it: then the goroutine that syncs ends when the handler has returned,
// and a call there does not wait for one that is under way elsewhere, as that waits for
// the handler.
func (m *Memory) Close() error {
	m.mu.Lock()
	first := !m.closed.Swap(true)
	open := m.home.Load() != nil
	m.mu.Unlock()
	switch {
	case !open: // there is nothing to close, or Open does that
	case first:
		defer close(m.ended)
		m.shutDown()
	case !m.session.IsSyncing():
		<-m.ended
	}
	return nil
}

// shutDown finishes what was accepted, and ends the connection.
func (m *Memory) shutDown() {
	ctx, cancel := context.WithTimeout(context.Background(), m.conf.Timeout)
	defer cancel()
	if m.journal != nil && (m.home.Load() == nil || !m.session.IsConnected() || m.session.IsUnreachable()) {
		cancel() // the next start goes on
	} else {
		m.lastDeliveries(ctx)
	}
	m.rooms.Close(ctx)
	m.stopTelling()
	m.session.Close()
	m.closeCrypto()
	m.closeJournal()
}
