package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// pollTimeout is how long the homeserver holds a sync back while there is no news.
const pollTimeout = 30 * time.Second

// An Update is what sync brought of one room.
type Update struct {
	Room     id.RoomID
	Left     bool           // the bot is no longer in the room
	Why      string         // (Left) in the words of who removed the bot, if there are any
	Gap      bool           // sync has left out events before Timeline
	State    []*event.Event // what changed in the state before Timeline, in no order
	Timeline []*event.Event // state events, oldest first
	After    []*event.Event // what changed in the state after Timeline; State is nil then. Nil: the homeserver has not MSC4222
	Redacted []id.EventID   // events that lost their content
}

// A follower is the sync loop. Its goroutine owns it.
type follower struct {
	*Session
	first mautrix.Filter // what to ask for when it begins
	next  storedFilter   // what to ask for from then on
	since string         // up to where it has synced; "": it begins anew

	failing bool // since the last answer
	refused bool // the homeserver has just refused the token
	anew    bool // no token was accepted since it has begun anew
	again   bool // it has just logged in again
	pause   *backoff.ExponentialBackOff
	idle    idle
}

// beginSync makes the first sync.
func (s *Session) beginSync(ctx context.Context) (*follower, *mautrix.RespSync, error) {
	first, next, err := s.filters()
	if err != nil {
		return nil, nil, err
	}
	f := &follower{Session: s, first: first, next: storedFilter{text: next}, pause: backOff(time.Second, 30*time.Second), idle: newIdle()}
	var response *mautrix.RespSync
	if _, err := s.Try(ctx, func(ctx context.Context) (err error) {
		response, err = f.request(ctx, 0)
		return err
	}); err != nil {
		return nil, nil, fmt.Errorf("first sync: %w", err)
	}
	return f, response, nil
}

// begin takes over what the first sync has brought.
func (f *follower) begin(response *mautrix.RespSync, anew bool) {
	f.handle(response, anew)
	f.since = response.NextBatch
}

