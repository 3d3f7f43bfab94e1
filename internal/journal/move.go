package journal

import "maps"

// Move takes a room's changes along to the room that has replaced it, all in one transaction: they are on disk there, and
// nowhere else, when it returns nil; otherwise all are where they were. Each keeps its Seq. Where both rooms have a change of a key,
// the later one stays, as if it had been put there last. The new room may take what the old one refused, so that is no dead letter any more.
//
// What is known of the rooms then is kept as by [Journal.Save], in that transaction if there is one: so the changes are never
// on disk in a room of which that does not say that they are asked for there.
//
// settle may change what is moved, or say that nothing is left to be done of it. It is not asked of what is [Copied], which
// stays refused.
func (j *Journal) Move(from, to string, known Known, settle func(Change) (Change, bool)) error {
	if err := checkNames(to); err != nil {
		return err
	}
	entries, err := known.entries()
	if err != nil {
		return err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.RLock()
	leaving, there := maps.Clone(j.changes[from]), maps.Clone(j.changes[to])
	depth := max(j.depths[from], j.depths[to])
	deeper := depth > j.depths[to]
	j.mu.RUnlock()
	if len(leaving) == 0 && !deeper {
		return j.Save(known)
	}
	t := transaction{head: j.written, changes: make(map[name]*Change, 2*len(leaving)), depths: make(map[string]int64)}
	moved := make(map[string]*Change, len(leaving)) // nil: it is not
	for key, c := range leaving {
		t.changes[name{from, key}], moved[key] = nil, nil
		if c.Refused != Copied {
			settled := *c
			settled.Refused = ""
			left := false
			if settled, left = settle(settled); !left {
				continue
			}
			c = &settled
		}
		moved[key] = c
		t.changes[name{to, key}] = together(c, there[key])
	}
	if deeper {
		t.depths[to] = depth
	}
	j.mu.Lock()
	if j.usable() == nil {
		maps.Copy(j.staged, entries)
	}
	j.mu.Unlock()
	if err := j.commit(t); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, c := range moved {
		left := j.changes[from][key] != nil // it may have been done meanwhile
		delete(j.changes[from], key)
		if c == nil {
			continue
		}
		if !left || j.changes[to][key] != there[key] {
			j.behind[name{to, key}] = true
		}
		if left {
			j.set(to, together(c, j.changes[to][key]))
		}
	}
	if len(j.changes[from]) == 0 {
		delete(j.changes, from)
	}
	j.depths[to] = max(j.depths[to], depth)
	return nil
}

// together returns the change that counts where a moved one meets one that is there, which may be nil: the later one, but
// never over another that is the original's to deliver.
func together(moved, there *Change) *Change {
	switch {
	case there == nil || there.Refused == Copied && moved.Refused != Copied:
		return moved
	case moved.Refused == Copied && there.Refused != Copied:
		return there
	}
	return merge(moved, there)
}
