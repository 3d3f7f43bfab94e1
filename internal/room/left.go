package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/session"
)

// expelled finds out of a homeserver's answer whether it means that the bot is no longer in the room: that it was
// removed, or the room purged. Sync says that late, and of a purge perhaps never. The error says so, then.
func (r *Room) expelled(ctx context.Context, err error) error {
	switch {
	case !r.replica.Loaded():
		return err
	case session.IsStatus(err, http.StatusForbidden), session.IsStatus(err, http.StatusNotFound):
	case errors.Is(err, mautrix.MUnsupportedRoomVersion): // as Dendrite says of a room that it does not know
	default:
		return err
	}
	if out := r.belongs(ctx); out != nil {
		return fmt.Errorf("%w; %w", out, err)
	}
	return err
}

// belongs says that the bot is not in the room, if so, and then nothing is known of it any more.
func (r *Room) belongs(ctx context.Context) error {
	err := r.rooms.Session.Belongs(ctx, r.id)
	if !errors.Is(err, ErrUnknownRoom) {
		return nil
	}
	r.leave("")
	return r.outside(err)
}

// leave forgets what is known of the room, as the bot is no longer in it: what changes there is not heard any more.
func (r *Room) leave(why string) {
	r.replica.Forget()
	if r.unmarked.Load() { // what was taken along may not stand in the room, so that is to be done again
		r.from.Store(nil)
	}
	r.mu.Lock()
	told := r.out
	r.out, r.why = true, cmp.Or(why, r.why)
	r.mu.Unlock()
	log := r.log()
	if why != "" {
		log = log.WithField("reason", why)
	}
	r.endWatchers(r.outside(fmt.Errorf("%w: the bot is no longer in it", ErrUnknownRoom)))
	if !told {
		log.Warn("The bot is no longer in the room: it has left, or was removed or banned, or the room is gone; its memory is of use again once it is invited and joins")
	}
}

// outside adds to the error of a room that the bot is not in why it was removed. Without an error it is in the room.
func (r *Room) outside(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.out, r.why = false, ""
	case errors.Is(err, ErrUnknownRoom) && r.why != "":
		err = fmt.Errorf("%w; it was removed for the reason %q", err, r.why)
	}
	return err
}
