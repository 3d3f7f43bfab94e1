package session

import (
	"time"

	"github.com/cenkalti/backoff/v5"
)

// An allowance is what is known of how much the homeserver lets the account send. Synapse has
// a leaky bucket for each account (rc_message): a burst, by default of 10, and then one event
// each interval, by default 5 s. It counts messages, state events and redactions together, but
// none that it refuses, and says with a 429 how long the bucket has no place. Burst and interval
// it tells nobody. The interval follows from two refusals and what was granted between them.
//
// Before the first refusal, and when all has been quiet since for as long as a burst takes to
// come back, nothing is held back.
type allowance struct {
	timeout time.Duration // a wait that is longer is obeyed no longer than this before asking again

	limited  bool          // the homeserver has refused something lately; the rest counts only then
	interval time.Duration // from one request to the next
	learnt   bool          // that follows from two refusals
	next     time.Time     // when one is allowed; where that is past, more have been saved up
	named    time.Time     // until when the homeserver asked to wait, however long that is; zero: it is asked again
	spare    time.Time     // when the next may go that nobody waits for

	period   int       // counts the refusals that the next request hangs on: what went before the last is out of date
	refused  time.Time // when the last one came
	origin   time.Time // the time that it named; zero: none that anything follows from
	granted  int       // requests that went since then and were granted
	latest   time.Time // when any request was granted
	departed time.Time // when the last one went
	underway int
	pause    *backoff.ExponentialBackOff // nil: the last one was granted
}

const (
	// burst is how many requests are saved up at most. It is Synapse's default.
	burst = 10
	// reserve is how many of these are left to what somebody waits for.
	reserve = 5
	// trust is how many requests are granted before one that has to wait goes ahead of its time,
	// to learn whether the limit is what it was.
	trust = 10
	// doubt is how long after the last refusal the interval is no longer believed. To learn
	// whether it is what it was, all that was saved up has to be spent, so that is seldom.
	doubt = time.Hour
)

// A trip is a request on its way.
type trip struct {
	period int
	cost   time.Duration // by which it moved next on
	early  bool          // it went ahead of its time
}

// rest ends the limit if all has been quiet. Nothing must wait.
func (a *allowance) rest(now time.Time) {
	if a.limited && a.underway == 0 && now.Sub(later(a.departed, a.next)) >= burst*a.interval {
		a.limited, a.origin = false, time.Time{}
	}
}

// when returns the time at which the next request may go. What nobody waits for (idle) goes at
// half the pace, and leaves some of what was saved up.
func (a *allowance) when(now time.Time, idle bool) time.Time {
	switch {
	case !a.limited:
		return now
	case idle && a.learnt:
		return later(a.next.Add(reserve*a.interval), a.spare)
	case a.underway == 0 && (a.granted >= trust || a.granted > 0 && !a.learnt):
		return now
	default:
		return a.next
	}
}

// depart notes that a request goes.
func (a *allowance) depart(now time.Time, idle bool) trip {
	a.underway++
	a.departed = now
	a.named = time.Time{} // it is asked again
	if !a.limited {
		return trip{period: a.period}
	}
	t := trip{period: a.period, cost: a.interval, early: a.next.After(now)}
	a.next = later(a.next, now.Add(-(burst-1)*a.interval)).Add(a.interval)
	if idle {
		a.spare = now.Add(2 * a.interval)
	}
	return t
}

// grant notes that the homeserver did what was asked for.
func (a *allowance) grant(t trip, now time.Time) {
	a.underway--
	a.latest = now
	if t.period != a.period {
		return
	}
	a.granted++
	a.pause = nil
	if a.limited && (t.early || now.Sub(a.refused) >= doubt) {
		a.interval -= a.interval / 4
		a.next = earlier(a.next, now.Add(a.interval))
	}
}

// fail notes that a request failed for another reason. counted says that the homeserver may
// have acted.
func (a *allowance) fail(t trip, counted bool) {
	a.underway--
	if a.limited && t.period == a.period && !counted {
		a.next = a.next.Add(-t.cost)
	}
}

// refuse notes that the homeserver asks to wait, and returns for how long it is obeyed: where
// it names no time, or refuses again what came at the time that it had named, with pauses that
// grow.
func (a *allowance) refuse(t trip, now time.Time, wait time.Duration) time.Duration {
	a.underway--
	if t.period != a.period { // it was sent before the refusal that is known
		a.next = later(a.next, now.Add(min(wait, a.timeout)))
		a.named = later(a.named, now.Add(wait))
		return wait
	}
	again := a.pause != nil
	told := wait > 0 && !again
	if !again {
		a.pause = backOff(shortest, longest)
	}
	if !told {
		wait = max(wait, a.pause.NextBackOff())
	}
	next := now.Add(min(wait, a.timeout))
	switch {
	case !told && t.early: // that says no more than that it was early
		next = later(next, a.next.Add(-t.cost))
		a.origin = time.Time{}
	case wait > a.timeout:
		a.origin = time.Time{}
	default:
		a.learn(next, wait, told)
	}
	a.learnt, a.limited = a.learnt || a.limited, true
	a.next, a.named = next, later(next, now.Add(wait))
	a.period++
	a.refused, a.granted = now, 0
	return wait
}

// learn takes from a refusal how long the interval is: no shorter than the wait, nor than the
// time from the last request that was granted, if nobody else used the account; and no longer than
// the time from what the last refusal named, for each request that was granted since. That one
// is exact, unless a whole burst was saved up meanwhile; then it is far off the other.
func (a *allowance) learn(next time.Time, wait time.Duration, told bool) {
	lower := wait
	if a.underway == 0 && !a.latest.IsZero() {
		lower = max(lower, min(next.Sub(a.latest), 2*max(wait, a.interval))) // others may use the account, too
	}
	interval := max(a.interval, lower)
	if told && a.granted > 0 && !a.origin.IsZero() {
		upper := next.Sub(a.origin) / time.Duration(a.granted)
		if interval = max(min(interval, upper), lower); upper < lower*3/2 {
			interval = max(upper, lower)
		}
	}
	a.interval = min(interval, a.timeout)
	a.origin = next
	if !told {
		a.origin = time.Time{}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
