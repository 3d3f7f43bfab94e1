package room

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A journal that was restored from a backup, or copied to another machine, holds changes that
// were delivered long ago, and that others have changed since. So the account has a number for
// each journal, which is raised with deliveries: a file with a smaller one is not the latest.

// raiseAfter is how long deliveries go on without raising it.
const raiseAfter = time.Minute

// A claim is what the account's data says of a journal.
type claim struct {
	Generation int64                        `json:"generation"`
	Starts     []journal.Start              `json:"starts"`             // that made changes
	Outdated   map[string]map[string]uint64 `json:"outdated,omitempty"` // by room and key, as [wire.EncodeKey] names it: see [Rooms.outdate]
}

// claim finds out whether the journal is the latest there is, and sees to it that copies of it as
// it is now are not. It says false if nothing can be delivered any more.
func (rs *Rooms) claim(ctx context.Context) bool {
	if !rs.raised.IsZero() && (time.Since(rs.raised) < raiseAfter || len(rs.Journal.Rooms()) == 0) {
		return true
	}
	defer rs.flusher.unclaimed(nil)
	warned := false
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := rs.raise(ctx)
		switch {
		case err == nil:
			rs.raised = time.Now()
			return true
		case ctx.Err() != nil, rs.Journal.Failure() != nil:
			return false
		}
		rs.flusher.unclaimed(err)
		if !warned && !rs.Session.IsUnreachable() { // else sync says so
			warned = true
			rs.Log.WithError(err).Warn("Could not ask the homeserver whether the journal is the latest, which the account's data says; it is asked again, and nothing is delivered meanwhile")
		}
		if rs.flusher.rest(ctx, pause); ctx.Err() != nil {
			return false
		}
	}
}

func (rs *Rooms) raise(ctx context.Context) error {
	if err := rs.claiming.Acquire(ctx, 1); err != nil {
		return err
	}
	defer rs.claiming.Release(1)
	now, err := rs.claimed(ctx)
	if err != nil {
		return err
	}
	if now.Generation > rs.Journal.Generation() {
		if err := rs.fork(now); err != nil {
			return err
		}
		now = claim{} // it is a journal of its own by now
	}
	for room, byName := range now.Outdated {
		r, err := rs.register(id.RoomID(room))
		if err != nil {
			return err
		}
		seqs := make(map[string]uint64, len(byName))
		for name, seq := range byName {
			if key, ok := wire.DecodeKey(name); ok {
				seqs[key] = seq
			}
		}
		r.done(seqs)
	}
	next := claim{Generation: rs.Journal.Generation() + 1, Starts: rs.Journal.Starts(now.Starts)}
	if err := rs.Journal.SetGeneration(next.Generation); err != nil { // what is outdated goes from the file with that
		return err
	}
	return rs.setClaimed(ctx, next)
}

// fork makes the journal, which is a copy, one of its own, and gives up what stood in it when it was copied: the
// original has delivered it, or somebody has changed it since. It stays in the file, and counts as refused.
func (rs *Rooms) fork(original claim) error {
	rooms := rs.all()
	for _, r := range rooms {
		r.accepting.Lock() // what is given up is nothing to build upon
	}
	err := rs.Journal.Fork(original.Starts)
	for _, r := range rooms {
		r.outlook = nil
		r.accepting.Unlock()
	}
	if err != nil {
		return err
	}
	_, refused, _ := rs.Journal.Pending()
	rs.Log.WithField("refused", refused).Errorf("The journal %s is a copy, or was restored from a backup: the original has delivered since. "+
		"What stood in it then is not delivered; what was set since is, and it is a journal of its own from now on. If something is missing, set it again", rs.Journal.Path())
	rs.flusher.tell()
	return nil
}

// outdate notes with the homeserver that what the file of the journal, which has failed, holds of
// a room's keys is outdated, up to a Seq, as they were written through since. The next start, which reads
// that file in, can't always tell by the room: with an event for each key nothing there says it, nor does it of a change
// that was made blind.
func (rs *Rooms) outdate(ctx context.Context, room string, seqs map[string]uint64) error {
	if err := rs.claiming.Acquire(ctx, 1); err != nil {
		return err
	}
	defer rs.claiming.Release(1)
	now, err := rs.claimed(ctx)
	if err != nil {
		return err
	}
	if now.Generation > rs.Journal.Generation() {
		return errors.New("the journal is a copy, or was restored from a backup, and the original has delivered since")
	}
	if now.Outdated == nil {
		now.Outdated = make(map[string]map[string]uint64)
	}
	if now.Outdated[room] == nil {
		now.Outdated[room] = make(map[string]uint64)
	}
	for key, seq := range seqs {
		now.Outdated[room][wire.EncodeKey(key)] = seq
	}
	return rs.setClaimed(ctx, now)
}

// claimed asks what the account's data says of the journal.
func (rs *Rooms) claimed(ctx context.Context) (now claim, err error) {
	_, err = rs.Session.Try(ctx, func(ctx context.Context) error {
		now = claim{}
		return rs.Session.Client().GetAccountData(ctx, rs.claimName(), &now)
	})
	if session.IsStatus(err, http.StatusNotFound) {
		return claim{}, nil
	}
	if err != nil {
		err = fmt.Errorf("reading the account's data %s: %w", rs.claimName(), err)
	}
	return now, err
}

// setClaimed sets it.
func (rs *Rooms) setClaimed(ctx context.Context, next claim) error {
	_, err := rs.Session.Try(ctx, func(ctx context.Context) error {
		return rs.Session.Client().SetAccountData(ctx, rs.claimName(), next)
	})
	if err != nil {
		err = fmt.Errorf("setting the account's data %s: %w", rs.claimName(), err)
	}
	return err
}

func (rs *Rooms) claimName() string { return "dev.joe.journal." + rs.Journal.ID() }
