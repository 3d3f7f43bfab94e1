package session

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"maunium.net/go/mautrix"
)

// idle holds back a sync loop whose polls return at once with nothing new, as those of
// a cache do or of a homeserver in trouble. Some such answers in a row mean nothing:
// what they were about the filter may have kept back.
type idle struct {
	row   int // answers that brought nothing, one after another
	pause *backoff.ExponentialBackOff
}

const (
	patience = 10          // answers that may bring nothing before the loop is held back
	atOnce   = time.Second // a poll that took longer was no hurry
)

func newIdle() idle { return idle{pause: backOff(50*time.Millisecond, time.Second)} }

// after returns how long to wait after a poll that took so long and did or did not
// bring news.
func (i *idle) after(took time.Duration, news bool) time.Duration {
	if news || took >= atOnce {
		i.row = 0
		i.pause.Reset()
		return 0
	}
	if i.row++; i.row <= patience {
		return 0
	}
	return i.pause.NextBackOff()
}

// news says whether a sync response brings anything, and not once more what was there
// before its token.
func news(response *mautrix.RespSync, since string) bool {
	rooms := response.Rooms
	return response.NextBatch != since &&
		(len(rooms.Join)+len(rooms.Leave)+len(rooms.Invite)+len(rooms.Knock) > 0 ||
			len(response.ToDevice.Events)+len(response.AccountData.Events)+len(response.Presence.Events) > 0 ||
			!response.DeviceLists.IsZero())
}
