package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// A Known is what a session knew when it was last connected.
type Known struct {
	User    id.UserID            // whose the account is
	Aliases map[string]id.RoomID // which rooms they stand for
}

// behind is how far a session has come that connects in the background.
type behind struct {
	up    chan struct{} // closed once it is connected
	away  chan struct{} // closed once an attempt to connect has failed
	began time.Time     // to connect

	mu     sync.Mutex // owns what follows
	what   string     // keeps it from being connected
	why    error      // nil: nothing has failed so far
	warned bool       // that the homeserver can't be reached
	told   string     // what was said of what no waiting helps against
}

// OpenBehind opens the session as Open does, for a bot that remembers, and returns at once: the
// loop's goroutine logs in and syncs, as soon as the homeserver lets it. Until then, requests
// wait for that within their time, and what is known from before counts. The account must be the
// same. An error is one of the settings, and then nothing is left running.
func (s *Session) OpenBehind(opts Options, known Known) error {
	if s.foreign {
		if s.client.UserID != known.User {
			return fmt.Errorf("the client of WithClient is logged in as %s, and what is known is of %s", s.client.UserID, known.User)
		}
		if err := s.Open(context.Background(), opts); err != nil {
			return err
		}
		s.remember(known.Aliases)
		return nil
	}
	s.Options = opts
	if s.UserID != "" && id.UserID(s.UserID) != known.User {
		return fmt.Errorf("mxid is %s, and what is known is of %s", s.UserID, known.User)
	}
	if _, _, err := s.filters(); err != nil {
		return err
	}
	s.client.UserID, s.client.DeviceID = known.User, id.DeviceID(s.DeviceID)
	if s.AccessToken == "" {
		s.client.DeviceID = cmp.Or(s.client.DeviceID, id.DeviceID(rand.Text()[:10])) // one for all attempts
	}
	s.client.HomeserverURL = &url.URL{} // by which a request of the program's fails before it is made
	if s.isDiscovered() {
		var err error
		if s.client.HomeserverURL, err = s.discover(context.Background()); err != nil {
			return err
		}
	}
	s.connect()
	s.behind = &behind{up: make(chan struct{}), away: make(chan struct{}), began: time.Now(), what: unreached}
	s.open.Store(true)
	s.remember(known.Aliases)
	s.loop.Go(s.followBehind)
	return nil
}

// stepKey is the key under which the contexts of the steps by which a session connects have
// something, as their requests can't wait for the connection: true where one is made once and not
// tried again, since it is to show whether somebody is there by now.
type stepKey struct{}

func isStep(ctx context.Context) bool { return ctx.Value(stepKey{}) != nil }

func isMadeOnce(ctx context.Context) bool { return ctx.Value(stepKey{}) == true }

// followBehind connects, and follows the homeserver from then on.
func (s *Session) followBehind() {
	c := connecting{Session: s}
	ctx := context.WithValue(s.life, stepKey{}, false)
	pause, seldom := backOff(time.Second, 20*time.Second), backOff(time.Minute, time.Hour)
	for {
		err := c.take(ctx)
		var wait time.Duration
		switch {
		case s.life.Err() != nil:
			return
		case err == nil:
			s.behind.connected(s.Log)
			c.follower.begin(c.first, true) // what is known of rooms is from before
			c.follower.run()
			return
		case MayPass(err):
			s.behind.unreachable(s.Log, err)
			wait = max(pause.NextBackOff(), judge(err).wait)
		default:
			wait = seldom.NextBackOff()
			s.behind.refused(s.Log.WithField("again_in", wait.Round(time.Second).String()), err)
		}
		select {
		case <-time.After(wait):
		case <-s.life.Done():
			return
		}
	}
}

// connecting is how many of the steps are done. The loop's goroutine owns it.
type connecting struct {
	*Session
	begun    bool // the first of them
	found    bool // the homeserver
	loggedIn bool
	told     bool // LoggedIn, with success

	follower *follower // of the first sync, which is the last step
	first    *mautrix.RespSync
}

