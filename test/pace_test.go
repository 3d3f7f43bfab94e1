package test

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Of what all rooms write at once to a homeserver that limits it, few requests are refused.
func TestManyRoomsWithinTheLimit(t *testing.T) {
	t.Parallel()
	const n = 30
	var bot rig.Account
	var rooms []id.RoomID
	_, front, _ := rig.Limited(t, time.Second, func(s rig.Server) {
		bot = s.NewAccount(t)
		for range n {
			rooms = append(rooms, bot.NewRoom(t))
		}
	})
	conf := bot.Config(rooms[0])
	conf.Timeout, conf.SingleStateKey = 5*time.Minute, matrix.OneStateKey
	r := rig.Behind(t, front, bot, conf)
	handles := make([]*matrix.Room, n)
	for i, room := range rooms {
		handles[i] = r.InRoom(room.String())
		_, err := handles[i].Get("tea", nil) // reading is not limited
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for i, handle := range handles {
		all.Go(func() {
			if err := handle.Set("tea", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	puts, refused := 0, 0
	for _, request := range r.Seen(rig.Sends) {
		puts++
		if request.Status == http.StatusTooManyRequests {
			refused++
		}
	}
	t.Logf("%d values took %d requests, %.1f each; %d were refused", n, puts, float64(puts)/n, refused)
	const burst, share = 10, .3
	most := n - burst + int(math.Ceil((n-burst)*share)) // all that met the limit when nobody knew of it, and a share of the rest
	require.LessOrEqual(t, refused, most)
}
