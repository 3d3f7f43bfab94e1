// Package session is the bot's connection to its homeserver: login, one sync
// loop, retries, the pace of what is sent, and rooms by name, alias or ID. A bot with a
// journal starts without it, and connects in the background: see [Session.OpenBehind].
package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// ErrClosed says that the session was closed while a request was under way.
var ErrClosed = errors.New("the connection is closed")

// Options are the settings of a session.
type Options struct {
	Homeserver  string // base URL or server name
	UserID      string
	Password    string
	AccessToken string
	DeviceID    string
	DeviceName  string
	Rooms       map[string]string // names for rooms: aliases or room IDs
	Names       []string          // of the rooms that the bot is to be in: names of Rooms, aliases or room IDs
	HTTPClient  *http.Client      // the program's own; nil: there is none

	// FollowUpgrades says that the bot goes along where a room that it is in is replaced by another.
	FollowUpgrades bool

	Types   []event.Type  // the state events to follow
	Recent  event.Type    // the one of Types whose latest events a Snapshot has
	PerKey  bool          // there is one of Recent for each key
	Timeout time.Duration // bound on one call, retries included
	Log     logrus.FieldLogger

	// Update is told what sync brings of each room, in the homeserver's order,
	// on the goroutine that syncs.
	Update func(Update)
	// Invited is told, on the same goroutine, which rooms the bot is newly invited to. It
	// may be nil.
	Invited func([]id.RoomID)
	// Anew is called on the same goroutine, before what the response brings of rooms, when
	// sync works again after it had failed, or has begun anew: what was read of rooms
	// before has to be read again and compared. A homeserver that was killed can bring
	// older state after newer ones, and one that was restored from a backup has lost some.
	Anew func()
	// Learnt is told which room an alias stands for, each time that the homeserver has said
	// so and it was not known, or another. It may be called concurrently, and may be nil.
	Learnt func(alias string, room id.RoomID)
	// LoggedIn is called once the bot is logged in, before the first sync. By OpenBehind it
	// is called again after it has failed. It may be nil.
	LoggedIn func(context.Context) error
	// LoggedInAgain is told that the homeserver had logged the bot out, and with that may have
	// forgotten the device's keys, and that the bot is logged in again. It is called by
	// whatever made the request that was refused, before that is tried again, and must make no
	// request itself. It may be nil.
	LoggedInAgain func()
}

// A Session is a connection to the homeserver. But for Open and Close, its
// methods may be called concurrently.
type Session struct {
	Options
	client  *mautrix.Client
	foreign bool // the program logs in, syncs and logs out by itself
	bearer  *bearer
	lookup  *http.Client // for .well-known, which may redirect anywhere

	redirected sync.Once // it was said where the homeserver redirects to
	disconnect func()    // closes the connections that are kept open, but for the program's own

	life context.Context    // ends with Close, and with it every request but a last logout
	end  context.CancelFunc // ends life
	loop *loop              // syncs
	open atomic.Bool

	behind *behind        // nil: Open has connected
	cut    atomic.Bool    // see IsUnreachable
	tasks  sync.WaitGroup // what runs besides; OpenBehind begins it

	login   *semaphore.Weighted // held while logging in again; owns refusal
	refusal refusal

	ways sync.Map // by room; see way

	pace     *pace // of what the homeserver counts as sent
	reads    reads
	cuts     atomic.Bool // the homeserver cuts pages of history before it filters them
	dendrite atomic.Bool // the homeserver is known to be a Dendrite

	seen atomic.Pointer[time.Time] // see Seen

	// Of a foreign client's last sync; owned by its syncing goroutine.
	followed string    // its next_batch
	handled  time.Time // when it came: the next one begins after that

	mu        sync.RWMutex // owns what follows
	aliases   map[string]id.RoomID
	unsure    map[string]bool    // aliases that are from before, and were not looked up since
	restart   bool               // sync has to begin anew
	interrupt context.CancelFunc // ends what the sync loop waits for
}