// take takes the steps that are left.
func (c *connecting) take(ctx context.Context) (err error) {
	err = errors.New("it ended in a fault of this program, which the log describes") // unless it ends otherwise
	defer Survive(c.Log, "connecting to the homeserver")
	once := context.WithValue(ctx, stepKey{}, c.begun)
	c.begun = true
	if !c.found && !c.isDiscovered() {
		base, err := c.discover(once)
		if err != nil {
			return err
		}
		c.client.HomeserverURL = base
	}
	c.found = true
	switch {
	case !c.loggedIn:
		if err := c.logInAsBefore(once); err != nil {
			return err
		}
	case !c.told: // LoggedIn may hold up others, which it is not to where nobody answers
		if _, err := c.Try(once, func(ctx context.Context) error { _, err := c.client.Whoami(ctx); return err }); err != nil {
			return fmt.Errorf("asking %s whether the bot is logged in: %w", c.client.HomeserverURL, err)
		}
	}
	c.loggedIn = true
	if c.LoggedIn != nil && !c.told {
		if err := c.LoggedIn(ctx); err != nil {
			return err
		}
	}
	c.told = true
	c.follower, c.first, err = c.beginSync(ctx)
	return err
}

// logInAsBefore logs in to the account that is known.
func (s *Session) logInAsBefore(ctx context.Context) error {
	me, err := s.logIn(ctx)
	if err != nil {
		return err
	}
	s.client.AccessToken = me.token
	if me.user != s.client.UserID {
		s.logOut()
		s.client.AccessToken = ""
		return &otherAccount{is: me.user, was: s.client.UserID}
	}
	if me.device != s.client.DeviceID { // a token says whose device it is of
		s.client.DeviceID = me.device
	}
	return nil
}

// otherAccount says that the credentials are not those of the account that is known.
type otherAccount struct{ is, was id.UserID }

func (o *otherAccount) Error() string {
	return fmt.Sprintf("the bot is logged in as %s, and what it remembers is of %s: use the credentials of that account, or another journal", o.is, o.was)
}

// Confirm waits until the session is connected, or an attempt to connect has failed. It is an
// error if that was as the account is another one than is known.
func (s *Session) Confirm(ctx context.Context) error {
	if s.Answers(ctx) == nil {
		return nil
	}
	var other *otherAccount
	s.behind.mu.Lock()
	defer s.behind.mu.Unlock()
	if errors.As(s.behind.why, &other) {
		return other
	}
	return nil
}

// MayPass says of what a step failed by whether it may pass: nobody answered, or not the homeserver,
// or it was in trouble. What else it may say, only people can change.
func MayPass(err error) bool {
	return errors.As(err, new(late)) || errors.As(err, new(mautrix.HTTPError)) && !judge(err).final
}

const (
	unreached  = "the homeserver could not be reached"
	notAllowed = "the bot could not connect to the homeserver"
)

// unreachable notes why the homeserver can't be reached, and says it once.
func (b *behind) unreachable(log logrus.FieldLogger, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed(unreached, err)
	if !b.warned {
		b.warned = true
		log.WithError(err).Warn("The homeserver can't be reached; the bot remembers from its journal and connects when it can")
	}
}

// refused notes what keeps the session from connecting, however long it waits, and says that once.
func (b *behind) refused(log logrus.FieldLogger, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed(notAllowed, err)
	if text := err.Error(); text != b.told {
		b.told = text
		log.WithError(err).Error("The bot can't connect to the homeserver, and waiting does not help: put right what the error says, and start it again. " +
			"Meanwhile it remembers from its journal and delivers nothing")
	}
}

// failed notes that an attempt failed. The caller holds mu.
func (b *behind) failed(what string, why error) {
	if b.why == nil {
		close(b.away)
	}
	b.what, b.why = what, why
}

// connected notes that the session is connected.
func (b *behind) connected(log logrus.FieldLogger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.warned || b.told != "" {
		log.Info("The homeserver can be reached, and the bot is connected")
	}
	close(b.up)
}

// state says since when the session is not connected, and why. Its error has not what the homeserver
// answered, which was the answer to something else than what waits.
func (b *behind) state() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	why := b.why
	if why == nil {
		why = errors.New("no answer has come yet")
	}
	return fmt.Errorf("%s since %s: %v", b.what, b.began.Format(time.DateTime), why)
}

// wait waits until the session is connected, or its life has ended and the steps with it.
func (b *behind) wait(l *loop) {
	select {
	case <-b.up:
	case <-l.ended:
	}
}
