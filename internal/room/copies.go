package room

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A journal that was restored from a backup, or copied to another machine, holds changes that
// were delivered long ago, and that others have changed since. So the account has a number for
// each journal, which is raised with deliveries: a file with a smaller one is not the latest.

// raiseAfter is how long deliveries go on without raising it.
const raiseAfter = time.Minute

type generation struct {
	Generation int64 `json:"generation"`
}

// claim finds out whether the journal is the latest there is, and sees to it that copies of it as
// it is now are not. It says false if nothing can be delivered any more.
func (rs *Rooms) claim(ctx context.Context) bool {
	if rs.copied.Load() {
		return true
	}
	if !rs.raised.IsZero() && (time.Since(rs.raised) < raiseAfter || len(rs.Journal.Rooms()) == 0) {
		return true
	}
	name := "dev.joe.journal." + rs.Journal.ID()
	defer rs.flusher.unclaimed(nil)
	warned := false
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := rs.raise(ctx, name)
		switch {
		case err == nil:
			rs.raised = time.Now()
			return true
		case errors.Is(err, errCopy):
			return true // what was made since the start
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

var errCopy = errors.New("the journal is a copy")

func (rs *Rooms) raise(ctx context.Context, name string) error {
	var now generation
	_, err := rs.Session.Try(ctx, func(ctx context.Context) error {
		return rs.Session.Client().GetAccountData(ctx, name, &now)
	})
	if err != nil && !session.IsStatus(err, http.StatusNotFound) {
		return err
	}
	if now.Generation > rs.Journal.Generation() {
		rs.abandon()
		return errCopy
	}
	next := generation{rs.Journal.Generation() + 1}
	if err := rs.Journal.SetGeneration(next.Generation); err != nil {
		return err
	}
	_, err = rs.Session.Try(ctx, func(ctx context.Context) error {
		return rs.Session.Client().SetAccountData(ctx, name, next)
	})
	return err
}

// noteCopied is the note of a journal that was found to be a copy.
const noteCopied = "copied"

// abandon gives up what a journal holds that is a copy: the original has delivered it, or
// somebody has changed it since. It stays in the file, and counts as refused.
func (rs *Rooms) abandon() {
	rs.copied.Store(true)
	_ = rs.Journal.Save(journal.Known{Notes: map[string]string{noteCopied: "yes"}}) // else the next start finds it out again
	for _, room := range rs.Journal.Rooms() {
		for _, change := range rs.Journal.Changes(room) {
			if change.Seq > rs.begun { // it was made since the start
				continue
			}
			rs.Journal.Refuse(room, change.Key, change.Seq, "the journal is a copy")
		}
	}
	changes, refused, _ := rs.Journal.Pending()
	rs.Log.WithField("changes", changes+refused).Errorf("The journal %s is a copy, or was restored from a backup: the original has delivered since. What it holds is not delivered, and changes wait for the homeserver from now on. If no other bot uses the original, remove this file and start again", rs.Journal.Path())
	rs.flusher.tell()
}
