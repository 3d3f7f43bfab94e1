package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// Try calls attempt until it succeeds, fails for good, or the session's timeout
// is over. It waits until the session is connected, and as long as a homeserver
// that limits the rate says, and backs off with jitter from one that is in
// trouble. acted says that an attempt that failed may have been acted upon by the
// homeserver all the same.
//
// Only what may safely be done twice may be tried: Matrix makes a state event
// with the same content, or an event with the same transaction ID, only once.
func (s *Session) Try(ctx context.Context, attempt func(context.Context) error) (acted bool, err error) {
	return s.tryLoggedIn(ctx, nil, attempt)
}

// TrySending is Try for what the homeserver counts as sent by the account: an event of a room,
// or a redaction. Each attempt waits for its turn at the session's pace. Once idle ends, what
// waits for its turn is not sent, and the error is [ErrGaveWay]; idle may be nil.
func (s *Session) TrySending(ctx, idle context.Context, room id.RoomID, urgency Urgency, attempt func(context.Context) error) (acted bool, err error) {
	return s.tryLoggedIn(ctx, newTurn(idle, room, urgency), attempt)
}

// tryLoggedIn tries, and logs in again where the homeserver has logged the bot out. There is no
// turn for what the homeserver does not count.
func (s *Session) tryLoggedIn(ctx context.Context, t *turn, attempt func(context.Context) error) (acted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if err := s.Reach(ctx); err != nil {
		return false, err
	}
	logins := 0
	return s.try(ctx, t, func(ctx context.Context) error {
		token := s.currentToken()
		err := attempt(ctx)
		if !errors.Is(err, mautrix.MUnknownToken) {
			return err
		}
		// A login that does not last means that somebody keeps logging the device out.
		if logins++; logins > 2 {
			return fmt.Errorf("logged out again at once, as by another program with the same device_id: %w", err)
		}
		if loginErr := s.logInAgain(ctx, token); loginErr != nil {
			return &backoff.PermanentError{Err: fmt.Errorf("%w: %w", loginErr, err)}
		}
		return errAgain
	})
}

// errAgain asks for another attempt at once, with a new login.
var errAgain = errors.New("the homeserver has logged the bot out")

func (s *Session) try(ctx context.Context, t *turn, attempt func(context.Context) error) (acted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	ctx = mautrix.WithMaxRetries(ctx, 0) // ours are the only retries
	deadline, _ := ctx.Deadline()
	// An attempt that has no time left to be answered would only hide what the others were
	// told, and whether the homeserver acted.
	latest := deadline.Add(-time.Until(deadline) / 10)

	tries, final := 0, false
	var last error
	limits := backOff(shortest, longest) // backoff.Retry begins anew with its own after each wait that a server asks for
	maxTries := uint(0)                  // no limit but the time
	if isMadeOnce(ctx) {
		maxTries = 1
	}
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		if t != nil {
			if err := s.pace.wait(ctx, t, latest); err != nil {
				final = errors.Is(err, ErrGaveWay)
				if last == nil || ctx.Err() == nil {
					last = err
				}
				return struct{}{}, backoff.Permanent(last)
			}
		}
		tries++
		attemptCtx, cancel := context.WithTimeout(ctx, s.attemptTimeout())
		defer cancel()
		returned := false
		defer func() {
			if t != nil && !returned { // it panicked
				s.pace.done(t, errors.New("a fault of this program"), verdict{acted: true})
			}
		}()
		err := anonymous(attempt(attemptCtx))
		returned = true
		s.noteReach(ctx, err)
		verdict := judge(err)
		wait := verdict.wait
		if t != nil {
			wait = s.pace.done(t, err, verdict)
		} else if verdict.limited {
			wait = max(wait, limits.NextBackOff()) // what asks for no wait at all is not taken at its word
		}
		if err == nil {
			return struct{}{}, nil
		}
		if told := hopeless(err); told != nil && (!s.IsOpen() || isStep(ctx)) {
			verdict.final, err = !s.IsOpen(), told
		}
		if isStep(ctx) && !verdict.final && !verdict.limited && !verdict.again && ctx.Err() == nil {
			s.behind.unreachable(s.Log, err)
		}
		acted = acted || verdict.acted
		if last == nil || !verdict.again && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			last = err // that the time was over says less than what went wrong before
		}
		final = verdict.final
		switch left := time.Until(latest); {
		case ctx.Err() != nil || verdict.final:
			return struct{}{}, backoff.Permanent(last)
		case verdict.limited && left < wait:
			last = tooLong(wait, s.Timeout, left, err)
			return struct{}{}, backoff.Permanent(last)
		case verdict.limited:
			s.Log.WithField("wait", wait.String()).Debug("The homeserver limits the rate of requests; waiting as it says")
			if t != nil {
				return struct{}{}, &backoff.RetryAfterError{} // its turn comes no sooner
			}
			return struct{}{}, &backoff.RetryAfterError{Duration: wait}
		case verdict.again:
			return struct{}{}, &backoff.RetryAfterError{}
		}
		return struct{}{}, last
	}, backoff.WithBackOff(backOff(shortest, longest)), backoff.WithMaxElapsedTime(time.Until(latest)), backoff.WithMaxTries(maxTries))
	if err == nil {
		return acted, nil
	}
	if s.life.Err() != nil {
		return acted, fmt.Errorf("%w: %w", ErrClosed, last)
	}
	if tries > 1 {
		last = fmt.Errorf("%w (gave up after %d attempts)", last, tries)
	}
	if !final && !errors.Is(ctx.Err(), context.Canceled) {
		last = late{last}
	}
	return acted, last
}

