package commit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// ErrUnreadable says that an entry holds something that this version can't
// read. It is not overwritten by accident; Delete removes it.
var ErrUnreadable = errors.New("what stands there can't be read and is not overwritten; delete it first if it may go")

// ErrTooLarge says that a content does not fit in an event.
var ErrTooLarge = errors.New("too large")

// A TooLargeError is an ErrTooLarge with its figures.
type TooLargeError struct {
	Size, Limit int // bytes of content
	Keys        int // how many keys share the event
}

func (e *TooLargeError) Error() string {
	if e.Keys > 1 {
		return fmt.Sprintf("too large: the dictionary of %d keys would have %d bytes, and %d fit in the event", e.Keys, e.Size, e.Limit)
	}
	return fmt.Sprintf("too large: the value would have %d bytes, and %d fit in an event", e.Size, e.Limit)
}

func (e *TooLargeError) Unwrap() error { return ErrTooLarge }

// A merge collects the changes of several writers to one dictionary.
type merge struct {
	base    wire.Dictionary
	changes map[string]setting
	keep    map[string]bool // keys that are set to what they hold, or deleted where they are not
	size    int             // of the content with the changes, in bytes, but for a stamp
	stamp   int             // what the smallest stamp of the changed keys takes; the others are left out where they don't fit
	kept    int             // what the stamps take of changes that were sent before, which are never left out
	limit   int
	stamped bool // the dictionary says when its keys were changed

	encrypted bool
	denied    error // why no value can be set
	sealLimit int
	opened    func(eventID, key string) ([]byte, bool, error)
}

// A setting is what a key is to become. A nil raw deletes it.
type setting struct {
	raw  json.RawMessage // in the state event, or in the encrypted event if seal is set
	seal bool
	ours bool // raw is encoded here, and so canonical
}

// pointerSize is what an entry takes in the state when its value is elsewhere:
// event IDs are 44 bytes long since room version 3; older ones may be longer.
var pointerSize = len(wire.EncodePointer("$")) + 64

func (q *Queue) merge(base wire.Dictionary, limit int) *merge {
	reserve := q.room.Reserve()
	m := &merge{
		base:      base,
		changes:   make(map[string]setting),
		keep:      make(map[string]bool),
		size:      wire.CanonicalSize(base.Content()) + reserve,
		stamped:   reserve > 0,
		limit:     limit,
		sealLimit: q.env.SealLimit,
		opened:    q.env.Opened,
	}
	m.encrypted, m.denied = q.env.Encrypted()
	return m
}

// addAll merges parts and returns those that could be, and those changes of the journal
// that don't fit beside them; the others are finished with their error.
func (m *merge) addAll(q *Queue, parts []*part) (merged, later []*part) {
	merged = make([]*part, 0, len(parts))
	for _, p := range parts {
		existed, err := m.add(p.changes)
		if p.journal && len(merged) > 0 && errors.Is(err, ErrTooLarge) {
			later = append(later, p)
			continue
		}
		if err != nil {
			q.finish([]*part{p}, err)
			continue
		}
		p.existed = existed
		merged = append(merged, p)
	}
	return merged, later
}

// add merges changes, all or none, and returns how many of the keys to delete
// were there.
func (m *merge) add(changes []Change) (existed int, err error) {
	undo := m.remember(changes)
	if existed, err = m.tryAdd(changes...); err != nil {
		undo()
		return 0, err
	}
	return existed, nil
}

// tryAdd is add, but where it returns an error some may be merged.
func (m *merge) tryAdd(changes ...Change) (existed int, err error) {
	size, kept := m.size, m.kept
	for _, change := range changes {
		was, err := m.apply(change)
		if err != nil {
			return 0, err
		}
		if was && change.Delete {
			existed++
		}
		if change.Attempt != nil && m.stamped {
			m.kept += memberSize(wire.EncodeKey(change.Key), setting{}) + stampSize
		}
	}
	// What makes the content no larger is let through: others may have filled it, by
	// the homeserver's measure.
	stamps := max(m.stamp, m.kept)
	if m.size+stamps > m.limit && (m.size > size || kept > 0 && m.kept > kept) {
		return 0, &TooLargeError{Size: m.size + stamps, Limit: m.limit, Keys: m.keys()}
	}
	return existed, nil
}

