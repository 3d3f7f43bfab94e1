package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"maunium.net/go/mautrix"
)

// Reach waits until the session is connected, which one that Open has opened is. Its error
// says since when the homeserver could not be reached, and why; it is a
// context.DeadlineExceeded where the context's time was over.
func (s *Session) Reach(ctx context.Context) error {
	if s.behind == nil || isStep(ctx) {
		return nil
	}
	select {
	case <-s.behind.up:
		return nil
	default:
	}
	select {
	case <-s.behind.up:
		return nil
	case <-s.life.Done():
		return ErrClosed
	case <-ctx.Done():
	}
	err := s.behind.state()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return late{err}
	}
	return fmt.Errorf("%w: %w", err, ctx.Err())
}

// Answers is like Reach for what is not worth waiting for a homeserver that is away: where an
// attempt to connect has failed, that is its error at once.
func (s *Session) Answers(ctx context.Context) error {
	if s.behind == nil || isStep(ctx) {
		return nil
	}
	select {
	case <-s.behind.up:
	case <-s.life.Done():
	case <-ctx.Done():
	case <-s.behind.away:
		if !s.IsConnected() {
			return s.behind.state()
		}
	}
	return s.Reach(ctx)
}

// IsConnected says whether the session is logged in and has synced. It has been so ever since
// it was open, unless OpenBehind has opened it.
func (s *Session) IsConnected() bool {
	if s.behind == nil {
		return s.IsOpen()
	}
	select {
	case <-s.behind.up:
		return true
	default:
		return false
	}
}

// IsUnreachable says whether nobody answered the last request: there was no connection, or no
// answer in time. Of those that end by their own context before, and those that are made
// past Try, it knows nothing.
func (s *Session) IsUnreachable() bool { return s.cut.Load() }

// noteReach notes whether somebody answered a request, unless its context has ended, when
// that can't be told.
func (s *Session) noteReach(ctx context.Context, err error) {
	var failure mautrix.HTTPError
	switch {
	case err == nil, errors.As(err, &failure) && failure.Response != nil, errors.As(err, new(*redirect)):
		s.cut.Store(false)
	case ctx.Err() == nil && errors.As(err, new(*url.Error)):
		s.cut.Store(true)
	}
}

// partingUnreachable is how long a last request may take where nobody has answered the one before.
const partingUnreachable = time.Second

// Parting returns a context for a last request, as when the bot ends, that has so much time, or
// little if the homeserver is not there to answer.
func (s *Session) Parting(bound time.Duration) (context.Context, context.CancelFunc) {
	if s.IsUnreachable() {
		bound = min(bound, partingUnreachable)
	}
	return context.WithTimeout(context.Background(), bound)
}
