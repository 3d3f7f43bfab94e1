package room

import (
	"errors"

	"golang.org/x/sync/errgroup"
	"maunium.net/go/mautrix/id"
)

// readAhead notes that Get asks for an encrypted event for the first time. One such
// read says nothing of the next. At the second it fetches and decrypts all the room's
// values, many at the same time, in the background: who reads them one after
// another, as is all that joe.Memory lets a bot do, finds most of them there.
func (r *Room) readAhead() {
	if r.misses.Add(1) != 2 {
		return
	}
	r.rooms.inBackground(func() {
		defer r.misses.Store(0)
		group, ctx := errgroup.WithContext(r.rooms.reading)
		group.SetLimit(maxFetches)
		for _, eventID := range r.replica.Pointers() {
			if ctx.Err() != nil {
				break
			}
			group.Go(func() error {
				err := r.unseal(ctx, r.vault.event(eventID, r.replica.Points), id.EventID(eventID))
				if errors.Is(err, ErrUndecryptable) {
					return nil // that says nothing of the others
				}
				return err
			})
		}
		_ = group.Wait() // Get tries again what it is asked for, and says why it fails
	})
}