// remember returns a function that takes back the changes that are merged after it.
func (m *merge) remember(changes []Change) (undo func()) {
	size, stamp, kept := m.size, m.stamp, m.kept
	changed, keep := make(map[string]setting), make(map[string]bool)
	for _, change := range changes {
		if before, ok := m.changes[change.Key]; ok {
			changed[change.Key] = before
		}
		keep[change.Key] = m.keep[change.Key]
	}
	return func() {
		m.size, m.stamp, m.kept = size, stamp, kept
		for key, was := range keep {
			delete(m.changes, key)
			delete(m.keep, key)
			if was {
				m.keep[key] = true
			}
		}
		maps.Copy(m.changes, changed)
	}
}

// apply merges one change and reports whether the key was there.
func (m *merge) apply(change Change) (was bool, err error) {
	key := change.Key
	before, entry, was := m.standing(key)
	if change.Delete {
		if was {
			m.put(key, before, setting{})
		} else {
			m.keep[key] = true
		}
		return was, nil
	}
	if entry.Err != nil {
		return was, fmt.Errorf("%w: %w", ErrUnreadable, entry.Err)
	}
	after := setting{ours: true}
	if after.seal = m.encrypted; after.seal {
		after.raw = wire.EncodeSealed(change.Value)
	} else {
		after.raw = wire.EncodeValue(change.Value)
	}
	if was {
		if same, err := m.same(before, entry, change, after); same || err != nil {
			m.keep[key] = true
			return was, err
		}
	}
	if m.denied != nil {
		return was, m.denied
	}
	if after.seal {
		if size := memberSize(m.base.Name(key), after) + 2; size > m.sealLimit {
			return was, &TooLargeError{Size: size, Limit: m.sealLimit, Keys: 1}
		}
	}
	m.put(key, before, after)
	return was, nil
}

// touched returns the keys that were set or deleted, also where that changes nothing.
func (m *merge) touched() []string {
	keys := slices.Collect(maps.Keys(m.changes))
	for key := range m.keep {
		if _, changed := m.changes[key]; !changed {
			keys = append(keys, key)
		}
	}
	return keys
}

// standing returns what stands under a key so far: a change merged before, or
// else the base's entry.
func (m *merge) standing(key string) (before setting, entry wire.Entry, was bool) {
	if before, ok := m.changes[key]; ok {
		return before, wire.Entry{}, before.raw != nil
	}
	entry, was = m.base.Entries[key]
	return setting{raw: entry.Raw}, entry, was
}

// same says whether a change sets what stands there already.
func (m *merge) same(before setting, entry wire.Entry, change Change, after setting) (bool, error) {
	switch {
	case before.ours: // and so sealed or not as after is
		return bytes.Equal(before.raw, after.raw), nil
	case entry.Pointer != "":
		value, known, err := m.opened(entry.Pointer, change.Key)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		return known && (bytes.Equal(value, change.Value) || wire.Equal(wire.EncodeSealed(value), wire.EncodeSealed(change.Value))), nil
	default: // in the clear, as it was written before the room was encrypted
		return !after.seal && wire.Equal(before.raw, after.raw), nil
	}
}

// put notes a change and what it does to the size.
func (m *merge) put(key string, before, after setting) {
	name := m.base.Name(key)
	m.size += stateSize(name, after) - stateSize(name, before)
	m.changes[key] = after
	if stamp := memberSize(wire.EncodeKey(key), setting{}) + stampSize; m.stamped && (m.stamp == 0 || stamp < m.stamp) {
		m.stamp = stamp
	}
}

// stampSize is what a stamp takes beside the name of its key, at most.
const stampSize = len(`[9007199254740991,"0123456789abcdef"]`)

// stateSize returns how many bytes a setting takes in the state event.
func stateSize(name string, s setting) int {
	switch {
	case s.raw == nil:
		return 0
	case s.seal:
		return memberSize(name, setting{}) + pointerSize
	default:
		return memberSize(name, s)
	}
}

// memberSize returns how many bytes a member of an object takes, its comma included.
func memberSize(name string, value setting) int {
	size := len(value.raw)
	if !value.ours && size > 0 {
		size = wire.CanonicalSize(value.raw)
	}
	return wire.NameSize(name) + 1 + size + 1
}

// keys returns how many keys the dictionary has with the changes.
func (m *merge) keys() int {
	n := len(m.base.Entries)
	for key, s := range m.changes {
		_, was := m.base.Entries[key]
		switch {
		case was && s.raw == nil:
			n--
		case !was && s.raw != nil:
			n++
		}
	}
	return n
}