// New returns a session over a client of [NewClient], or over one that the
// program logs in and syncs by itself (foreign).
func New(client *mautrix.Client, foreign bool) *Session {
	s := &Session{client: client, foreign: foreign, loop: newLoop(), pace: newPace(), login: semaphore.NewWeighted(1), aliases: make(map[string]id.RoomID), unsure: make(map[string]bool), interrupt: func() {}, disconnect: func() {}}
	s.reads.snapshot = s.snapshot
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Client returns the session's client.
func (s *Session) Client() *mautrix.Client { return s.client }

// Open logs in, and syncs once. With a foreign client it only subscribes to the
// client's syncs. If it fails, nothing is left running.
func (s *Session) Open(ctx context.Context, opts Options) (err error) {
	s.Options, s.pace.timeout = opts, opts.Timeout
	defer func() { s.open.Store(err == nil) }()
	if s.foreign {
		return s.subscribe()
	}
	s.connect()
	defer func() {
		if err != nil {
			s.disconnect()
		}
	}()

	if s.client.HomeserverURL, err = s.discover(ctx); err != nil {
		return err
	}
	me, err := s.logIn(ctx)
	if err != nil {
		return err
	}
	s.client.UserID, s.client.DeviceID, s.client.AccessToken = me.user, me.device, me.token
	defer func() {
		if err != nil {
			s.logOut()
		}
	}()
	if s.LoggedIn != nil {
		if err := s.LoggedIn(ctx); err != nil {
			return err
		}
	}
	f, first, err := s.beginSync(ctx)
	if err != nil {
		return err
	}
	f.begin(first, false)
	s.loop.Go(f.run)
	return nil
}

// IsOpen says whether Open or OpenBehind was called and succeeded.
func (s *Session) IsOpen() bool { return s.open.Load() }

// Life returns a context that ends when the session is closed.
func (s *Session) Life() context.Context { return s.life }

// Seen returns a time up to which sync has brought all there was.
func (s *Session) Seen() time.Time {
	if seen := s.seen.Load(); seen != nil {
		return *seen
	}
	return time.Time{}
}

// IsSyncing says whether the caller runs on the goroutine that syncs, as a handler at the
// client's syncer does. It must not wait for what waits for a sync. With a foreign client
// it says false.
func (s *Session) IsSyncing() bool { return s.loop.isHere() }

// Close stops the sync loop and all requests, waits for them, and logs out of a device
// that was made for this session only. On the loop's own goroutine it does not
// wait for the loop, which ends when the handler has returned; nor does it wait long for a
// handler that does not return.
func (s *Session) Close() {
	s.end()
	s.reads.close()
	s.tasks.Wait()
	if s.foreign || !s.IsOpen() {
		return
	}
	if s.behind != nil {
		s.behind.wait(s.loop)
	}
	if !s.loop.wait(max(s.attemptTimeout(), time.Second)) {
		s.Log.Warn("A sync handler has not returned; the connection ends all the same")
	}
	_ = s.login.Acquire(context.Background(), 1) // a login that was under way ends, as life has
	defer s.login.Release(1)
	s.logOut()
	s.disconnect()
}

// Disconnect closes the connections that are kept open, as Close does, after requests that
// were made since. Those of the program's own client stay.
func (s *Session) Disconnect() { s.disconnect() }

// subscribe follows the syncs of a client that the program runs.
func (s *Session) subscribe() error {
	if s.client.UserID == "" || s.client.AccessToken == "" {
		return errors.New("the client of WithClient is not logged in: it needs UserID and AccessToken")
	}
	syncer, ok := s.client.Syncer.(mautrix.ExtensibleSyncer)
	if !ok {
		return fmt.Errorf("the client of WithClient has a syncer of type %T, which takes no handlers (mautrix.ExtensibleSyncer)", s.client.Syncer)
	}
	if plain, ok := syncer.(*mautrix.DefaultSyncer); ok && plain.FilterJSON != nil {
		if err := passes(plain.FilterJSON, s.Types); err != nil {
			return err
		}
	}
	syncer.OnSync(func(_ context.Context, response *mautrix.RespSync, since string) bool {
		if s.life.Err() != nil { // mautrix can't take a handler away
			return true
		}
		if since == "" || since != s.followed { // it has begun, or begun anew
			s.Anew()
		}
		s.followed = response.NextBatch
		s.observe(response)
		before := s.handled
		s.handled = time.Now()
		s.seen.Store(&before)
		return true
	})
	return nil
}