// Restart makes the sync loop begin anew, without what it knows of up to where it has
// synced, as after a homeserver was restored from a backup. It does not wait for that;
// [Options.Anew] is called when it has begun.
func (s *Session) Restart() {
	if s.foreign {
		s.Log.Warn("The homeserver seems to have lost what it had: the program that syncs the client of WithClient has to begin its sync anew")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restart = true
	s.interrupt()
}

// run follows the homeserver until the session's life ends.
func (f *follower) run() {
	for f.life.Err() == nil {
		ctx, done := f.turn()
		if wait := f.sync(ctx); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		done()
	}
}

// turn begins a turn of the loop, which Restart can end.
func (f *follower) turn() (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(f.life)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.restart {
		f.since = ""
		f.next.forget()
	}
	f.restart, f.interrupt = false, end
	return ctx, end
}

// sync makes one sync request, takes over what it brings, and returns how long to wait
// before the next.
func (f *follower) sync(ctx context.Context) (wait time.Duration) {
	began := time.Now()
	response, err := f.poll(ctx)
	again := errors.Is(err, errAgain) && !f.again
	f.again = again
	switch {
	case ctx.Err() != nil, again:
		return 0
	case err != nil:
		return f.fail(err)
	}
	if f.failing {
		f.Log.Info("Sync works again")
	}
	f.handle(response, f.failing || f.since == "")
	f.seen.Store(&began)
	f.failing, f.refused = false, false
	if f.since != "" {
		f.anew = false
		f.pause.Reset()
	}
	wait = f.idle.after(time.Since(began), news(response, f.since))
	f.since = response.NextBatch
	return wait
}

// fail takes note of a sync that failed, and returns how long to wait before the next.
func (f *follower) fail(err error) time.Duration {
	f.next.forget()
	refused, forGood := refusesToken(err)
	if f.since != "" && (forGood || refused && f.refused) {
		f.since, f.refused = "", false
		if f.anew { // it gives tokens that it does not take
			return f.pause.NextBackOff()
		}
		f.Log.WithError(err).Warn("The homeserver no longer knows up to where the bot has synced; sync begins anew")
		f.anew = true
		return 0
	}
	f.refused = refused
	if !f.failing {
		f.Log.WithError(err).Warn("Sync fails; what others write is not seen until it works again")
		f.failing = true
	}
	return max(f.pause.NextBackOff(), judge(err).wait)
}

// refusesToken says whether a homeserver's answer may mean that it does not take the
// since token, and whether it can mean nothing else. The specification has no error for
// that: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync
// Synapse answers M_UNKNOWN, Dendrite M_INVALID_PARAM, and others M_UNKNOWN_POS (MSC3575).
func refusesToken(err error) (maybe, surely bool) {
	var failure mautrix.HTTPError
	if !errors.As(err, &failure) || failure.RespError == nil || failure.RespError.ErrCode == "" {
		return false, false // that was not the homeserver
	}
	return failure.IsStatus(http.StatusBadRequest), failure.RespError.ErrCode == "M_UNKNOWN_POS"
}

// poll makes one sync request, and waits for news unless there was trouble: the first
// answer after that is wanted at once.
func (f *follower) poll(ctx context.Context) (*mautrix.RespSync, error) {
	wait := pollTimeout
	if f.failing || f.since == "" {
		wait = 0
	}
	bounded, cancel := context.WithTimeout(ctx, wait+f.Timeout)
	defer cancel()
	token := f.currentToken()
	response, err := f.request(bounded, wait)
	err = anonymous(err)
	f.noteReach(ctx, err)
	if errors.Is(err, mautrix.MUnknownToken) {
		if loginErr := f.logInAgain(bounded, token); loginErr != nil {
			return nil, fmt.Errorf("%w: %w", loginErr, err)
		}
		return nil, errAgain
	}
	return response, err
}

// request makes the sync request that is next.
func (f *follower) request(ctx context.Context, wait time.Duration) (*mautrix.RespSync, error) {
	req := mautrix.ReqSync{Timeout: int(wait.Milliseconds()), Since: f.since}
	var err error
	if f.since != "" {
		req.FilterID = f.filter(ctx)
	} else if req.FilterID, err = text(Unlike(f.first)); err != nil {
		return nil, err
	}
	return f.requestSync(ctx, req)
}

// handle takes over one sync response: first the rooms' state, then the handlers that
// were registered at the client's syncer. anew says that what is known of the rooms may
// be out of date.
func (f *follower) handle(response *mautrix.RespSync, anew bool) {
	if anew {
		f.Anew()
	}
	if f.since != "" { // what was there when sync began is read by Snapshot
		f.observe(response)
	} else {
		f.invitations(response)
	}
	if err := f.client.Syncer.ProcessResponse(f.life, response, f.since); err != nil {
		// A handler that panics must not end the sync loop for all others.
		f.Log.WithError(err).Error("A sync handler failed; the rest of this sync response was not handed to the handlers")
	}
}

// observe reports what a sync response brought of each room.
func (s *Session) observe(response *mautrix.RespSync) {
	for room, news := range response.Rooms.Join {
		update := Update{Room: room, Gap: news.Timeline.Limited, State: slices.Clone(news.State.Events)}
		dendrite := s.knowDendrite(news.Timeline.PrevBatch)
		for _, evt := range news.Timeline.Events {
			switch {
			case evt.StateKey != nil:
				if dendrite {
					mend(evt)
				}
				update.Timeline = append(update.Timeline, evt)
			case evt.Type.Type == event.EventRedaction.Type:
				update.Redacted = append(update.Redacted, redacts(evt))
			}
		}
		if news.StateAfter != nil {
			update.After = slices.Clone(news.StateAfter.Events)
		}
		s.Update(update)
	}
	for room, left := range response.Rooms.Leave {
		s.Update(Update{Room: room, Left: true, Why: s.why(left)})
	}
	s.invitations(response)
}

// why returns the reason that whoever removed the bot from a room has given; "": none.
func (s *Session) why(left *mautrix.SyncLeftRoom) (reason string) {
	if left == nil {
		return ""
	}
	for _, evt := range slices.Concat(left.State.Events, left.Timeline.Events) {
		if evt.Type.Type == event.StateMember.Type && evt.GetStateKey() == s.client.UserID.String() {
			var member event.MemberEventContent
			_ = json.Unmarshal(evt.Content.VeryRaw, &member) // then there is none
			reason = member.Reason
		}
	}
	return reason
}

// invitations reports which rooms the bot is invited to.
func (s *Session) invitations(response *mautrix.RespSync) {
	if s.Invited != nil && len(response.Rooms.Invite) > 0 {
		s.Invited(slices.Collect(maps.Keys(response.Rooms.Invite)))
	}
}

// redacts returns the event that a redaction is about: since room version 11 it
// stands in the content.
func redacts(evt *event.Event) id.EventID {
	if evt.Redacts != "" {
		return evt.Redacts
	}
	redacted, _ := evt.Content.Raw["redacts"].(string)
	return id.EventID(redacted)
}
