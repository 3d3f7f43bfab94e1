package room

import (
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/replica"
)

// With a journal, a change is acknowledged once it is on disk, and the flusher delivers it.
// Until then it stands over what the room means, and reads are answered from both.

// change makes changes, in the room or in the one that replaces it, once the memory has gone there.
func (r *Room) change(b *Budget, changes ...commit.Change) (existed int, err error) {
	if len(changes) == 0 {
		return 0, nil
	}
	for {
		r = r.latest()
		if err := r.stays(); err != nil {
			return existed, &KeyError{Key: changes[0].Key, Err: err}
		}
		n, err := r.changeHere(b, changes)
		existed += n
		if r.heir.Load() == nil && !errors.Is(err, errReplaced) || err == nil {
			return existed, err
		}
		if err := r.arrive(b.Context()); err != nil {
			return existed, &KeyError{Key: changes[0].Key, Err: explain(err)}
		}
	}
}

// changeHere makes changes: in the journal where there is one and they may wait there, else in the
// room.
func (r *Room) changeHere(b *Budget, changes []commit.Change) (existed int, err error) {
	if r.rooms.Journal != nil && !r.loaded() && !r.takesUnseen(changes) {
		if err := r.ready(b.Context()); err != nil {
			return 0, &KeyError{Key: changes[0].Key, Err: r.refused(err)}
		}
	}
	local, err := r.isLocal(changes)
	if err != nil {
		return 0, &KeyError{Key: changes[0].Key, Err: r.refused(err)}
	}
	if local {
		existed, err = r.accept(b, changes)
		if errors.Is(err, journal.ErrFailed) {
			return r.afterFailure(b, changes, err)
		}
		return existed, err
	}
	return r.writeThrough(b, changes)
}

// afterFailure makes changes that the journal failed to take. Its file may hold them all the same.
func (r *Room) afterFailure(b *Budget, changes []commit.Change, err error) (existed int, _ error) {
	r.rooms.flusher.failed()
	// What was made blind is not written through: if its outcome were unknown, the next start could not tell that it was sent.
	if !errors.Is(err, journal.ErrInPlace) && r.replica.Loaded() {
		if existed, err = r.writeThrough(b, changes); err == nil {
			return existed, nil
		}
	}
	key := changes[0].Key
	var failed *KeyError
	if errors.As(err, &failed) {
		key, err = failed.Key, failed.Err
	}
	return existed, &KeyError{Key: key, Err: &unsettled{"its file may hold the change all the same, and then the next start delivers it", err}}
}

