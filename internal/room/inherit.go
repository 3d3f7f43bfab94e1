package room

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A room that replaces another one takes along what that held, unless the bot's data of the room say
// that this was done before. Answers are right at once; what is missing in the room is put there as
// mending puts what is acknowledged and does not stand. Any step may be taken anew: what the room has by
// then stays.

// An origin is the room that another one has replaced, and what stood there when that was taken along.
type origin struct {
	room  *Room
	state string // see [replica.Heritage.State]
}

// predecessor returns the room that this one says to replace; "" if it says so of none.
func (r *Room) predecessor() id.RoomID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.access.create == nil {
		return ""
	}
	content, _ := r.access.create.Content.Parsed.(*event.CreateEventContent)
	return content.GetPredecessor().RoomID
}

// owe notes, while the room is loaded for the first time, that it may have to take along what another one held.
func (r *Room) owe() {
	old := r.predecessor()
	r.owes.Store(r.rooms.Session.FollowUpgrades && r.from.Load() == nil && old != "" && old != r.id)
}

// An unleft says why what the room held that another one replaces can't be taken along.
type unleft struct{ error }

func (u *unleft) Unwrap() error { return u.error }

// inheritFirst is inherit before the room's first use: what can't be taken along, and why only people can change, is left
// for a later start.
func (r *Room) inheritFirst(ctx context.Context) error {
	err := r.inherit(ctx)
	if errors.As(err, new(*unleft)) && (lasting(err) || unusable(err) || errors.Is(err, errNotVisited)) {
		r.log().WithError(err).Warn("The room replaces another one, and what that held can't be taken along; the next start tries it again")
		r.owes.Store(false)
		return nil
	}
	return err
}

// inherit takes along what the room held that this one replaces, unless that is done, or that one does not say so.
func (r *Room) inherit(ctx context.Context) error {
	if err := r.inheriting.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for what the room that this one replaces held: %w", err)
	}
	defer r.inheriting.Release(1)
	old := r.predecessor()
	if r.from.Load() != nil || old == "" || old == r.id || !r.rooms.Session.FollowUpgrades {
		r.owes.Store(false)
		return nil
	}
	before, err := r.rooms.register(old) // so that its tombstone is heard, if that comes later
	if err == nil {
		err = r.pull(ctx, before)
	}
	if err != nil {
		return fmt.Errorf("taking along what the room %s held, which this one replaces: %w", old, err)
	}
	r.owes.Store(false)
	return nil
}

// inheritFrom takes along what another room holds by now, to which this one is the heir, unless it is what was
// taken along already.
func (r *Room) inheritFrom(ctx context.Context, before *Room, tombstone *event.Event) error {
	if err := r.inheriting.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.inheriting.Release(1)
	left, err := before.legacy(ctx)
	if err == nil && (r.from.Load() == nil || *r.from.Load() != origin{before, left.State()}) {
		err = r.takeOver(ctx, before, left, tombstone)
	}
	if err != nil {
		return fmt.Errorf("taking along what it holds: %w", err)
	}
	r.owes.Store(false)
	return nil
}

// pull takes along what another room held, if that says that this one replaces it.
func (r *Room) pull(ctx context.Context, before *Room) error {
	record, err := r.record(ctx)
	if err != nil {
		return err
	}
	if done, ok := record.Taken[r.rooms.name()]; ok && done.From == before.id {
		r.from.Store(&origin{before, done.State})
		return nil
	}
	left, tombstone, err := r.leftBy(ctx, before)
	switch {
	case err != nil:
		return &unleft{err}
	case left == nil:
		return nil
	}
	return r.takeOver(ctx, before, left, tombstone)
}

// leftBy returns what the room leaves that this one replaces, as its tombstone says; nil if none says so.
func (r *Room) leftBy(ctx context.Context, before *Room) (left *replica.Heritage, tombstone *event.Event, err error) {
	old := before.id
	maker := r.rights().create.Sender
	outside := r.rooms.Session.Belongs(ctx, old) // some rooms can be read from there, but not all that is needed
	visits := errors.Is(outside, ErrUnknownRoom)
	switch {
	case visits:
		err = r.visit(ctx, old, maker)
	case outside != nil:
		err = outside
	}
	if err != nil {
		return nil, nil, err
	}
	upgrade, err := r.rooms.Session.Upgraded(ctx, old)
	if err != nil || upgrade == nil || upgrade.New != r.id { // nobody says there that it goes on here
		if visits && (err == nil || lasting(err)) {
			_ = r.rooms.Session.Leave(ctx, old) // it was of no use; the bot stays where this fails
		}
		return nil, nil, err
	}
	before.replacedBy(upgrade.New, upgrade.Tombstone.ID) // so that nothing is put there any more
	left, err = before.legacy(ctx)
	return left, upgrade.Tombstone, err
}

