package replica

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// A Task is something that a room's replica needs done by whoever can do I/O.
type Task struct {
	StateKey string
	Read     bool // the event must be read between [Room.Hold] and [Room.Refresh]
	Copy     bool // the content stands under the older event type only and is to be written as it is
	Restore  bool // an own write took away what another writer stored: see [Room.Amend]
}

// Todo returns what the replica needs done.
func (r *Room) Todo() []Task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.todo()
}

func (r *Room) todo() []Task {
	var tasks []Task
	for stateKey, doc := range r.docs {
		task := Task{StateKey: stateKey, Read: doc.stale(), Copy: doc.older, Restore: doc.lacks()}
		if task.Read || task.Copy || task.Restore {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

// Amend is [Room.Begin] for a write that [Room.Todo] asks for: it returns the
// changes to make as well, none for a copy. If ok is false, there is nothing to
// write any more and no write has begun. Todo goes on asking until the write is
// committed.
func (r *Room) Amend(stateKey string) (base wire.Dictionary, changes map[string]json.RawMessage, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.docs[stateKey]
	if !ok || !doc.older && !doc.lacks() {
		return wire.Dictionary{}, nil, false, nil
	}
	if base, err = r.begin(stateKey); err != nil {
		return base, nil, false, err
	}
	if !doc.older {
		changes = maps.Clone(doc.missing)
		doc.back = slices.Collect(maps.Keys(changes))
	}
	return base, changes, true, nil
}
