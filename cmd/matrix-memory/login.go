package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/session"
)

// A login is a client that is logged in. It does not sync: what is sent to a bot's device
// stays there for the bot.
type login struct {
	*mautrix.Client
	own bool // the device was made for the tool, and goes again with out

	rooms []id.RoomID // that the bot is in, once that was asked
}

// logIn logs in with the bot's token, or as a device of the tool's own by password.
func logIn(ctx context.Context, conf matrix.Config, own bool, p purpose) (*login, error) {
	client, err := newClient(ctx, conf, &guard{RoundTripper: transport(), purpose: p})
	if err != nil {
		return nil, err
	}
	l := &login{Client: client, own: own}
	if own {
		err = l.byPassword(ctx, conf)
	} else {
		err = l.byToken(ctx, conf)
	}
	if err != nil {
		client.Client.CloseIdleConnections()
		return nil, err
	}
	return l, nil
}

func transport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

// newClient returns a client of the bot's homeserver.
func newClient(ctx context.Context, conf matrix.Config, transport http.RoundTripper) (*mautrix.Client, error) {
	base := conf.Homeserver
	lookup := &http.Client{Transport: transport, Timeout: timeout(conf), CheckRedirect: session.Lookup}
	if !strings.Contains(base, "://") {
		known, err := mautrix.DiscoverClientAPIWithClient(ctx, lookup, base)
		switch {
		case err != nil:
			return nil, fmt.Errorf("looking up the homeserver of %s by .well-known: %w; its base URL can be put into homeserver instead", base, err)
		case known != nil && known.Homeserver.BaseURL == "":
			return nil, fmt.Errorf("looking up the homeserver of %s by .well-known: the answer has no base_url of m.homeserver; it can be put into homeserver instead", base)
		case known != nil:
			base = known.Homeserver.BaseURL
		default:
			base = "https://" + base
		}
	}
	client, err := mautrix.NewClient(strings.TrimSuffix(base, "/"), "", "")
	if err != nil {
		return nil, fmt.Errorf("homeserver %q: %w", base, err)
	}
	client.Client = &http.Client{Transport: transport, Timeout: timeout(conf), CheckRedirect: session.SameHost}
	client.UserAgent = "matrix-memory " + mautrix.DefaultUserAgent
	return client, nil
}

// timeout bounds a request.
func timeout(conf matrix.Config) time.Duration {
	if conf.Timeout > 0 {
		return conf.Timeout
	}
	return 45 * time.Second
}

func (l *login) byToken(ctx context.Context, conf matrix.Config) error {
	l.AccessToken = conf.AccessToken
	me, err := l.Whoami(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("asking %s whose the access token is: %w", l.HomeserverURL, err)
	case conf.UserID != "" && id.UserID(conf.UserID) != me.UserID:
		return fmt.Errorf("the access token belongs to %s, and mxid is %s", me.UserID, conf.UserID)
	}
	l.UserID, l.DeviceID = me.UserID, me.DeviceID
	return nil
}

// byPassword logs in. After Ctrl-C it still awaits the answer for a while, as no device can be
// removed without the token that is in it; whoever uses the login then finds that ctx has ended.
func (l *login) byPassword(ctx context.Context, conf matrix.Config) error {
	awaiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(parting, cancel) })()
	_, err := l.Login(awaiting, &mautrix.ReqLogin{
		Type:                     mautrix.AuthTypePassword,
		Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: conf.UserID},
		Password:                 conf.Password,
		InitialDeviceDisplayName: "matrix-memory",
		StoreCredentials:         true,
	})
	if err != nil {
		return fmt.Errorf("login as %s at %s: %w", conf.UserID, l.HomeserverURL, err)
	}
	return nil
}

// parting is how long the tool takes after Ctrl-C to leave no device behind, for each request.
const parting = 10 * time.Second

// out removes a device of the tool's own, or says that it stays. It is called after Ctrl-C as well.
func (l *login) out(cmd *cli.Command) {
	defer l.Client.Client.CloseIdleConnections()
	if !l.own {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	if _, err := l.Logout(ctx); err != nil {
		logger(cmd).Warnf("could not log out; the device %s stays in the account's list of devices: %v", l.DeviceID, err)
	}
}