// errNotVisited says that the bot is not in the room that this one replaces, and can't go there.
var errNotVisited = errors.New("the bot is not there")

// visit joins a room that this one says to replace. Its homeserver may be gone for good, so that is not waited for as
// long as for the bot's own.
func (r *Room) visit(ctx context.Context, old id.RoomID, maker id.UserID) error {
	brief, cancel := context.WithTimeout(ctx, r.rooms.Timeout/3)
	defer cancel()
	err := r.rooms.Session.Revisit(brief, old, maker)
	if err == nil || ctx.Err() != nil || errors.Is(err, session.ErrClosed) || r.rooms.Session.IsUnreachable() {
		return err
	}
	return fmt.Errorf("%w: %w", errNotVisited, err)
}

// takeOver takes over what the room left that this one replaces.
func (r *Room) takeOver(ctx context.Context, before *Room, left *replica.Heritage, tombstone *event.Event) error {
	maker, until := r.rights().create.Sender.String(), tombstone.Timestamp
	events, err := r.history(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(events, func(e replica.Event) bool { return e.Sender == maker && e.Time <= until }) { // it may be a copy
		earlier, err := before.history(ctx)
		if err != nil {
			return err
		}
		left.Past(earlier)
	}
	if r.moreMay(before) {
		if dropped := left.Drop(r.rooms.Through); len(dropped) > 0 {
			r.log().WithField("keys", dropped).Warn("Who may do what is not taken along from the room that this one replaces: there are users who may write here and could not there. Grant it again")
		}
	}
	taken, err := r.replica.Takes(left, maker, until, events)
	if err != nil {
		return err
	}
	raws, clear, err := r.reseal(ctx, before, taken)
	if err != nil {
		return err
	}
	left.Replace(raws)
	if len(clear) > 0 {
		left.Drop(func(key string) bool { return slices.Contains(clear, key) })
		r.log().WithField("keys", clear).Error("These values are not taken along from the room that this one replaces, as they stand in the clear there, and are too large or of a kind that can't be encrypted for this room. They stay there")
	}
	if _, err := r.replica.Inherit(left, maker, until, events); err != nil {
		return err
	}
	r.from.Store(&origin{before, left.State()})
	r.unmarked.Store(true)
	r.stale.Store(true)
	r.log().WithFields(map[string]any{"from": before.id.String(), "keys": len(taken)}).Info("The room replaces another one, and what that held was taken along")
	r.queue.Wake()
	return nil
}

// legacy returns what the room means, for the one that replaces it.
func (r *Room) legacy(ctx context.Context) (*replica.Heritage, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.putting.Acquire(ctx, 1); err != nil { // nothing is put after what is under way
		return nil, fmt.Errorf("waiting for what is being written there: %w", err)
	}
	r.putting.Release(1)
	if r.rooms.Journal != nil { // before the load, so that what has arrived is in what is left
		if err := r.delivering.Acquire(ctx, 1); err != nil {
			return nil, fmt.Errorf("waiting for what is being delivered there: %w", err)
		}
		r.done(r.fates(ctx))
		r.delivering.Release(1)
	}
	if err := r.load(ctx, nil); err != nil {
		return nil, err
	}
	for _, task := range r.replica.Todo() {
		if task.Ask {
			if err := r.compare(ctx, task.StateKey); err != nil {
				return nil, err
			}
		}
	}
	return r.replica.Leave()
}

// history returns the memory's last events in the room.
func (r *Room) history(ctx context.Context) (events []replica.Event, err error) {
	from := ""
	for range maxPages {
		page, next, err := r.rooms.Session.EarlierEvents(ctx, r.id, from)
		if err != nil {
			return nil, fmt.Errorf("reading the history of the room %s: %w", r.id, err)
		}
		for _, evt := range page {
			events = append(events, r.stateEvent(evt))
		}
		if from = next; from == "" || len(events) >= maxHistory {
			break
		}
	}
	return events, nil
}
