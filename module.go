package matrix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

var (
	_ joe.Module = (*Memory)(nil)
	_ joe.Memory = (*Memory)(nil)
)

// olderType is the event type that opsdroid used first.
const olderType = "opsdroid.database"

// An Option changes what [New] makes.
type Option func(*Memory)

// WithLogger sets where the memory logs. Without it, entries go to the bot's own
// log, and to logrus's standard logger if there is no bot.
func WithLogger(logger logrus.FieldLogger) Option {
	return func(m *Memory) { m.log = logger }
}

// WithClient makes the memory use a logged-in client that the program runs, syncs
// and closes itself. The memory is opened before the client syncs for the first
// time. The client's filter must let the memory's state events, memberships and
// redactions through, and the program must have it sync, or the memory does not see
// what others write. Of the Config, the homeserver, the credentials and the device
// are not needed then.
func WithClient(client *mautrix.Client) Option {
	return func(m *Memory) { m.session = session.New(client, true); m.ownClient = true }
}

// WithEncoder sets how values become bytes, for bot.Store and for Room handles
// alike. The default is joe's: JSON.
func WithEncoder(enc joe.MemoryEncoder) Option {
	return func(m *Memory) { m.encoder, m.ownEncoder = enc, true }
}

// New returns a memory with these settings. Nothing happens before it is opened,
// by joe.New or by [Memory.Open], which also say what is wrong with the settings.
func New(conf Config, opts ...Option) *Memory {
	m := &Memory{
		conf:    &conf,
		encoder: jsonEncoder{},
		rooms:   make(map[id.RoomID]*room),
	}
	m.fetching = semaphore.NewWeighted(maxFetches)
	m.bindings.rooms = make(map[int64][]*room)
	m.redacting, m.giveUp = context.WithCancel(context.Background())
	m.reading, m.stopReading = context.WithCancel(context.Background())
	for _, opt := range opts {
		opt(m)
	}
	if m.session == nil {
		m.session = session.New(session.NewClient(), false)
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
	*m.conf = m.conf.withDefaults(conf.Name)
	if err := m.Open(conf.Context); err != nil {
		return err
	}
	conf.SetMemory(m)
	if m.ownEncoder {
		conf.SetMemoryEncoder(m.encoder)
	}
	return nil
}

// Open connects to the homeserver, joins the default room if the bot is not in
// it, and loads what that room remembers. Each step is bounded by Config.Timeout.
// It may be called once; if it fails, nothing is left running.
func (m *Memory) Open(ctx context.Context) error {
	if !m.opened.CompareAndSwap(false, true) {
		return &Error{Op: "open", Err: errors.New("it was opened before")}
	}
	if m.log == nil {
		m.log = logrus.StandardLogger()
	}
	*m.conf = m.conf.withDefaults("matrix-memory")
	if err := m.conf.validate(m.ownClient); err != nil {
		return &Error{Op: "open", Err: err}
	}
	m.layout = wire.Layout{StateKey: string(m.conf.SingleStateKey)}
	if m.conf.SingleStateKey == PerKey {
		m.layout = wire.Layout{PerKey: true}
	}
	m.eventType = event.Type{Type: m.conf.EventType, Class: event.StateEventType}

	opts := m.sessionOptions()
	if err := m.openCrypto(&opts); err != nil {
		return &Error{Op: "open", Err: err}
	}
	if err := m.session.Open(ctx, opts); err != nil {
		m.closeCrypto()
		return &Error{Op: "open", Err: err}
	}
	home, err := m.openHome(ctx)
	if err != nil {
		m.session.Close()
		m.closeCrypto()
		return &Error{Op: "open", Room: m.conf.DefaultRoom, Err: explain(err)}
	}
	m.mu.Lock()
	if !m.closed.Load() {
		m.home.Store(home)
	}
	m.mu.Unlock()
	if m.home.Load() == nil { // it was closed meanwhile, which had nothing to close yet
		m.shutDown([]*room{home})
		return &Error{Op: "open", Room: m.conf.DefaultRoom, Err: ErrClosed}
	}
	return nil
}

func (m *Memory) sessionOptions() session.Options {
	types := []event.Type{m.eventType, event.StatePowerLevels, event.StateEncryption, event.StateCreate}
	if m.conf.EventType == defaultEventType {
		types = append(types, event.Type{Type: olderType, Class: event.StateEventType})
	}
	return session.Options{
		Homeserver:  m.conf.Homeserver,
		UserID:      m.conf.UserID,
		Password:    m.conf.Password,
		AccessToken: m.conf.AccessToken,
		DeviceID:    m.conf.DeviceID,
		DeviceName:  m.conf.DeviceName,
		Rooms:       m.conf.Rooms,
		Types:       types,
		Timeout:     m.conf.Timeout,
		Log:         m.log,
		Update:      m.update,
	}
}

// openHome finds, joins and loads the default room.
func (m *Memory) openHome(ctx context.Context) (*room, error) {
	roomID, err := m.session.Resolve(ctx, m.conf.DefaultRoom)
	if err != nil {
		return nil, err
	}
	home, err := m.roomByID(ctx, roomID)
	if err = explain(err); !errors.Is(err, ErrUnknownRoom) && !errors.Is(err, ErrForbidden) {
		return home, err
	}
	if err := m.session.Join(ctx, m.session.Target(m.conf.DefaultRoom)); err != nil {
		return nil, fmt.Errorf("joining it: %w; invite the bot, or make the room public", err)
	}
	m.log.WithField("room", roomID.String()).Info("Joined the default room")
	return m.roomByID(ctx, roomID)
}

// Client returns the client of the memory's connection. Its credentials are set
// once the memory is open. Handlers may be registered at its syncer before that, and
// run on the goroutine that syncs, so they must not wait for anything that needs a
// sync. The syncer's filter, the FilterJSON of a *mautrix.DefaultSyncer, lets nothing
// through but what the memory needs: add there what the handlers want, too.
func (m *Memory) Client() *mautrix.Client { return m.session.Client() }

// Session returns the connection itself, for this module's own packages.
func (m *Memory) Session() *session.Session { return m.session }

// Close refuses new operations, waits for the writes that were accepted, and ends
// the connection. It takes at most about Config.Timeout. Later calls return
// at once.
func (m *Memory) Close() error {
	m.mu.Lock()
	first := !m.closed.Swap(true)
	rooms := slices.Collect(maps.Values(m.rooms))
	open := m.home.Load() != nil
	m.mu.Unlock()
	if first && open {
		m.shutDown(rooms)
	}
	return nil
}

// shutDown finishes what was accepted, and ends the connection.
func (m *Memory) shutDown(rooms []*room) {
	ctx, cancel := context.WithTimeout(context.Background(), m.conf.Timeout)
	defer cancel()
	var all sync.WaitGroup
	for _, r := range rooms {
		all.Go(func() { r.queue.Close(ctx) })
	}
	all.Wait()
	stop := context.AfterFunc(ctx, m.giveUp)
	defer stop()
	m.stopReading()
	m.background.Wait()
	m.session.Close()
	m.closeCrypto()
}
