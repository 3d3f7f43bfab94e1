package adapter

import (
	"fmt"
	"slices"
	"strings"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// An Option changes what [New] makes.
type Option func(*options)

type options struct {
	msgType      event.MessageType
	mentionsOnly bool
	invites      invites
}

// WithTextMessages makes the bot send m.text, as people do, in place of m.notice.
// Clients then notify of its messages like of a person's, and other bots may
// answer them.
func WithTextMessages() Option {
	return func(o *options) { o.msgType = event.MsgText }
}

// WithMentionsOnly makes the bot hear, in rooms with more than itself and one
// other member, only messages that mention it: by the sender's client
// (m.mentions), by a link to it, by its user ID or by its display name. Other
// events, as reactions, are emitted all the same.
func WithMentionsOnly() Option {
	return func(o *options) { o.mentionsOnly = true }
}

// WithInvitesFrom makes the bot join only when it is invited by these users, as
// "@alice:example.org", or by users of these servers, as "example.org". With
// none, it joins nowhere but in the rooms of the settings. Other invitations are rejected.
func WithInvitesFrom(usersAndServers ...string) Option {
	return func(o *options) { o.invites = invites{from: slices.Clone(usersAndServers), listed: true} }
}

// WithInvitesFromAnyone makes the bot join whoever invites it.
func WithInvitesFromAnyone() Option {
	return func(o *options) { o.invites = invites{anyone: true} }
}

// invites says whose invitations are followed. The zero value: those of users of
// the bot's own homeserver.
type invites struct {
	anyone bool
	listed bool // only those in from
	from   []string
}

// check returns what is wrong with the list.
func (i invites) check() error {
	for _, who := range i.from {
		name, isUser := strings.CutPrefix(who, "@")
		_, server, full := strings.Cut(name, ":")
		switch {
		case isUser && (!full || server == ""):
			return fmt.Errorf("WithInvitesFrom: %q is no full user ID, as in @alice:example.org", who)
		case !isUser && (who == "" || strings.ContainsAny(who, "@#!/* ")):
			return fmt.Errorf("WithInvitesFrom: %q is neither a user ID, as in @alice:example.org, nor a server name, as in example.org", who)
		}
	}
	return nil
}

// allow says whether the bot follows an invitation.
func (i invites) allow(bot, inviter id.UserID) bool {
	switch {
	case i.anyone:
		return true
	case i.listed:
		return slices.Contains(i.from, inviter.String()) || slices.Contains(i.from, inviter.Homeserver())
	default:
		return inviter.Homeserver() == bot.Homeserver()
	}
}
