package room

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Change is a change of one key, as it stands in the room.
type Change struct {
	Room    id.RoomID
	Key     string
	Value   []byte // as it was set
	Deleted bool
	Sender  id.UserID  // "": that is not known
	EventID id.EventID // "": that is not known
	Time    time.Time

	entry wire.Entry
	from  *Room
}

// A Watcher hears what changes in one room, or by others in all rooms of a memory. Its methods
// may be called concurrently.
type Watcher struct {
	prefix string
	news   chan struct{} // has room for one, and something while there may be changes to take

	mu    sync.Mutex       // owns what follows
	keys  []place          // that have changed, in the order in which that was heard
	heard map[place]Change // the latest of each that was not taken so far
	err   error            // why there are no more
}

// A place is a key in a room.
type place struct {
	room id.RoomID
	key  string
}

func newWatcher(prefix string) *Watcher {
	return &Watcher{prefix: prefix, news: make(chan struct{}, 1), heard: make(map[place]Change)}
}

// hear takes a change, in the place of an earlier one of the same key that was not taken so far.
func (w *Watcher) hear(c Change) {
	if !strings.HasPrefix(c.Key, w.prefix) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	at := place{c.Room, c.Key}
	if _, waits := w.heard[at]; !waits {
		w.keys = append(w.keys, at)
	}
	w.heard[at] = c
	w.poke()
}

// hearFirst takes a change, unless a later one of the same key was heard already.
func (w *Watcher) hearFirst(c Change) {
	if !w.changedSince(c) {
		w.hear(c)
	}
}

// end says that there are no more changes than those that were heard.
func (w *Watcher) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.poke()
}

func (w *Watcher) poke() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// take takes the oldest change, if there is one, or else returns why there are no more.
func (w *Watcher) take() (c Change, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.keys) == 0 {
		return Change{}, false, w.err
	}
	at := w.keys[0]
	w.keys = w.keys[1:]
	c = w.heard[at]
	delete(w.heard, at)
	return c, true, nil
}

// changedSince says whether a later change of a key was heard.
func (w *Watcher) changedSince(c Change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, changed := w.heard[place{c.Room, c.Key}]
	return changed
}

// Next returns the next change. An error with a change is about its value, which can't be read; one
// without says why there are no more.
func (w *Watcher) Next(ctx context.Context) (Change, error) {
	for {
		c, ok, err := w.take()
		switch {
		case err != nil:
			return Change{}, err
		case !ok:
			select {
			case <-w.news:
			case <-ctx.Done():
				return Change{}, ctx.Err()
			}
			continue
		}
		if err := c.read(ctx); err == nil || !w.changedSince(c) { // what was replaced may be gone
			return c, err
		}
	}
}

// read reads the value of a change.
func (c *Change) read(ctx context.Context) (err error) {
	switch {
	case c.Deleted:
		return nil
	case c.entry.Err != nil:
		return c.entry.Err
	case c.entry.Pointer == "" || c.entry.Value != nil:
		c.Value = slices.Clone(c.entry.Value)
		return nil
	}
	b := NewBudget(ctx, c.from.rooms.Timeout)
	defer b.End()
	value, err := c.from.open(b.Context(), c.Key, c.entry.Pointer)
	c.Value = slices.Clone(value)
	return explain(err)
}

// Watch returns a watcher of the changes from now on of keys with a prefix, and what ends it.
func (r *Room) Watch(prefix string) (w *Watcher, stop func()) {
	w = newWatcher(prefix)
	for !r.latest().watched(w) {
	}
	return w, func() {
		w.end(context.Canceled)
		for _, r := range r.rooms.all() {
			r.watching.Lock()
			delete(r.watchers, w)
			r.watching.Unlock()
		}
	}
}

// watched adds a watcher, unless the memory has gone to another room.
func (r *Room) watched(w *Watcher) bool {
	r.watching.Lock()
	here := r.heir.Load() == nil
	if here {
		r.watchers[w] = true
	}
	r.watching.Unlock()
	if r.rooms.isClosed() { // asked without the lock, as who holds the rooms' may wait for the replica, which tells
		w.end(ErrClosed)
	}
	return here
}

// changed tells the watchers what has changed: see [replica.Room.Tell].
func (r *Room) changed(changes []replica.Change) {
	if !r.owes.Load() { // else nobody has read it so far
		r.tell(changes)
	}
}

// tell tells those who watch the room, and who hears of others' changes, what has changed.
func (r *Room) tell(changes []replica.Change) {
	r.watching.Lock()
	defer r.watching.Unlock()
	for _, c := range changes {
		change := r.heard(c)
		for w := range r.watchers {
			w.hear(change)
		}
		mine := c.Own || r.awaited[c.Key] && change.Sender == r.rooms.userID()
		delete(r.awaited, c.Key)
		if r.rooms.others != nil && !mine && !c.Taken {
			r.rooms.others.hear(change)
		}
	}
}

// heard returns a change as watchers hear of it.
func (r *Room) heard(c replica.Change) Change {
	at := time.Now() // it was sent just now, and the homeserver has not said when
	if c.Time > 0 {
		at = time.UnixMilli(c.Time)
	}
	return Change{Room: r.id, Key: c.Key, Deleted: c.Entry.Raw == nil, Sender: id.UserID(c.Sender), EventID: id.EventID(c.EventID), Time: at, entry: c.Entry, from: r}
}

// handWatchers hands the watchers to the room that takes this one's place, and tells them what it holds that this
// one did not.
func (r *Room) handWatchers(heir *Room) {
	r.watching.Lock()
	watchers := r.watchers
	r.watchers = make(map[*Watcher]bool)
	r.watching.Unlock()
	heir.watching.Lock()
	maps.Copy(heir.watchers, watchers)
	heir.watching.Unlock()
	before, _ := r.replica.Keys()
	after, _ := heir.replica.Keys()
	keys := slices.Concat(before, after)
	slices.Sort(keys)
	var changes []replica.Change
	for _, key := range slices.Compact(keys) {
		was, _, err := r.replica.Get(key)
		is, _, err2 := heir.replica.Get(key)
		if err == nil && err2 == nil && !wire.Equal(was.Raw, is.Raw) && !heir.tookAlong(key) {
			changes = append(changes, heir.replica.Change(key))
		}
	}
	for _, c := range changes {
		change := heir.heard(c)
		for w := range watchers {
			w.hearFirst(change)
		}
	}
}

// WatchOthers returns a watcher of what others change in any room that was asked for: whatever this
// memory has not sent. It is called once, before any room is used.
func (rs *Rooms) WatchOthers() *Watcher {
	rs.others = newWatcher("")
	return rs.others
}

// endWatchers ends the watchers of a room.
func (r *Room) endWatchers(err error) {
	r.watching.Lock()
	defer r.watching.Unlock()
	for w := range r.watchers {
		w.end(err)
	}
}
