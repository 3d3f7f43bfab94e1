package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// NewClient returns a client for a session to log in with. Handlers may be
// registered at its syncer, a *mautrix.DefaultSyncer, and the syncer's filter
// may be widened, until the session is opened. The filter lets nothing through
// but what is added to it.
func NewClient() *mautrix.Client {
	syncer := mautrix.NewDefaultSyncer()
	syncer.FilterJSON = &mautrix.Filter{
		AccountData: NoEvents(),
		Presence:    NoEvents(),
		Room: &mautrix.RoomFilter{
			AccountData: NoEvents(),
			Ephemeral:   NoEvents(),
			State:       &mautrix.FilterPart{LazyLoadMembers: true},
			Timeline:    &mautrix.FilterPart{Limit: 20, LazyLoadMembers: true},
		},
	}
	return &mautrix.Client{
		UserAgent: "matrix-memory " + mautrix.DefaultUserAgent,
		Syncer:    syncer,
		Store:     mautrix.NewMemorySyncStore(),
	}
}

// discover finds the homeserver's base URL: https://spec.matrix.org/v1.16/client-server-api/#server-discovery
func (s *Session) discover(ctx context.Context) (*url.URL, error) {
	base := s.Homeserver
	if !s.isDiscovered() {
		var err error
		if base, err = s.lookUp(ctx, base); err != nil {
			return nil, fmt.Errorf("looking up the homeserver of %s by .well-known: %w; its base URL can be put into homeserver instead", s.Homeserver, err)
		}
	}
	parsed, err := mautrix.ParseAndNormalizeBaseURL(strings.TrimSuffix(base, "/"))
	if err != nil {
		return nil, fmt.Errorf("homeserver %q: %w", base, err)
	}
	return parsed, nil
}

// isDiscovered says whether the settings have the homeserver's base URL.
func (s *Session) isDiscovered() bool { return strings.Contains(s.Homeserver, "://") }

// lookUp asks a server which base URL its homeserver has. A server that has nothing to say
// is taken for the homeserver.
func (s *Session) lookUp(ctx context.Context, server string) (base string, err error) {
	s.client.HomeserverURL = &url.URL{Scheme: "https", Host: server}
	_, err = s.try(ctx, nil, func(ctx context.Context) error {
		var found *mautrix.ClientWellKnown
		_, err := s.client.MakeFullRequest(ctx, mautrix.FullRequest{
			Method:            http.MethodGet,
			URL:               s.client.BuildURL(mautrix.BaseURLPath{".well-known", "matrix", "client"}),
			ResponseJSON:      &found,
			ResponseSizeLimit: mautrix.WellKnownMaxSize,
			Client:            s.lookup,
		})
		var failure mautrix.HTTPError
		switch {
		case errors.As(err, &failure) && failure.IsStatus(http.StatusNotFound):
			base = "https://" + server
			return nil
		case err != nil:
			return err
		case found == nil || found.Homeserver.BaseURL == "":
			return Missing("base_url of m.homeserver")
		}
		base = found.Homeserver.BaseURL
		return nil
	})
	return base, err
}

// An identity is who the bot is logged in as.
type identity struct {
	user   id.UserID
	device id.DeviceID
	token  string
}

// logIn logs in by the token, or by password where there is none or the homeserver does not
// take it any more.
func (s *Session) logIn(ctx context.Context) (identity, error) {
	if s.AccessToken == "" {
		return s.logInByPassword(ctx)
	}
	s.client.AccessToken = s.AccessToken
	var me *mautrix.RespWhoami
	_, err := s.try(ctx, nil, func(ctx context.Context) (err error) {
		me, err = s.client.Whoami(ctx)
		if err == nil && (me == nil || me.UserID == "") {
			err = Missing("user_id")
		}
		return err
	})
	if errors.Is(err, mautrix.MUnknownToken) {
		if s.Password != "" && s.UserID != "" {
			s.Log.WithError(err).Warn("The homeserver no longer accepts the access token; logging in by password")
			s.AccessToken, s.client.AccessToken = "", ""
			return s.logInByPassword(ctx)
		}
		err = fmt.Errorf("%w: %w", errTokenDead, err)
	}
	switch {
	case err != nil:
		return identity{}, fmt.Errorf("asking %s whose the access token is: %w", s.client.HomeserverURL, err)
	case s.UserID != "" && id.UserID(s.UserID) != me.UserID:
		return identity{}, fmt.Errorf("the access token belongs to %s, and mxid is %s", me.UserID, s.UserID)
	case s.DeviceID != "" && me.DeviceID != "" && id.DeviceID(s.DeviceID) != me.DeviceID:
		s.Log.WithFields(logrus.Fields{"device": me.DeviceID, "device_id": s.DeviceID}).
			Warn("The access token belongs to another device than the settings name; the token's device counts")
	}
	return identity{me.UserID, me.DeviceID, s.AccessToken}, nil
}

