package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A bucket limits as Synapse's rc_message does (synapse/api/ratelimiting.py).
type bucket struct {
	rate  float64 // a second
	burst float64
	name  func(wait time.Duration) error // the refusal
	takes time.Duration                  // what is granted
	noise time.Duration                  // by which the way there and back differs

	mu    sync.Mutex // owns what follows
	count float64
	start time.Time
	log   []asked
}

// Asked is one request that a bucket has seen.
type asked struct {
	what    string
	at      time.Time
	granted bool
}

const delay = 20 * time.Millisecond // of a request, and of its answer

func (b *bucket) ask(ctx context.Context, what string) error {
	if err := wait(ctx, b.way()); err != nil {
		return err
	}
	refusal := b.decide(what)
	back := b.way()
	if refusal == nil {
		back += b.takes
	}
	if err := wait(ctx, back); err != nil {
		return err
	}
	return refusal
}

// way returns how long a request or an answer takes.
func (b *bucket) way() time.Duration { return delay + rand.N(b.noise+1) }

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bucket) decide(what string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	left := b.count - now.Sub(b.start).Seconds()*b.rate
	if left < 0 || b.count == 0 {
		b.count, b.start, left = 0, now, 0
	}
	granted := left <= b.burst-1
	b.log = append(b.log, asked{what, now, granted})
	if granted {
		b.count++
		return nil
	}
	allowed := b.start.Add(time.Duration((b.count - b.burst + 1) / b.rate * float64(time.Second)))
	return b.name(allowed.Sub(now).Truncate(time.Millisecond))
}

// limit changes the limit.
func (b *bucket) limit(rate, burst float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count, b.rate, b.burst = 0, rate, burst
}

// seen returns what was asked for, and forgets it.
func (b *bucket) seen() (all []asked) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all, b.log = b.log, nil
	return all
}

// has says whether something was asked for that this holds for.
func (b *bucket) has(it func(asked) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.log, it)
}

func isRefused(a asked) bool { return !a.granted }

func refused(all []asked) (n int) {
	for _, a := range all {
		if isRefused(a) {
			n++
		}
	}
	return n
}

// synapse is the refusal of a Synapse.
func synapse(wait time.Duration) error { return tooMany(nil, float64(wait.Milliseconds())) }

func tooMany(header http.Header, ms any) error {
	answer := &mautrix.RespError{ErrCode: "M_LIMIT_EXCEEDED", Err: "Too Many Requests", ExtraData: map[string]any{}}
	if ms != nil {
		answer.ExtraData["retry_after_ms"] = ms
	}
	return mautrix.HTTPError{Response: &http.Response{StatusCode: http.StatusTooManyRequests, Header: header}, RespError: answer}
}

var tooManyPage = mautrix.HTTPError{Response: &http.Response{StatusCode: http.StatusTooManyRequests}}

// A sender is a session that sends to a bucket.
type sender struct {
	*session.Session
	bucket *bucket
	all    sync.WaitGroup
}

func newSender(timeout time.Duration, b *bucket) *sender {
	client := session.NewClient()
	client.HomeserverURL = &url.URL{Scheme: "http", Host: "localhost"}
	s := session.New(client, true)
	s.Prepare(session.Options{Timeout: timeout, Log: rig.Silence()})
	return &sender{Session: s, bucket: b}
}

func (s *sender) send(ctx context.Context, room string, urgency session.Urgency, what string) error {
	_, err := s.TrySending(ctx, nil, id.RoomID(room), urgency, func(ctx context.Context) error { return s.bucket.ask(ctx, what) })
	return err
}

