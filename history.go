package matrix

import (
	"context"
	"iter"
)

// History tells which values a key had and when it was deleted, the latest change first, from the
// room's own events: as far back as the homeserver gives them to the bot. It asks the homeserver
// while the loop goes on, page by page, each within Config.Timeout, and ends with the context.
//
// An error without a change ends it. An error with a change says why its value can't be read: the encrypted
// event of a value that was deleted is redacted, so that of these only who set them, and when, is
// known. What others have put without stamps at the same moment, and a program as opsdroid
// has taken away and a memory put back, is told as it stood there. Of a room that replaces another
// one, what was taken along is told as set by who took it along. What waits in Config.Journal is not told.
//
// To set a former value again, set it: it is a change like any other.
func (r *Room) History(ctx context.Context, key string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		b := r.budget()
		defer b.End()
		found, err := r.use(&b, "history", key)
		if err != nil {
			if ctx.Err() == nil && r.ctx.Err() == nil {
				yield(Change{}, err)
			}
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(r.ctx, cancel)()
		for c, err := range found.History(ctx, key) {
			if !yield(public(c), r.fail("history", found.ID().String(), key, err)) {
				return
			}
		}
	}
}
