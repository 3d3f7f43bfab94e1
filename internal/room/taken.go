package room

import (
	"context"

	"maunium.net/go/mautrix/id"
)

// roomData is the bot's own data of a room: https://spec.matrix.org/v1.16/client-server-api/#client-config
const roomData = "dev.joe.memory"

// A roomRecord says of which room each memory that the account has in a room has taken along what it held,
// so that all of it stands in the room.
type roomRecord struct {
	Taken map[string]taken `json:"taken"` // by [Rooms.name]
}

type taken struct {
	From  id.RoomID `json:"from"`
	State string    `json:"state"` // see [origin]
}

// name tells the memory from others that the account may have in a room.
func (rs *Rooms) name() string {
	if rs.Layout.PerKey {
		return rs.EventType.Type
	}
	return rs.EventType.Type + "/" + rs.Layout.StateKey
}

func (r *Room) record(ctx context.Context) (record roomRecord, err error) {
	_, err = r.rooms.Session.RoomData(ctx, r.id, roomData, &record)
	return record, err
}

// mark notes that all that was taken along stands in the room, so that no later start asks the other one:
// commit.Env's Settled.
func (r *Room) mark() {
	from := r.from.Load()
	if from == nil || !r.unmarked.Load() || len(r.replica.Todo()) > 0 || r.isReplaced() || !r.unmarked.CompareAndSwap(true, false) {
		return
	}
	marking := r.rooms.inBackground(func() {
		if err := r.markAs(r.rooms.reading, taken{from.room.id, from.state}); err != nil {
			r.unmarked.Store(true)
			r.log().WithError(err).Debug("Could not note that the memory was taken along; the next start looks again")
		}
		r.stale.Store(true)
	})
	if !marking {
		r.unmarked.Store(true)
	}
}

func (r *Room) markAs(ctx context.Context, what taken) error {
	record, err := r.record(ctx)
	if err != nil {
		return err
	}
	if record.Taken == nil {
		record.Taken = make(map[string]taken)
	}
	record.Taken[r.rooms.name()] = what
	return r.rooms.Session.SetRoomData(ctx, r.id, roomData, record)
}
