package replica

// A Task is something that a room's replica needs done by whoever can do I/O.
type Task struct {
	StateKey string
	Load     bool // the room must be loaded again: [Room.Expect], [Room.Load], [Room.Settle]
	Ask      bool // what stands in the room must be asked for: [Room.Answer]
	Copy     bool // the content stands under the older event type only, and is to be written as it is
	Mend     bool // something else stands in the room than what was acknowledged: see [Room.Draft]
	Own      bool // that is an own event, so that others wait for the mending
}

// Todo returns what the replica needs done.
func (r *Room) Todo() []Task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.todo()
}

func (r *Room) todo() []Task {
	if r.behind > 0 {
		return []Task{{Load: true}}
	}
	var tasks []Task
	for stateKey := range r.busy {
		if task, ok := r.docs[stateKey].task(); ok {
			task.StateKey = stateKey
			tasks = append(tasks, task)
		}
	}
	return tasks
}

// Task returns what a state event needs done.
func (r *Room) Task(stateKey string) (Task, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	doc, ok := r.docs[stateKey]
	if !ok {
		return Task{}, false
	}
	task, ok := doc.task()
	task.StateKey = stateKey
	return task, ok
}

func (d *document) task() (Task, bool) {
	switch {
	case d.wants():
		return Task{Load: true}, true
	case d.ask:
		return Task{Ask: true}, true
	case d.older:
		return Task{Copy: true}, true
	case d.needsMending():
		return Task{Mend: true, Own: d.own()}, true
	}
	return Task{}, false
}
