package replica

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// An Attempt says with what a change was sent for the first time. Whoever heard of that and
// changed the key since has replaced the change, so it is never sent with a later stamp.
type Attempt struct {
	At  wire.Stamp // in a dictionary; zero in the per-key layout
	Was string     // what stood there before, or "=" and what the key held: see [Room.Held]; it counts where events have no stamps
}

// A Fate is what became of a change that was sent before and of which nobody knows whether
// it arrived.
type Fate int

const (
	Missing  Fate = iota // as far as is known it has not arrived, and nobody has heard of it
	Arrived              // it counts
	Ours                 // an own event stands there: it has arrived if the key holds what it made of it, else it is missing
	Replaced             // another change counts, or the same one once more
	Unclear              // the room must be loaded again, or what stands there be asked for: see [Room.Behind] and [Room.Task]
)

// ErrHeard says that a draft would have brought back what was replaced meanwhile, or may
// have been: see [Room.Fate].
var ErrHeard = errors.New("more was heard of a change that was sent before")

// Fate tells what became of a change of a key. One that was not sent before, whose first is
// nil, is missing, but unclear where a draft could not tell what stood there before it.
func (r *Room) Fate(key string, first *Attempt) Fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return Unclear
	}
	doc := r.document(r.stateKey(key))
	fate := r.fate(doc, key, first)
	if m := doc.meaning; m != nil && first != nil {
		m.seek(key, first.At, fate == Unclear)
	}
	return fate
}

func (r *Room) fate(doc *document, key string, first *Attempt) Fate {
	switch {
	case r.behind > 0, doc.meaning == nil && doc.ask:
		return Unclear
	case first == nil:
		return Missing
	case doc.meaning != nil:
		return doc.meaning.fate(key, first.At)
	case first.Was == "="+doc.held(key), first.Was == doc.standing.name(), doc.found && first.Was == doc.standing.digest():
		return Missing
	case doc.from != nil && (first.Was == doc.from.mark || first.Was == digest(doc.from.dict.Content())): // there
		return Missing
	case doc.from != nil && slices.Contains(doc.mine, doc.from.mark):
		return Ours
	case doc.own() || doc.sentBy(r.self): // this very attempt, or an earlier one that came late
		return Ours
	}
	return Replaced
}

// sentBy says whether what stands there is known to be a user's event.
func (d *document) sentBy(user string) bool {
	return slices.ContainsFunc(d.recent, func(e *event) bool { return e.id == d.id && e.sender == user })
}

// Reached notes that own attempts from before the start went as deep as this, so that
// what is written from now on goes deeper.
func (r *Room) Reached(depth int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = max(r.reached, depth)
	for _, doc := range r.docs {
		doc.top = max(doc.top, depth)
	}
}

// Held returns a digest of what a key holds; "" if it holds nothing.
func (r *Room) Held(key string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if doc, ok := r.docs[r.stateKey(key)]; ok {
		return doc.held(key)
	}
	return ""
}

func (d *document) held(key string) string {
	if entry, ok := d.dict.Entries[key]; ok {
		return digest(entry.Raw)
	}
	return ""
}

func digest(raw []byte) string {
	sum := sha256.Sum256(wire.Canonical(raw))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// name tells what stands in the room from what stood there before or will after it: by its
// event ID, or by its content where that is not known.
func (s standing) name() string {
	if s.id != "" || !s.found {
		return s.id
	}
	return s.digest()
}

func (s standing) digest() string { return digest(s.dict.Content()) }

// A sought is the stamp of an own change of which older events may tell whether it
// arrived.
type sought struct {
	at   wire.Stamp
	lost bool // they can't be had
}

// fate tells what became of a change. Where an event says something of the key as of
// a floor that is no lower, its author may have heard of the change and left its stamp out.
func (m *meaning) fate(key string, at wire.Stamp) Fate {
	k := m.mean()[key]
	if k == nil {
		k = &m.all.absent
	}
	if _, clash := m.clash[key]; clash {
		return Unclear
	}
	if !k.weakly() {
		switch c := k.at.Compare(at); {
		case !k.stamped:
		case c == 0:
			return Arrived
		case c > 0:
			return Replaced
		}
		return Missing // what events say without a stamp is what the earlier stamp says
	}
	i := slices.IndexFunc(k.weak, func(w weak) bool { return w.floor >= at.Depth })
	if i < 0 {
		return Missing
	}
	one := m.byID[k.weak[i].at.ID]
	switch {
	case one != nil && one.fits && one.write.ID == at.ID:
		return Arrived // it left its own stamp out
	case k.rules && i == 0:
		return Replaced
	case m.whole():
		return Missing
	case m.sought[key] == sought{at, true}:
		return Replaced // as for any stamp
	}
	return Unclear
}

// seek notes whether older events are wanted on account of a change.
func (m *meaning) seek(key string, at wire.Stamp, unclear bool) {
	switch {
	case !unclear:
		delete(m.sought, key)
	case m.sought[key].at != at:
		if m.sought == nil {
			m.sought = make(map[string]sought)
		}
		m.sought[key] = sought{at: at}
	}
}

// missing returns the keys of those changes that older events would tell more of.
func (m *meaning) missing() (keys []string) {
	for key, s := range m.sought {
		if !s.lost && m.fate(key, s.at) == Unclear {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// giveUp accepts that older events which would tell of changes can't be had.
func (m *meaning) giveUp() (keys []string) {
	keys = m.missing()
	for _, key := range keys {
		m.sought[key] = sought{at: m.sought[key].at, lost: true}
	}
	return keys
}

// Next returns how deep a change of a key would go now; 0 where events have no stamps, or
// nothing is known of the room.
func (r *Room) Next(key string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.layout.PerKey || !r.loaded {
		return 0
	}
	doc := r.document(r.stateKey(key))
	doc.meaning.mean()
	return max(doc.meaning.next(), doc.top+1)
}
