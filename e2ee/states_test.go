//go:build goolm

package e2ee

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// That the bot joins a room changes nothing in the event of its invitation, which the goroutine
// that syncs may be reading.
func TestMembershipIsReplaced(t *testing.T) {
	s := states{MemoryStateStore: mautrix.NewMemoryStateStore().(*mautrix.MemoryStateStore)}
	invited := &event.MemberEventContent{Membership: event.MembershipInvite, Displayname: "Bot"}
	require.NoError(t, s.SetMember(t.Context(), fuzzRoom, fuzzPeer, invited))
	require.NoError(t, s.SetMembership(t.Context(), fuzzRoom, fuzzPeer, event.MembershipJoin))
	require.Equal(t, event.MembershipInvite, invited.Membership)
	require.True(t, s.IsInRoom(t.Context(), fuzzRoom, fuzzPeer))
	member, err := s.GetMember(t.Context(), fuzzRoom, fuzzPeer)
	require.NoError(t, err)
	require.Equal(t, "Bot", member.Displayname)
}