// logInByPassword logs in, as the device that the settings name or as a new one.
func (s *Session) logInByPassword(ctx context.Context) (identity, error) {
	// With a device of the homeserver's choice, each attempt whose answer is lost
	// would leave one behind.
	s.client.DeviceID = cmp.Or(id.DeviceID(s.DeviceID), s.client.DeviceID, id.DeviceID(rand.Text()[:10]))
	response, err := s.passwordLogin(ctx)
	if err != nil {
		return identity{}, fmt.Errorf("login as %s at %s: %w", s.UserID, s.client.HomeserverURL, err)
	}
	return identity{response.UserID, cmp.Or(response.DeviceID, s.client.DeviceID), response.AccessToken}, nil
}

// passwordLogin logs in as the client's device.
func (s *Session) passwordLogin(ctx context.Context) (response *mautrix.RespLogin, err error) {
	_, err = s.try(ctx, nil, func(ctx context.Context) (err error) {
		response, err = s.client.Login(ctx, &mautrix.ReqLogin{
			Type:                     mautrix.AuthTypePassword,
			Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: cmp.Or(s.UserID, s.client.UserID.String())},
			Password:                 s.Password,
			DeviceID:                 s.client.DeviceID,
			InitialDeviceDisplayName: s.DeviceName,
		})
		if err == nil && (response == nil || response.AccessToken == "" || response.UserID == "") {
			err = Missing("access_token or no user_id")
		}
		return err
	})
	return response, err
}

// KeepDevice leaves the device in the account when the session ends, as there are keys of it.
// It is for LoggedIn.
func (s *Session) KeepDevice() { s.DeviceID = s.client.DeviceID.String() }

// errTokenDead ends a session whose token the homeserver no longer takes.
var errTokenDead = errors.New("the homeserver no longer accepts the access token: make a new one, or use a password")

// logInAgain replaces a token that the homeserver logged out. rejected is the
// token that it refused: if another goroutine has replaced it already, there is
// nothing left to do.
func (s *Session) logInAgain(ctx context.Context, rejected string) error {
	if s.foreign || s.Password == "" {
		return errTokenDead
	}
	if err := s.login.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("waiting for a new login, which is under way: %w", err)
	}
	defer s.login.Release(1)
	switch {
	case s.life.Err() != nil:
		return ErrClosed // it is Close that logs out
	case s.currentToken() != rejected:
		return nil
	}
	if time.Now().Before(s.refusal.until) {
		return s.refusal.err
	}
	if s.refusal.err == nil {
		s.Log.Warn("The homeserver has logged the bot out; logging in again")
	}
	response, err := s.passwordLogin(ctx)
	if err != nil {
		said := judge(err)
		if errors.As(err, new(mautrix.HTTPError)) && (said.final || said.limited) { // without %w, as it is not the answer to what the login is for
			err = fmt.Errorf("logging in again as %s: %v", s.client.UserID, err)
		} else {
			err = fmt.Errorf("logging in again as %s: %w", s.client.UserID, err)
		}
		if said.final && s.life.Err() == nil {
			s.refusal.note(err)
		}
		return err
	}
	s.refusal = refusal{}
	s.bearer.token.Store(&response.AccessToken)
	if s.LoggedInAgain != nil {
		s.LoggedInAgain()
	}
	return nil
}

// A refusal keeps a bot that may not log in, as its account was deactivated or has another
// password now, from asking for that with every request.
type refusal struct {
	err   error
	until time.Time // no login is tried before
	pause *backoff.ExponentialBackOff
}

func (r *refusal) note(err error) {
	if r.pause == nil {
		r.pause = backOff(10*time.Second, 10*time.Minute)
	}
	r.err, r.until = err, time.Now().Add(r.pause.NextBackOff())
}

// currentToken returns the token that requests go out with.
func (s *Session) currentToken() string {
	if s.bearer != nil {
		if token := s.bearer.token.Load(); token != nil {
			return *token
		}
	}
	return s.client.AccessToken
}

// logOut removes the device of a password login, so that restarts don't pile up
// devices. A device that the configuration names stays.
func (s *Session) logOut() {
	if s.AccessToken != "" || s.DeviceID != "" || s.client.AccessToken == "" {
		return
	}
	ctx, cancel := s.Parting(s.attemptTimeout())
	defer cancel()
	if _, err := s.client.Logout(ctx); err != nil {
		s.Log.WithError(err).Warn("Could not log out; the bot's device stays in the account's list of devices")
	}
}
