package adapter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"
)

func TestWhoseInvitationsAreFollowed(t *testing.T) {
	const bot, local, remote id.UserID = "@bot:example.org", "@alice:example.org", "@bob:elsewhere.example"
	for _, test := range []struct {
		name          string
		option        Option
		local, remote bool
	}{
		{"default", func(*options) {}, true, false},
		{"anyone", WithInvitesFromAnyone(), true, true},
		{"nobody", WithInvitesFrom(), false, false},
		{"a server", WithInvitesFrom("elsewhere.example"), false, true},
		{"a user", WithInvitesFrom("@bob:elsewhere.example"), false, true},
		{"part of a server's name", WithInvitesFrom("example"), false, false},
	} {
		var o options
		test.option(&o)
		require.NoError(t, o.invites.check(), test.name)
		require.Equal(t, test.local, o.invites.allow(bot, local), test.name)
		require.Equal(t, test.remote, o.invites.allow(bot, remote), test.name)
	}
}
