package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A room that another one replaces, as its tombstone says, is left as it is: nothing more is put
// there. What is set waits until the memory has gone to the other room, which takes along what
// this one held (see inherit), and goes there, or is refused where it can't go. Reads are answered
// from what is known until then. Once the memory has gone, all that is asked of this room is asked
// of its heir: see [Room.latest].

// A replacement is what a room's tombstone says, and how far the memory is on its way.
type replacement struct {
	tombstone id.EventID
	by        id.RoomID
	err       error         // why the memory does not go there; nil: it is on its way
	news      chan struct{} // closed, and made anew, when err changes, the memory has gone there, or another tombstone counts
	over      chan struct{} // closed once another tombstone counts
	again     chan struct{} // has room for one call to try again
}

func newReplacement(by id.RoomID, tombstone id.EventID) *replacement {
	return &replacement{by: by, tombstone: tombstone, news: make(chan struct{}), over: make(chan struct{}), again: make(chan struct{}, 1)}
}

// tell has those know who wait for it. The caller holds the room's mu.
func (to *replacement) tell() {
	close(to.news)
	to.news = make(chan struct{})
}

// errReplaced says that nothing is put in a room any more, as another one replaces it.
var errReplaced = errors.New("another room replaces it, as its tombstone says")

// latest returns the room that takes this one's place by now, which is mostly itself.
func (r *Room) latest() *Room {
	for {
		heir := r.heir.Load()
		if heir == nil {
			return r
		}
		r = heir
	}
}

// errNone says that no tombstone stands in a room by now: it was taken back, or another event counts that was sent at
// the same moment. Or what the homeserver says of state lags behind what it says of events.
var errNone = errors.New("the homeserver does not give the tombstone that names it")

// maxNone is how often in a row it says so before that is believed.
const maxNone = 4

// isReplaced says whether another room replaces this one, as far as is known.
func (r *Room) isReplaced() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.replaced != nil
}

// tombstone notes what a tombstone says. One that names no room is none any more.
func (r *Room) tombstone(evt *event.Event) {
	r.replacedBy(session.Replacement(evt.Content.VeryRaw, r.id), evt.ID)
}

// replacedBy notes which room a tombstone names. The homeserver may not say which event that is.
func (r *Room) replacedBy(by id.RoomID, tombstone id.EventID) {
	r.mu.Lock()
	before := r.replaced
	switch {
	case r.heir.Load() != nil:
		r.mu.Unlock()
		return
	case before != nil && before.by == by && (before.tombstone == tombstone || before.tombstone == "" || tombstone == ""):
		before.tombstone = cmp.Or(tombstone, before.tombstone)
		r.mu.Unlock()
		return
	case by == "":
		r.replaced = nil
	default:
		r.replaced = newReplacement(by, tombstone)
	}
	now := r.replaced
	if before != nil {
		before.tell()
		close(before.over)
	}
	r.mu.Unlock()
	switch {
	case now == nil:
	case !r.rooms.Session.FollowUpgrades:
		r.stay(now, errors.New("follow_upgrades is off: name the new room in the settings, or switch it on"))
	default:
		r.rooms.inBackground(func() { r.follow(now) })
	}
}

// follow takes the memory to the room that replaces this one, however long that takes, unless it
// must not go there.
func (r *Room) follow(to *replacement) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, 5*time.Minute
	ctx, warned, none := r.rooms.reading, false, 0
	for r.rooms.Session.Reach(ctx) == nil && r.isCurrent(to) {
		err := r.goTo(ctx, to)
		if none++; !errors.Is(err, errNone) {
			none = 0
		}
		switch {
		case err == nil, ctx.Err() != nil, errors.Is(err, ErrClosed), !r.isCurrent(to):
			return
		case none == maxNone:
			r.replacedBy("", "")
			return
		case none > 0:
		case lasting(err):
			r.stay(to, err)
			if errors.Is(err, session.ErrUntrusted) {
				return
			}
		case !warned && !r.rooms.Session.IsUnreachable(): // else sync says so
			warned = true
			r.log().WithField("to", to.by.String()).WithError(err).Warn("The room was upgraded, and the memory could not go to the room that replaces it; that is tried again, and what is set waits for it")
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-to.again:
			pause.Reset()
		case <-to.over:
		case <-ctx.Done():
		}
	}
}

