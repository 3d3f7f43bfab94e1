package room

import (
	"context"
	"errors"
	"net/http"

	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// warnOfReset says once that the homeserver has gone back to what the room held before: as it was restored from
// a backup, and then it does not know what stood there, or as its state resolution has reset the room's state.
func (r *Room) warnOfReset(ctx context.Context) {
	lost := r.replica.Lost()
	if len(lost) == 0 {
		return
	}
	if !r.stillThere(ctx, lost[0]) {
		r.mu.Lock()
		told := r.restored
		r.restored = true
		r.mu.Unlock()
		if told { // with a state event for each key it may be found out one by one
			return
		}
		r.log().Warn("The homeserver has gone back to what the room held before, as after it was restored from a backup; what was acknowledged since is written again")
		r.rooms.Session.Restart()
		return
	}
	lack := r.lack()
	r.mu.Lock()
	r.lacking = lack
	r.mu.Unlock()
	then := "is written again"
	if lack != "" {
		then = "can't be written again: " + lack
	}
	r.log().WithField("event", lost[0]).Warn("The room's state has gone back to what it was before, and no event says why: the homeserver's state resolution has reset it; what the memory held counts, and " + then)
}

// stillThere says whether the homeserver knows an event, as far as it can be asked.
func (r *Room) stillThere(ctx context.Context, eventID string) bool {
	if eventID == "" {
		return false
	}
	_, err := r.ask(ctx, id.EventID(eventID))
	return !session.IsStatus(err, http.StatusNotFound)
}

// failed tells of what no caller waits for and could not be done, unless that was said: what the bot lacks to put back
// what a reset took, or that another room replaces this one. It is commit.Env's Failed.
func (r *Room) failed(_ string, err error) {
	err = r.refused(err)
	r.mu.RLock()
	lacking := r.lacking
	r.mu.RUnlock()
	if errors.Is(err, ErrUnknownRoom) && !r.replica.Loaded() { // leave says so
		return
	}
	if errors.Is(err, errReplaced) || lacking != "" && errors.Is(err, ErrForbidden) && lacking == r.lack() {
		return
	}
	r.log().WithError(err).Warn("The memory could not do what no handler waits for")
}
