package session

import (
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// MegolmIDLength is how long the ID of a Megolm session is, a key of 32 bytes in Base64 (Matrix
// spec, "m.megolm.v1.aes-sha2"). No key comes under another.
const MegolmIDLength = 43

// BecomesEncrypted says whether a sync brought that a room is encrypted, whatever the content
// of its m.room.encryption. That it brought nothing of the kind means nothing: it brings only
// what is new, and the end of what was there before.
func BecomesEncrypted(news *mautrix.SyncJoinedRoom) bool {
	events := slices.Concat(news.State.Events, news.Timeline.Events)
	if news.StateAfter != nil {
		events = append(events, news.StateAfter.Events...)
	}
	return slices.ContainsFunc(events, func(evt *event.Event) bool {
		return evt.Type.Type == event.StateEncryption.Type && evt.StateKey != nil && *evt.StateKey == ""
	})
}