// lasting says of an error that keeps the memory from the room that replaces another one whether
// somebody has to do something about it.
func lasting(err error) bool {
	return errors.Is(err, session.ErrUntrusted) || errors.Is(err, ErrNoEncryption) || errors.Is(err, journal.ErrFailed) || errors.Is(err, wire.ErrMalformed) ||
		session.IsStatus(err, http.StatusForbidden) || session.IsStatus(err, http.StatusNotFound)
}

// isCurrent says whether a tombstone is still what counts, and the memory has not gone.
func (r *Room) isCurrent(to *replacement) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.replaced == to && r.heir.Load() == nil
}

// stay notes why the memory does not go to the room that replaces this one, and says so once.
func (r *Room) stay(to *replacement, err error) {
	r.mu.Lock()
	first := to.err == nil
	to.err = fmt.Errorf("%w: %s replaces %s, and the memory did not go there: %w", ErrUpgraded, to.by, r.id, err)
	to.tell()
	r.mu.Unlock()
	if first {
		r.log().WithField("to", to.by.String()).WithError(err).Warn("The room was upgraded, and the memory does not go to the room that replaces it: it answers from what it knows, and refuses what is set")
	}
}

// stays returns why the memory stays in the room, though another one replaces it; nil if none does, or it is on
// its way there.
func (r *Room) stays() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.replaced == nil {
		return nil
	}
	return r.replaced.err
}

// tryAgain has the memory go to a room that replaces another one, as it may by now.
func (rs *Rooms) tryAgain(invited id.RoomID) {
	for _, r := range rs.all() {
		r.mu.RLock()
		to := r.replaced
		r.mu.RUnlock()
		if to != nil && to.by == invited {
			select {
			case to.again <- struct{}{}:
			default:
			}
		}
	}
}

// arrive waits until the memory has gone to the room that replaces this one, and fails if it does not go.
func (r *Room) arrive(ctx context.Context) error {
	for {
		r.mu.RLock()
		to := r.replaced
		var news chan struct{}
		var err error
		if to != nil {
			news, err = to.news, to.err
		}
		r.mu.RUnlock()
		switch {
		case to == nil, r.heir.Load() != nil:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%w: the room was upgraded, and the memory is on its way to %s: %w", commit.ErrNotSent, to.by, errors.Join(r.rooms.Session.Reach(ctx), ctx.Err()))
		case <-r.rooms.reading.Done():
			return ErrClosed
		}
	}
}

// arriveInTime is arrive for who has no bound of their own.
func (r *Room) arriveInTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.rooms.Timeout)
	defer cancel()
	return r.arrive(ctx)
}

// goTo takes the memory to the room that replaces this one.
func (r *Room) goTo(ctx context.Context, to *replacement) error {
	upgrade, err := r.rooms.Session.Upgraded(ctx, r.id)
	switch {
	case err != nil:
		return err
	case upgrade == nil:
		return errNone
	case upgrade.New != to.by:
		r.replacedBy(upgrade.New, upgrade.Tombstone.ID)
		return nil
	}
	if err := r.rooms.Session.Follow(ctx, upgrade); err != nil {
		return err
	}
	heir, err := r.rooms.register(upgrade.New)
	if err != nil {
		return err
	}
	if err := heir.prepare(ctx); err != nil {
		return err
	}
	if err := heir.inheritFrom(ctx, r, upgrade.Tombstone); err != nil {
		return err
	}
	return r.hand(ctx, to, heir)
}

