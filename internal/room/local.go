package room

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/replica"
)

// With a journal, a change is acknowledged once it is on disk, and the flusher delivers it.
// Until then it stands over what the room means, and reads are answered from both.

// change makes changes: in the journal where there is one and they may wait there, else in the
// room.
func (r *Room) change(b *Budget, changes ...commit.Change) (existed int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	local, err := r.isLocal(changes)
	if err != nil {
		return 0, &KeyError{Key: changes[0].Key, Err: r.refused(err)}
	}
	if local {
		existed, err = r.accept(b, changes)
		if !errors.Is(err, journal.ErrFailed) || errors.Is(err, journal.ErrInPlace) {
			return existed, err
		}
		r.rooms.flusher.failed()
	}
	return r.writeThrough(b, changes)
}

// isLocal says whether changes may wait in the journal, or why they can't be made.
func (r *Room) isLocal(changes []commit.Change) (bool, error) {
	if r.rooms.Journal == nil || r.rooms.copied.Load() || r.rooms.Journal.Failure() != nil {
		return false, nil
	}
	if slices.ContainsFunc(changes, func(c commit.Change) bool { return r.rooms.Through(c.Key) }) {
		return false, nil
	}
	encrypted, err := r.encrypted()
	if err != nil || !encrypted || r.rooms.Journal.CanSeal() {
		return err == nil, err
	}
	r.unsealed.Do(func() {
		r.log().Warn("The room is encrypted, and without a store_key nothing can be sealed in the journal: what is set here waits for the homeserver")
	})
	return false, nil
}

// writeThrough makes changes in the room. What the journal holds of the same keys is older, and
// goes once they are made.
func (r *Room) writeThrough(b *Budget, changes []commit.Change) (int, error) {
	if r.rooms.Journal == nil {
		return r.submit(b, changes...)
	}
	older := make(map[string]uint64)
	for _, c := range changes {
		if pending, ok := r.pending(c.Key); ok {
			older[c.Key] = pending.Seq
		}
	}
	if len(older) > 0 {
		if err := r.rooms.Journal.Failure(); errors.Is(err, journal.ErrInPlace) {
			return 0, &KeyError{Key: changes[0].Key, Err: fmt.Errorf("not sent: %w", err)}
		}
		if err := r.delivering.Acquire(b.Context(), 1); err != nil {
			return 0, &KeyError{Key: changes[0].Key, Err: fmt.Errorf("%w: waiting for a delivery that is under way: %w", commit.ErrNotSent, err)}
		}
		defer r.delivering.Release(1)
	}
	existed, err := r.submit(b, changes...)
	if err == nil {
		r.done(older)
	}
	return existed, err
}

// accept takes changes over into the journal, all or none.
func (r *Room) accept(b *Budget, changes []commit.Change) (existed int, err error) {
	if !r.replica.Loaded() {
		if err := r.ready(b.Context()); err != nil {
			return 0, r.refused(err)
		}
	}
	if lack := r.lack(); lack != "" {
		return 0, &KeyError{Key: changes[0].Key, Err: fmt.Errorf("%w: %s", ErrForbidden, lack)}
	}
	r.accepting.Lock() // what a change is built upon and the change go together
	defer r.accepting.Unlock()
	var rows []journal.Change
	deleted := make(map[string]bool)
	for _, c := range changes {
		if c.Delete {
			there, err := r.holds(c.Key)
			if err != nil {
				return 0, &KeyError{Key: c.Key, Err: explain(err)}
			}
			if !there || deleted[c.Key] {
				continue
			}
			existed, deleted[c.Key] = existed+1, true
		}
		rows = append(rows, journal.Change{
			Key: c.Key, Value: bytes.Clone(c.Value), Delete: c.Delete,
			Over: r.replica.Held(c.Key), Depth: r.replica.Next(c.Key),
		})
	}
	if len(rows) == 0 {
		return 0, nil
	}
	if err := r.queue.Check(r.undelivered(), changes...); err != nil {
		return 0, r.refused(err)
	}
	if err := r.rooms.Journal.Put(r.id.String(), rows...); err != nil {
		return 0, &KeyError{Key: changes[0].Key, Err: err}
	}
	r.rooms.flusher.wake()
	return existed, nil
}

// done takes changes out of the journal, once what is kept of the room has them.
func (r *Room) done(seqs map[string]uint64) {
	if len(seqs) == 0 {
		return
	}
	r.accepting.Lock() // a change is built upon the journal's, or upon the room with that
	defer r.accepting.Unlock()
	r.save()
	r.rooms.Journal.Done(r.id.String(), seqs)
}

// pending returns the journal's change of a key.
func (r *Room) pending(key string) (journal.Change, bool) {
	if r.rooms.Journal == nil {
		return journal.Change{}, false
	}
	change, ok := r.rooms.Journal.Get(r.id.String(), key)
	return change, ok && !r.isOfCopy(change)
}

// isOfCopy says whether a change is one of a copy of the journal, which does not count.
func (r *Room) isOfCopy(change journal.Change) bool {
	return r.rooms.copied.Load() && change.Seq <= r.rooms.begun
}

// holds says whether a key is there.
func (r *Room) holds(key string) (bool, error) {
	if change, ok := r.pending(key); ok {
		return !change.Delete, nil
	}
	_, there, err := r.replica.Get(key)
	return there, err
}

// overlaid returns keys with what the journal holds over them.
func (r *Room) overlaid(keys []string) []string {
	if r.rooms.Journal == nil {
		return keys
	}
	changes := r.rooms.Journal.Changes(r.id.String())
	if len(changes) == 0 {
		return keys
	}
	set := make(map[string]bool, len(keys))
	for _, key := range keys {
		set[key] = true
	}
	for _, change := range changes {
		if !r.isOfCopy(change) {
			set[change.Key] = !change.Delete
		}
	}
	keys = keys[:0]
	for key, there := range set {
		if there {
			keys = append(keys, key)
		}
	}
	return keys
}

// undelivered returns what the journal holds of the room and is not refused, as the queue takes it.
func (r *Room) undelivered() (changes []commit.Change) {
	for _, c := range r.rooms.Journal.Changes(r.id.String()) {
		if c.Refused != "" {
			continue
		}
		change := commit.Change{Key: c.Key, Value: c.Value, Delete: c.Delete, Seq: c.Seq, Over: c.Over, Forced: c.Forced}
		if c.Attempt != nil {
			change.Attempt = &replica.Attempt{Was: c.Attempt.Was}
			change.Attempt.At.Depth, change.Attempt.At.ID = c.Attempt.Depth, c.Attempt.ID
			if r.rooms.Layout.PerKey {
				change.Attempt.At.Depth, change.Attempt.At.ID = 0, ""
			}
		}
		changes = append(changes, change)
	}
	return changes
}

// attempted notes in the journal what is about to be put: commit.Env's Attempted.
func (r *Room) attempted(_ string, with replica.Attempt, changes []commit.Change) error {
	if r.rooms.Journal == nil || r.rooms.Journal.Failure() != nil && len(changes) == 0 {
		return nil
	}
	seqs := make(map[string]uint64, len(changes))
	for _, change := range changes {
		seqs[change.Key] = change.Seq
	}
	return r.rooms.Journal.Attempted(r.id.String(), journal.Attempt{Depth: with.At.Depth, ID: with.At.ID, Was: with.Was}, seqs)
}
