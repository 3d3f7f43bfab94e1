package adapter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

func TestWhichFiltersPass(t *testing.T) {
	types := func(names ...string) []event.Type {
		var all []event.Type
		for _, name := range names {
			all = append(all, event.Type{Type: name})
		}
		return all
	}
	for _, test := range []struct {
		timeline, ephemeral *mautrix.FilterPart
		kept                string // "": nothing
	}{
		{nil, nil, ""},
		{&mautrix.FilterPart{}, &mautrix.FilterPart{Types: types()}, ""},
		{&mautrix.FilterPart{Types: types("*")}, &mautrix.FilterPart{Types: types("m.typing")}, ""},
		{&mautrix.FilterPart{Types: types("m.room.*", "m.reaction")}, &mautrix.FilterPart{Types: types("m.*ing")}, ""},
		{&mautrix.FilterPart{NotTypes: types("m.room.power_levels", "org.*")}, nil, ""},
		{&mautrix.FilterPart{Types: types("m.room.*")}, nil, "m.reaction"},
		{&mautrix.FilterPart{Types: types("m.*", "m.room.*"), NotTypes: types("m.room.m*")}, nil, "m.room.message"},
		{&mautrix.FilterPart{Types: types("m?room?*", "m.reaction")}, nil, "m.room.message"},
		{&mautrix.FilterPart{NotTypes: types("*")}, nil, "m.room.message"},
		{nil, &mautrix.FilterPart{Types: types("m.receipt")}, "m.typing"},
		{nil, &mautrix.FilterPart{NotTypes: types("*")}, "m.typing"},
	} {
		err := passes(&mautrix.Filter{Room: &mautrix.RoomFilter{Timeline: test.timeline, Ephemeral: test.ephemeral}})
		if test.kept == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, test.kept)
		}
	}
	require.NoError(t, passes(&mautrix.Filter{}))
	require.NoError(t, passes(&mautrix.Filter{Room: &mautrix.RoomFilter{State: &mautrix.FilterPart{Types: types("m.room.tombstone")}}}))
	require.ErrorContains(t, passes(&mautrix.Filter{Room: &mautrix.RoomFilter{State: &mautrix.FilterPart{Types: types("m.room.member")}}}), "m.room.tombstone")
}