// hand hands what the journal holds of the room to its heir, and from then on all that is asked of it.
func (r *Room) hand(ctx context.Context, to *replacement, heir *Room) error {
	if r.rooms.Journal != nil {
		if err := r.delivering.Acquire(ctx, 1); err != nil {
			return err
		}
		defer r.delivering.Release(1)
		r.accepting.Lock()
		defer r.accepting.Unlock()
	}
	heir, err := r.goOnIn(to, heir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	to.tell()
	r.mu.Unlock()
	r.handWatchers(heir)
	r.log().WithField("to", heir.id.String()).Info("The room was upgraded; the memory has gone to the room that replaces it")
	r.replica.Forget() // its heir knows
	if r.rooms.flusher != nil {
		r.rooms.flusher.changed(heir.id.String())
	}
	return nil
}

// goOnIn has the memory go on in the heir, or where that has gone itself meanwhile, and returns which room that is.
func (r *Room) goOnIn(to *replacement, heir *Room) (*Room, error) {
	r.rooms.going.Lock()
	defer r.rooms.going.Unlock()
	heir = heir.latest()
	switch {
	case heir == r:
		return nil, fmt.Errorf("%w: the room that replaces it was replaced by this one", session.ErrUntrusted)
	case !r.isCurrent(to):
		return nil, errors.New("the homeserver has another tombstone meanwhile")
	}
	r.moving.Lock()
	defer r.moving.Unlock()
	if err := r.move(heir); err != nil {
		return nil, err
	}
	r.heir.Store(heir)
	return heir, nil
}

// move moves what the journal holds of the room to its heir, and has it know where that is: what is asked of the room
// is asked there at the next start.
func (r *Room) move(heir *Room) error {
	if r.rooms.Journal == nil || r.rooms.Journal.Failure() != nil && len(r.rooms.Journal.Changes(r.id.String())) == 0 {
		return nil
	}
	for _, saving := range []*Room{r, heir} {
		saving.saving.Lock()
		defer saving.saving.Unlock()
	}
	heir.secret.Store(max(heir.secret.Load(), r.secret.Load()))
	if encrypted, err := r.encrypted(); encrypted || err != nil {
		heir.secret.Store(r.rooms.Journal.Last())
	}
	there, err := heir.state(nil)
	if err != nil {
		return fmt.Errorf("noting what the room that replaces it holds: %w", err)
	}
	here, err := r.state(heir)
	if err != nil {
		return fmt.Errorf("noting where the memory has gone: %w", err)
	}
	known := journal.Known{Rooms: map[string][]byte{r.id.String(): here, heir.id.String(): there}}
	err = r.rooms.Journal.Move(r.id.String(), heir.id.String(), known, func(c journal.Change) (journal.Change, bool) {
		if r.rooms.Layout.PerKey {
			c.Attempt = nil // what stood here before it says nothing there
		}
		if c.Over != "" && c.Over == r.replica.Held(c.Key) && heir.tookAlong(c.Key) {
			c.Over = heir.replica.Held(c.Key) // the same, perhaps encrypted anew
		}
		return c, true
	})
	if err != nil {
		return fmt.Errorf("moving what the journal holds: %w", err)
	}
	heir.retry(true)
	return nil
}

// fates returns those changes of the journal that were sent and of which this room says that they
// have arrived, or were replaced.
func (r *Room) fates(ctx context.Context) map[string]uint64 {
	settled := make(map[string]uint64)
	changes := r.undelivered()
	for i, result := range r.queue.Deliver(ctx, nil, changes...) { // nothing is put any more
		switch {
		case result == nil:
			settled[changes[i].Key] = changes[i].Seq
		case errors.Is(result, commit.ErrSuperseded):
			r.log().WithField("key", changes[i].Key).Warn(givenUp)
			settled[changes[i].Key] = changes[i].Seq
		}
	}
	return settled
}

// restoreHeir makes a room that the memory has left ask its heir, as far as the journal knows. The caller
// holds the rooms' lock.
func (rs *Rooms) restoreHeir(r *Room, heir id.RoomID) {
	if heir == "" || heir == r.id || !rs.Session.FollowUpgrades {
		return
	}
	r.replaced = newReplacement(heir, "")
	r.heir.Store(rs.room(heir))
}