// isLocal says whether changes may wait in the journal, or why they can't be made.
func (r *Room) isLocal(changes []commit.Change) (bool, error) {
	if r.rooms.Journal == nil || r.rooms.Journal.Failure() != nil {
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
func (r *Room) writeThrough(b *Budget, changes []commit.Change) (existed int, err error) {
	if r.rooms.Journal == nil {
		return r.submit(b, changes...)
	}
	failure := r.rooms.Journal.Failure()
	for _, c := range changes {
		if errors.Is(failure, journal.ErrInPlace) && r.rooms.Journal.Left(r.id.String(), c.Key) > 0 { // the next start would deliver that after this
			return 0, &KeyError{Key: c.Key, Err: fmt.Errorf("%w, as the journal may hold an earlier change of the key: %w", commit.ErrNotSent, failure)}
		}
	}
	if !slices.ContainsFunc(changes, func(c commit.Change) bool { _, pending := r.pending(c.Key); return pending }) {
		if existed, err = r.submit(b, changes...); err == nil {
			err = r.outdate(b, changes)
		}
		return existed, err
	}
	if err := r.delivering.Acquire(b.Context(), 1); err != nil {
		return 0, &KeyError{Key: changes[0].Key, Err: fmt.Errorf("%w: waiting for a delivery that is under way: %w", commit.ErrNotSent, err)}
	}
	defer r.delivering.Release(1)
	older := make(map[string]uint64)
	hidden := 0 // keys to delete that are there in the journal alone, less those that are there in the room alone
	changes = slices.Clone(changes)
	for i, c := range changes {
		pending, ok := r.pending(c.Key)
		if !ok {
			continue
		}
		older[c.Key] = pending.Seq
		changes[i].Forced = failure != nil // the next start reads that in, and has to find a later one
		switch _, inRoom, err := r.replica.Get(c.Key); {
		case !c.Delete || err != nil || inRoom != pending.Delete: // both say the same
		case inRoom:
			hidden--
		default:
			hidden++
		}
	}
	existed, err = r.submit(b, changes...)
	if err != nil {
		return existed, err
	}
	if failure == nil {
		r.done(older)
		return existed + hidden, r.outdate(b, changes)
	}
	if err = r.outdate(b, changes); err == nil {
		r.done(older)
	}
	return existed + hidden, err
}

// outdate sees to it that no start delivers what the journal's file holds of keys that were written through
// just now, or may hold: it is older. Of a file that failed nothing can be removed; that is noted with the homeserver,
// unless the next start takes the file for sound.
func (r *Room) outdate(b *Budget, changes []commit.Change) error {
	seqs := make(map[string]uint64)
	for _, c := range changes {
		if seq := r.rooms.Journal.Left(r.id.String(), c.Key); seq > 0 && !r.isOutdated(c.Key) {
			seqs[c.Key] = seq
		}
	}
	if len(seqs) == 0 || r.rooms.Journal.Flush() == nil {
		return nil
	}
	r.rooms.flusher.failed()
	err := r.rooms.Journal.Failure()
	if !errors.Is(err, journal.ErrInPlace) {
		err = r.rooms.outdate(b.Context(), r.id.String(), seqs)
	}
	if err != nil {
		return &KeyError{Key: changes[0].Key, Err: &unsettled{"it is written, but its file may hold an earlier change of the key, which the next start delivers after it", err}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range seqs {
		r.outdated[key] = true
	}
	return nil
}

// isOutdated says whether it was seen to that no start delivers what the file of the failed journal may hold of a key.
func (r *Room) isOutdated(key string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.outdated[key]
}

// isAway says whether the homeserver can't be asked for now, as far as is known, so that what
// the journal knows has to do.
func (rs *Rooms) isAway() bool {
	return rs.Journal != nil && (!rs.Session.IsConnected() || rs.Session.IsUnreachable())
}

// isKnown says whether the journal knows that there is a room: the bot has been in it, or has
// found it by an alias.
func (rs *Rooms) isKnown(roomID id.RoomID) bool {
	if rs.Session.HasAlias(roomID) || len(rs.Journal.Changes(roomID.String())) > 0 {
		return true
	}
	state, err := rs.Journal.Load(roomID.String())
	return err == nil && state != nil
}

// takesUnseen says whether changes may be taken over though nothing is known of what the room
// holds, as nobody can be asked: none deletes what may not be there, and none would stand in
// the clear that goes out encrypted.
func (r *Room) takesUnseen(changes []commit.Change) bool {
	if !r.rooms.isAway() || !r.rooms.isKnown(r.id) || r.rooms.Encrypt && r.rooms.Cipher != nil && !r.rooms.Journal.CanSeal() {
		return false
	}
	return !slices.ContainsFunc(changes, func(c commit.Change) bool {
		_, ok := r.pending(c.Key)
		return c.Delete && !ok
	})
}

// accept takes changes over into the journal, all or none.
func (r *Room) accept(b *Budget, changes []commit.Change) (existed int, err error) {
	if lack := r.lack(); lack != "" {
		return 0, &KeyError{Key: changes[0].Key, Err: fmt.Errorf("%w: %s", ErrForbidden, lack)}
	}
	r.accepting.Lock() // what a change is built upon and the change go together
	defer r.accepting.Unlock()
	if r.heir.Load() != nil {
		return 0, errReplaced
	}
	blind := !r.replica.Loaded()
	if r.outlook == nil || r.outlook.Stale() {
		r.outlook = r.queue.Outlook(r.undelivered())
	}
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
			Key: c.Key, Value: c.Value, Delete: c.Delete, Blind: blind,
			Over: r.outlook.Held(c.Key), Depth: r.replica.Next(c.Key),
		})
	}
	if len(rows) == 0 {
		return 0, nil
	}
	if err := r.outlook.Add(changes...); err != nil {
		r.outlook = nil
		return 0, r.refused(err)
	}
	if err := r.rooms.Journal.Put(r.id.String(), rows...); err != nil {
		r.outlook = nil
		return 0, &KeyError{Key: changes[0].Key, Err: explain(err)}
	}
	r.rooms.flusher.changed(r.id.String())
	return existed, nil
}

// done takes changes out of the journal, once what is kept of the room has them. It is called after each
// delivery, which may have made others dead letters.
func (r *Room) done(seqs map[string]uint64) {
	if len(seqs) > 0 {
		r.save()
	}
	r.accepting.Lock() // a change is built upon the journal's, or upon the room with that
	defer r.accepting.Unlock()
	r.outlook = nil
	if len(seqs) > 0 {
		r.finished(seqs)
		r.rooms.Journal.Done(r.id.String(), seqs)
		r.rooms.flusher.tell()
	}
}

// pending returns the journal's change of a key. What a copy of the journal held does not count.
func (r *Room) pending(key string) (journal.Change, bool) {
	if r.rooms.Journal == nil {
		return journal.Change{}, false
	}
	r.moving.RLock()
	defer r.moving.RUnlock()
	change, ok := r.rooms.Journal.Get(r.id.String(), key)
	return change, ok && change.Refused != journal.Copied
}

// holds says whether a key is there.
func (r *Room) holds(key string) (bool, error) {
	if change, ok := r.pending(key); ok {
		return !change.Delete, nil
	}
	_, there, err := r.replica.Get(key)
	return there, err
}

// overlay returns which keys are there, or are not, by what the journal holds.
func (r *Room) overlay() map[string]bool {
	if r.rooms.Journal == nil {
		return nil
	}
	r.moving.RLock()
	defer r.moving.RUnlock()
	over := make(map[string]bool)
	for _, change := range r.rooms.Journal.Changes(r.id.String()) {
		if change.Refused != journal.Copied {
			over[change.Key] = !change.Delete
		}
	}
	return over
}

// overlaid returns keys with an overlay over them.
func overlaid(keys []string, over map[string]bool) []string {
	keys = slices.DeleteFunc(keys, func(key string) bool { _, ok := over[key]; return ok })
	for key, there := range over {
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
		change := commit.Change{Key: c.Key, Value: c.Value, Delete: c.Delete, Seq: c.Seq, Over: c.Over, Forced: c.Forced, Fresh: !r.inherited[c.Key]}
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
		r.meets(change)
	}
	return r.rooms.Journal.Attempted(r.id.String(), journal.Attempt{Depth: with.At.Depth, ID: with.At.ID, Was: with.Was}, seqs)
}