// later sends in the background, and fails the test if that fails.
func (s *sender) later(t *testing.T, room string, urgency session.Urgency, what string) {
	s.all.Go(func() {
		if err := s.send(context.Background(), room, urgency, what); err != nil && !errors.Is(err, session.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	})
	synctest.Wait() // in this order
}

// steadily has rooms send, each one event after another, until the context ends. With many
// goroutines at once in its bubble the race detector fails (golang.org/issue/78156).
func (s *sender) steadily(ctx context.Context, t *testing.T, rooms int, urgency session.Urgency) {
	for i := range rooms {
		s.all.Go(func() {
			for ctx.Err() == nil {
				if err := s.send(ctx, fmt.Sprint("!", i), urgency, "steady"); err != nil && ctx.Err() == nil && !errors.Is(err, session.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	synctest.Wait()
}

// drain uses up a burst, so that the limit is known and all wait.
func (s *sender) drain(t *testing.T) {
	for n := 0; !s.bucket.has(isRefused); n++ {
		s.later(t, "!drain", session.Answer, fmt.Sprint("drain", n))
		time.Sleep(3 * delay)
	}
	s.all.Wait()
	s.later(t, "!drain", session.Answer, "drain")
	s.all.Wait()
	s.bucket.seen()
}

// granted returns what was granted, in this order.
func granted(all []asked) (whats []string) {
	for _, a := range all {
		if a.granted {
			whats = append(whats, a.what)
		}
	}
	return whats
}

// A play is a scene on a clock of its own.
func play(t *testing.T, name string, scene func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, scene) })
}

func TestPace(t *testing.T) {
	play(t, "holds nothing back without a limit", func(t *testing.T) {
		s := newSender(time.Minute, &bucket{rate: 1, burst: 1000, name: synapse})
		defer s.Close()
		begun := time.Now()
		for i := range 100 {
			s.later(t, "!a", session.Chore, fmt.Sprint(i))
		}
		s.all.Wait()
		require.Equal(t, 2*delay, time.Since(begun))
	})
	play(t, "lets few be refused", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		begun := time.Now()
		const n = 60
		for i := range n {
			s.later(t, fmt.Sprint("!", i), session.Write, fmt.Sprint(i))
		}
		s.all.Wait()
		require.LessOrEqual(t, refused(s.bucket.seen()), n-10+(n-10)/10)
		require.Less(t, time.Since(begun), 5*(n-10)*time.Second*11/10)
	})
	play(t, "learns the interval of a server that takes long for what it grants", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse, takes: 700 * time.Millisecond, noise: 100 * time.Millisecond})
		defer s.Close()
		for range 10 {
			time.Sleep(300 * time.Millisecond)
			s.later(t, "!a", session.Write, "")
		}
		begun := time.Now()
		const n = 60
		for i := range n {
			s.later(t, fmt.Sprint("!", i), session.Write, fmt.Sprint(i))
		}
		s.all.Wait()
		all := s.bucket.seen()
		t.Logf("%d of %d were refused", refused(all[10:]), len(all)-10)
		require.LessOrEqual(t, refused(all), n+n/5)
		require.Less(t, time.Since(begun), n*5*time.Second*11/10)
	})
	play(t, "is not misled by what another program sends", func(t *testing.T) {
		b := &bucket{rate: .2, burst: 10, name: synapse}
		s := newSender(24*time.Hour, b)
		defer s.Close()
		s.drain(t)
		time.Sleep(20 * time.Minute)
		for range 10 {
			require.NoError(t, b.decide("of another program"))
		}
		begun := time.Now()
		for range 5 { // the first is refused, long after the last that was granted
			require.NoError(t, s.send(t.Context(), "!a", session.Write, ""))
		}
		require.Less(t, time.Since(begun), 50*time.Second)
	})
	play(t, "lets the most urgent go first, and rooms take turns", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		for _, what := range []string{"a1", "a2", "a3", "b1", "b2", "c1"} {
			s.later(t, "!"+what[:1], session.Write, what)
		}
		for _, what := range []string{"x1", "x2", "y1"} {
			s.later(t, "!"+what[:1], session.Answer, what)
		}
		s.later(t, "!d", session.Write, "d1")
		s.all.Wait()
		require.Equal(t, []string{"x1", "y1", "x2", "a1", "b1", "c1", "d1", "a2", "b2", "a3"}, granted(s.bucket.seen()))
	})
	play(t, "keeps the place of what is refused", func(t *testing.T) {
		b := &bucket{rate: .2, burst: 10, name: synapse}
		s := newSender(time.Hour, b)
		defer s.Close()
		s.drain(t)
		for _, what := range []string{"a1", "a2", "b1", "b2"} {
			s.later(t, "!"+what[:1], session.Write, what)
		}
		b.decide("by another program") // what is sent next is refused
		time.Sleep(time.Second)
		b.mu.Lock()
		b.count++
		b.mu.Unlock()
		s.all.Wait()
		all := b.seen()
		require.NotZero(t, refused(all))
		require.Equal(t, []string{"a1", "b1", "a2", "b2"}, granted(all))
	})
	play(t, "takes nothing for what fails for another reason", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		forbidden := mautrix.HTTPError{Response: &http.Response{StatusCode: http.StatusForbidden}, RespError: &mautrix.RespError{ErrCode: "M_FORBIDDEN"}}
		begun := time.Now()
		for range 50 {
			_, err := s.TrySending(t.Context(), nil, "!a", session.Write, func(context.Context) error { return forbidden })
			require.ErrorIs(t, err, mautrix.MForbidden)
		}
		require.NoError(t, s.send(t.Context(), "!a", session.Write, ""))
		require.Less(t, time.Since(begun), 11*time.Second)
	})
	play(t, "goes on after an attempt that panics", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		require.Panics(t, func() {
			_, _ = s.TrySending(t.Context(), nil, "!a", session.Write, func(context.Context) error { panic("malformed") })
		})
		time.Sleep(2 * time.Minute)
		begun := time.Now()
		for i := range 10 {
			s.later(t, fmt.Sprint("!", i), session.Write, "")
		}
		s.all.Wait()
		require.Equal(t, 2*delay, time.Since(begun), "nothing is held back after a while")
	})
	play(t, "ends a write before it begins the next", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		for _, room := range []string{"a", "b", "c"} {
			s.all.Go(func() {
				err := s.TryPart(context.Background(), id.RoomID("!"+room), func(ctx context.Context) error { return s.bucket.ask(ctx, room+" value") })
				if err == nil {
					err = s.send(context.Background(), "!"+room, session.Write, room+" pointer")
				}
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		s.all.Wait()
		require.Equal(t, []string{"a value", "a pointer", "b value", "b pointer", "c value", "c pointer"}, granted(s.bucket.seen()))
	})
	play(t, "leaves nothing waiting for ever", func(t *testing.T) {
		s := newSender(24*time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		s.later(t, "!chore", session.Chore, "chore")
		s.later(t, "!write", session.Write, "write")
		for i := range 100 {
			s.later(t, "!answers", session.Answer, fmt.Sprint(i))
		}
		s.all.Wait()
		order := granted(s.bucket.seen())
		require.Equal(t, "write", order[4])
		require.Equal(t, "chore", order[50])
	})
	play(t, "leaves to answers what they would have without chores", func(t *testing.T) {
		s := newSender(24*time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.steadily(ctx, t, 100, session.Chore)
		answer := func() time.Duration {
			begun := time.Now()
			s.later(t, "!chat", session.Answer, "answer")
			for !s.bucket.has(func(a asked) bool { return a.what == "answer" && a.granted }) {
				time.Sleep(delay)
				synctest.Wait()
			}
			s.bucket.seen()
			return time.Since(begun)
		}
		time.Sleep(time.Minute) // the burst comes back
		for range 100 {         // nearly as fast as the limit is
			require.LessOrEqual(t, answer(), 3*delay)
			time.Sleep(5500 * time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		for range 10 { // several at once, nearly as often as they could be without chores
			for range 5 {
				require.LessOrEqual(t, answer(), 3*delay)
			}
			time.Sleep(28 * time.Second)
		}
		s.bucket.seen()
		time.Sleep(20 * time.Minute)
		all := s.bucket.seen()
		require.InDelta(t, 120, len(all), 10, "chores go at half the pace")
		require.LessOrEqual(t, refused(all), len(all)/20)
		cancel()
		s.all.Wait()
	})
	play(t, "leaves something to answers as soon as there is something", func(t *testing.T) {
		s := newSender(24*time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		s.steadily(ctx, t, 100, session.Chore)
		time.Sleep(5 * time.Second) // one learns what the limit is
		s.bucket.seen()
		for i := range 60 {
			time.Sleep(5500 * time.Millisecond)
			s.later(t, "!chat", session.Answer, "answer")
			time.Sleep(3 * delay)
			require.True(t, s.bucket.has(func(a asked) bool { return a.what == "answer" && a.granted }), i)
			s.bucket.seen()
		}
		cancel()
		s.all.Wait()
	})
	play(t, "goes on at once when the limit is lifted", func(t *testing.T) {
		b := &bucket{rate: .2, burst: 10, name: synapse}
		s := newSender(24*time.Hour, b)
		defer s.Close()
		s.drain(t)
		for i := range 150 {
			s.later(t, "!a", session.Write, fmt.Sprint(i))
		}
		time.Sleep(20 * time.Second)
		b.limit(1e6, 1e6)
		begun := time.Now()
		s.all.Wait()
		require.Less(t, time.Since(begun), time.Minute)
		time.Sleep(time.Second)
		begun = time.Now()
		for i := range 100 {
			s.later(t, "!a", session.Chore, fmt.Sprint(i))
		}
		s.all.Wait()
		require.Equal(t, 2*delay, time.Since(begun))
	})
	play(t, "finds out for chores that the limit is lifted", func(t *testing.T) {
		b := &bucket{rate: .02, burst: 10, name: synapse}
		s := newSender(24*time.Hour, b)
		defer s.Close()
		s.drain(t)
		for i := range 150 {
			s.later(t, fmt.Sprint("!", i), session.Chore, fmt.Sprint(i))
		}
		time.Sleep(2 * time.Minute)
		b.limit(1e6, 1e6)
		begun := time.Now()
		s.all.Wait()
		require.Less(t, time.Since(begun), 75*time.Minute)
	})
	play(t, "follows a limit that changes", func(t *testing.T) {
		b := &bucket{rate: .2, burst: 10, name: synapse}
		s := newSender(24*time.Hour, b)
		defer s.Close()
		s.drain(t)
		ctx, cancel := context.WithCancel(t.Context())
		s.steadily(ctx, t, 20, session.Write)
		for _, rate := range []float64{.2, 1, .1, 2, .05} {
			b.limit(rate, 3)
			time.Sleep(5*time.Minute + time.Duration(30*float64(time.Second)/rate))
			b.seen()
			time.Sleep(time.Duration(50 * float64(time.Second) / rate))
			all := b.seen()
			require.InDelta(t, 50, len(granted(all)), 5, "at %v", rate)
			require.LessOrEqual(t, refused(all), 10, "at %v", rate)
		}
		cancel()
		s.all.Wait()
	})
	for name, test := range map[string]struct {
		refusal func(time.Duration) error
		most    int // refused for each that is granted after the burst, in percent
	}{
		"none":        {func(time.Duration) error { return tooMany(nil, nil) }, 50},
		"zero":        {func(time.Duration) error { return tooMany(nil, 0.0) }, 50},
		"negative":    {func(time.Duration) error { return tooMany(http.Header{"Retry-After": {"-5"}}, -1000.0) }, 50},
		"text":        {func(time.Duration) error { return tooMany(http.Header{"Retry-After": {"soon"}}, "later") }, 50},
		"page":        {func(time.Duration) error { return tooManyPage }, 50},
		"always 1 ms": {func(time.Duration) error { return tooMany(nil, 1.0) }, 300},
		"whole seconds": {func(wait time.Duration) error {
			return tooMany(http.Header{"Retry-After": {fmt.Sprint(int(wait.Seconds() + 1))}}, nil)
		}, 20},
	} {
		play(t, "bears a server that names as the time: "+name, func(t *testing.T) {
			s := newSender(24*time.Hour, &bucket{rate: .2, burst: 10, name: test.refusal})
			defer s.Close()
			begun := time.Now()
			const n = 60
			for i := range n {
				s.later(t, fmt.Sprint("!", i), session.Write, fmt.Sprint(i))
			}
			s.all.Wait()
			all := s.bucket.seen()
			t.Logf("%d values took %d requests and %s", n, len(all), time.Since(begun))
			require.LessOrEqual(t, refused(all), n-10+(n-10)*test.most/100)
			require.Less(t, time.Since(begun), 5*(n-10)*time.Second*13/10)
		})
	}
	play(t, "asks again although a week was named", func(t *testing.T) {
		week := 7 * 24 * time.Hour
		b := &bucket{rate: .2, burst: 10, name: synapse}
		s := newSender(20*time.Second, b)
		defer s.Close()
		s.drain(t)
		time.Sleep(10 * time.Second)
		b.limit(.2, 0)
		b.name = func(time.Duration) error { return tooMany(nil, float64(week.Milliseconds())) }
		fails := func() {
			begun := time.Now()
			err := s.send(t.Context(), "!a", session.Answer, "")
			require.ErrorContains(t, err, "the homeserver asks to wait 16")
			require.ErrorContains(t, err, "longer than the timeout of 20s leaves (1")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, mautrix.MLimitExceeded)
			require.LessOrEqual(t, time.Since(begun), 2*delay)
		}
		fails()
		require.Len(t, b.seen(), 1)
		fails()
		require.Empty(t, b.seen())
		time.Sleep(21 * time.Second)
		fails()
		require.Len(t, b.seen(), 1)
		time.Sleep(21 * time.Second)
		b.limit(1, 1)
		b.name = synapse
		for i := range 3 {
			s.later(t, fmt.Sprint("!", i), session.Answer, "")
		}
		s.all.Wait()
	})
	play(t, "says to whom there was no turn for why", func(t *testing.T) {
		s := newSender(30*time.Second, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		begun := time.Now()
		var failed []error
		var mu sync.Mutex
		for i := range 20 {
			s.all.Go(func() {
				acted, err := s.TrySending(t.Context(), nil, id.RoomID(fmt.Sprint("!", i)), session.Write, func(ctx context.Context) error { return s.bucket.ask(ctx, "") })
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					require.False(t, acted)
					failed = append(failed, err)
				}
			})
		}
		s.all.Wait()
		require.Less(t, time.Since(begun), 30*time.Second)
		require.Len(t, failed, 15, "five go in the 27 s that are not left for the answer")
		for _, err := range failed {
			require.ErrorContains(t, err, "the homeserver asks to wait")
			require.ErrorContains(t, err, "longer than the timeout of 30s leaves")
			require.ErrorIs(t, err, mautrix.MLimitExceeded)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotContains(t, err.Error(), "attempts")
		}
		require.Zero(t, s.Waiting())
	})
	play(t, "lets go whom it holds back", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		s.drain(t)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() { errs <- s.send(ctx, "!a", session.Write, "left") }()
		synctest.Wait()
		go func() { errs <- s.send(t.Context(), "!b", session.Write, "closed") }()
		synctest.Wait()
		require.Equal(t, 2, s.Waiting())
		cancel()
		err := <-errs
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, mautrix.MLimitExceeded)
		require.ErrorContains(t, err, "waiting for its turn, as the homeserver limits how much the account sends")
		require.Equal(t, 1, s.Waiting())
		s.Close()
		require.ErrorIs(t, <-errs, session.ErrClosed)
		require.Zero(t, s.Waiting())
		require.Empty(t, s.bucket.seen())
	})
	play(t, "lets chores give way", func(t *testing.T) {
		s := newSender(time.Hour, &bucket{rate: .2, burst: 10, name: synapse})
		defer s.Close()
		s.drain(t)
		idle, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		go func() {
			_, acted, err := s.PutState(t.Context(), idle, "!a", rig.MemoryType, "", nil, func() error { panic("it is not sent") })
			if acted {
				t.Error("it was not sent")
			}
			errs <- err
		}()
		synctest.Wait()
		require.Equal(t, 1, s.Waiting())
		cancel()
		err := <-errs
		require.ErrorIs(t, err, session.ErrGaveWay)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, s.Waiting())
	})
}

// A sending is one event of a property test.
type sending struct {
	at      time.Duration
	place   int
	urgency session.Urgency
	leaves  time.Duration // after which its caller does not wait any more; 0: never
}

// Whatever the limit and whoever sends: all that is waited for is sent, few are refused, and
// it takes not much longer than it has to.
func TestPaceOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		interval := time.Duration(rapid.Int64Range(int64(50*time.Millisecond), int64(20*time.Second)).Draw(rt, "interval"))
		burst := rapid.IntRange(1, 30).Draw(rt, "burst")
		lifted := time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(rt, "lifted after"))
		sendings := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) sending {
			s := sending{
				at:      time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(rt, "at")),
				place:   rapid.IntRange(0, 5).Draw(rt, "room"),
				urgency: rapid.SampledFrom([]session.Urgency{session.Answer, session.Write, session.Chore}).Draw(rt, "urgency"),
			}
			if rapid.IntRange(0, 9).Draw(rt, "leaves") == 0 {
				s.leaves = time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(rt, "after"))
			}
			return s
		}), 20, 150).Draw(rt, "sendings")
		fault := ""
		synctest.Test(t, func(t *testing.T) { fault = playSendings(interval, burst, lifted, sendings) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

func playSendings(interval time.Duration, burst int, lifted time.Duration, sendings []sending) (fault string) {
	b := &bucket{rate: 1 / interval.Seconds(), burst: float64(burst), name: synapse}
	s := newSender(24*time.Hour, b)
	defer s.Close()
	begun := time.Now()
	var mu sync.Mutex
	fail := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if fault == "" {
			fault = fmt.Sprintf(format, args...)
		}
	}
	for i, what := range sendings {
		s.all.Go(func() {
			time.Sleep(what.at)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if what.leaves > 0 {
				defer time.AfterFunc(what.leaves, cancel).Stop()
			}
			err := s.send(ctx, fmt.Sprint("!", what.place), what.urgency, fmt.Sprint(i))
			if err != nil && ctx.Err() == nil {
				fail("%d: %v", i, err)
			}
		})
	}
	time.Sleep(lifted)
	all := b.seen()
	b.limit(1e9, 1e9)
	s.all.Wait()
	took := time.Since(begun)
	n := len(granted(all))
	// What was under way when the first was refused could not know.
	herd := 0
	if first := slices.IndexFunc(all, isRefused); first >= 0 {
		for _, a := range all[first:] {
			if !a.granted && a.at.Sub(all[first].at) <= 2*delay {
				herd++
			}
		}
	}
	if most := herd + n/5 + 3; refused(all) > most {
		fail("%d refused, %d granted, more than %d", refused(all), n, most)
	}
	if most := max(10*time.Minute, lifted) + time.Hour + 10*time.Minute; took > most {
		fail("it took %s", took)
	}
	if s.Waiting() > 0 {
		fail("%d wait still", s.Waiting())
	}
	return fault
}