// tooLong is the error of what a homeserver that limits the rate leaves no time for.
func tooLong(wait, timeout, left time.Duration, err error) error {
	return fmt.Errorf("the homeserver asks to wait %s, longer than the timeout of %s leaves (%s): %w", wait, timeout, max(0, left).Round(time.Millisecond), err)
}

// late is an error of the last attempt that there was time for. It is a
// context.DeadlineExceeded as well, whoever set the deadline, and though it has not
// passed where the next attempt would have come after it.
type late struct{ error }

func (l late) Unwrap() error        { return l.error }
func (l late) Is(target error) bool { return target == context.DeadlineExceeded }

// shortest and longest are the pauses between attempts, where the homeserver names none.
const shortest, longest = 200 * time.Millisecond, 10 * time.Second

// backOff returns how long to wait between attempts, growing from the first pause to
// the longest.
func backOff(first, longest time.Duration) *backoff.ExponentialBackOff {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval, policy.MaxInterval = first, longest
	return policy
}

// anonymous takes what follows the homeserver's name off the URL in an error, which
// can name memory keys, and of a sync holds its whole filter, and what a page says.
func anonymous(err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		if parsed, parseErr := url.Parse(failure.URL); parseErr == nil {
			failure.URL = parsed.Scheme + "://" + parsed.Host
		}
	}
	return asPage(err)
}

// attemptTimeout bounds one attempt, so that an answer that never comes leaves
// time for another.
func (s *Session) attemptTimeout() time.Duration { return s.Timeout / 3 }

// A verdict is what a failed attempt means.
type verdict struct {
	final   bool          // another attempt would fail too
	acted   bool          // the homeserver may have acted
	limited bool          // it asks to wait
	wait    time.Duration // this long
	again   bool          // the next one may come at once
}

func judge(err error) verdict {
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		return verdict{final: true}
	}
	if errors.Is(err, errAgain) {
		return verdict{again: true}
	}
	if unsent(err) || errors.As(err, new(*redirect)) { // who redirects does nothing else
		return verdict{}
	}
	var failure mautrix.HTTPError
	if !errors.As(err, &failure) || failure.Response == nil {
		return verdict{acted: true}
	}
	switch status := failure.Response.StatusCode; {
	case status == http.StatusTooManyRequests:
		return verdict{limited: true, wait: retryAfter(failure)}
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && !isPage(failure):
		return verdict{final: true}
	default:
		return verdict{acted: true} // for a page as well: who made it may have asked the homeserver before
	}
}

// retryAfter returns how long a homeserver that limits the rate asks to wait:
// https://spec.matrix.org/v1.16/client-server-api/#rate-limiting has the
// Retry-After header, and the older retry_after_ms in the body. The longer counts.
func retryAfter(failure mautrix.HTTPError) (wait time.Duration) {
	if header := failure.Response.Header.Get("Retry-After"); header != "" {
		if seconds, err := strconv.ParseFloat(header, 64); err == nil {
			wait = time.Duration(seconds * float64(time.Second))
		} else if date, err := http.ParseTime(header); err == nil {
			wait = time.Until(date)
		}
	}
	if failure.RespError != nil {
		if ms, ok := failure.RespError.ExtraData["retry_after_ms"].(float64); ok {
			wait = max(wait, time.Duration(ms*float64(time.Millisecond)))
		}
	}
	return max(0, wait)
}
