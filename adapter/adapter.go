package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/outlet"
	"github.com/go-joe/matrix-memory/internal/session"
)

var (
	_ joe.Adapter              = (*adapter)(nil)
	_ joe.ReactionAwareAdapter = (*adapter)(nil)
)

// An adapter is the bot's chat. The goroutine that syncs hands what it brings to
// the rooms' lanes, and a room's lane, one goroutine while there is something to
// do, emits it. Invitations have one lane for all of them, so that there are never
// more lanes, and requests of theirs, than rooms that the bot is in and one, but for
// the joins under way. Nothing runs before RegisterAt or after Close.
type adapter struct {
	options
	session *session.Session
	client  *mautrix.Client
	started time.Time
	fault   error       // what was wrong with the client in New; Apply says it
	botLog  *zap.Logger // for what there is no memory to log with

	outlet    *outlet.Outlet
	answering atomic.Pointer[asked]
	encrypted encryption

	ctx    context.Context // of the lanes' requests; ends with the shutdown, or the connection
	cancel context.CancelFunc
	lanes  sync.WaitGroup
	sends  sync.WaitGroup

	invitations invitations
	upgrades    upgrades

	mu      sync.Mutex // owns what follows
	rooms   map[id.RoomID]*room
	primed  bool // the first sync was seen
	running bool
	closed  bool
}

// New returns the module that makes Matrix the bot's chat, on the connection of
// this memory. The memory is handed to joe.New as well. Call New before the
// memory is opened.
func New(memory *matrix.Memory, opts ...Option) joe.Module {
	a := &adapter{
		options: options{msgType: event.MsgNotice},
		session: bridge.Session(memory),
		client:  memory.Client(),
		outlet:  bridge.Outlet(memory),
		started: time.Now(),
		rooms:   make(map[id.RoomID]*room),
	}
	a.encrypted.rooms = make(map[id.RoomID]bool)
	a.encrypted.ever = func(room id.RoomID, now bool) (bool, error) { return bridge.Encrypted(memory, room, now) }
	a.invitations.standing = make(map[id.RoomID]context.CancelFunc)
	a.invitations.joins = make(chan struct{}, maxJoins)
	a.upgrades = upgrades{ahead: make(map[id.RoomID]*session.Upgrade), there: make(map[id.RoomID]bool), heirs: make(map[id.RoomID]id.RoomID)}
	a.ctx, a.cancel = context.WithCancel(a.session.Life())
	for _, opt := range opts {
		opt(&a.options)
	}
	a.fault = a.subscribe()
	return joe.ModuleFunc(a.apply)
}

// subscribe follows the client's syncs, and sees to it that they bring what the
// adapter needs.
func (a *adapter) subscribe() error {
	syncer, ok := a.client.Syncer.(mautrix.ExtensibleSyncer)
	if !ok {
		return fmt.Errorf("the client has a syncer of type %T, which takes no handlers (mautrix.ExtensibleSyncer)", a.client.Syncer)
	}
	if plain, ok := syncer.(*mautrix.DefaultSyncer); ok && plain.FilterJSON != nil {
		if a.client.HomeserverURL != nil { // the program's own
			if err := passes(plain.FilterJSON); err != nil {
				return err
			}
		} else {
			widen(plain.FilterJSON.Room)
		}
	}
	syncer.OnSync(a.synced)
	return nil
}

// apply is the module.
func (a *adapter) apply(conf *joe.Config) error {
	if err := errors.Join(a.fault, a.invites.check()); err != nil {
		return fmt.Errorf("matrix adapter: %w", err)
	}
	a.botLog = conf.Logger("matrix")
	conf.Context = a.outlet.ShutFirst(conf.Context, a.cancel)
	conf.SetAdapter(a)
	return nil
}

// RegisterAt implements joe.Adapter: from now on the bot hears.
func (a *adapter) RegisterAt(brain *joe.Brain) {
	if !a.session.IsOpen() {
		a.botLog.Error("The Matrix adapter hears nothing, as its memory is not open: hand the memory to joe.New too")
		return
	}
	a.outlet.Open(brain)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = !a.closed
	for _, r := range a.rooms {
		a.wake(r)
	}
	a.wakeInvitations()
}

// Close implements joe.Adapter: it stops hearing, and waits until what is being
// said is said, or has failed.
func (a *adapter) Close() error {
	a.outlet.Shut()
	a.cancel()
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.lanes.Wait()
	a.sends.Wait()
	return nil
}

// log returns the memory's log, for a room.
func (a *adapter) log(room id.RoomID) logrus.FieldLogger {
	return a.session.Log.WithField("room", room.String())
}
