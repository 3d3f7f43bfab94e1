package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// savedVersion is raised whenever what [Room.Save] gives means something else.
const savedVersion = 1

// What is saved of a room is what is known of its state events, so that after a load it
// is as if the process had not ended and sync had missed some events. Contents are saved as they
// stand in the room, and so are values that were sent encrypted: as pointers.
type saved struct {
	Version  int
	Self     string // the account: what is an own event depends on it
	PerKey   bool
	StateKey string                   `json:",omitempty"` // of the one dictionary
	Reached  int64                    `json:",omitempty"`
	Events   map[string]savedDocument // by state key
}

type savedDocument struct {
	Known    []savedEvent   `json:",omitempty"` // the last events
	Meaning  *savedMeaning  `json:",omitempty"`
	Standing *savedStanding `json:",omitempty"` // nil: nothing stands there
	Answer   *savedContent  `json:",omitempty"` // what reads are answered from, where nothing else says so
	Older    bool           `json:",omitempty"`
	Ask      bool           `json:",omitempty"`
	Fork     bool           `json:",omitempty"`
	Told     bool           `json:",omitempty"`
	Unproved bool           `json:",omitempty"`
	Past     []string       `json:",omitempty"`
	Mine     []string       `json:",omitempty"`
	Sent     []savedSent    `json:",omitempty"`
	Top      int64          `json:",omitempty"`
	Carried  int            `json:",omitempty"`
	Loose    []string       `json:",omitempty"`
	From     *savedFrom     `json:",omitempty"` // what was taken over from another room
}

type savedFrom struct {
	Meant  savedContent
	Mark   string   `json:",omitempty"`
	Until  int64    `json:",omitempty"`
	Copied string   `json:",omitempty"`
	Older  []string `json:",omitempty"`
	Took   string   `json:",omitempty"`
}

type savedStanding struct {
	ID      string `json:",omitempty"`
	Content savedContent
}

type savedSent struct{ ID, Base string }

type savedEvent struct {
	ID       string
	Replaces string `json:",omitempty"`
	Sender   string `json:",omitempty"`
	Time     int64  `json:",omitempty"`
	Content  savedContent
	Blank    bool          `json:",omitempty"`
	Stamped  bool          `json:",omitempty"` // it has a write that is not forged
	Fits     bool          `json:",omitempty"`
	Partial  bool          `json:",omitempty"`
	Bare     bool          `json:",omitempty"`
	Guessed  bool          `json:",omitempty"`
	Acked    bool          `json:",omitempty"`
	Lost     bool          `json:",omitempty"`
	Reading  *savedReading `json:",omitempty"` // of one that is frozen
}

type savedReading struct {
	Own    bool `json:",omitempty"`
	Sure   bool `json:",omitempty"`
	Unsure bool `json:",omitempty"`
	Depth  int64
	Stamps map[string]wire.Stamp `json:",omitempty"` // by name
	Floor  int64                 `json:",omitempty"`
}

type savedMeaning struct {
	Keys   map[string]savedKnown `json:",omitempty"` // what forgotten events said, by name
	Absent []savedWeak           `json:",omitempty"`
	Past   []string              `json:",omitempty"`
	Depth  int64
	Unsure int64                  `json:",omitempty"`
	Torn   bool                   `json:",omitempty"`
	Ruled  map[string]savedRuling `json:",omitempty"` // by name
	Held   map[string]savedRuling `json:",omitempty"` // by name
	Copies map[string]int64       `json:",omitempty"`
}

type savedKnown struct {
	At    *wire.Stamp     `json:",omitempty"`
	Value json.RawMessage `json:",omitempty"`
	From  string          `json:",omitempty"`
	Said  int64           `json:",omitempty"`
	Weak  []savedWeak     `json:",omitempty"`
}

type savedWeak struct {
	Value json.RawMessage `json:",omitempty"`
	Floor int64
	At    wire.Stamp
}

type savedRuling struct {
	At    wire.Stamp
	Value json.RawMessage `json:",omitempty"`
}

// Save returns what is known of the room, for [Room.Restore].
func (r *Room) Save() ([]byte, error) {
	s, err := r.save()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer // no lock is held for that: it takes a while
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // contents stay as they are
	if err := encoder.Encode(s); err != nil {
		return nil, fmt.Errorf("saving what is known of the room's memory: %w", err)
	}
	return out.Bytes(), nil
}

// save returns what is known of the room; nothing in it is changed later.
func (r *Room) save() (*saved, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded {
		return nil, ErrNotLoaded
	}
	s := &saved{Version: savedVersion, Self: r.self, PerKey: r.layout.PerKey, StateKey: r.layout.StateKey, Reached: r.reached,
		Events: make(map[string]savedDocument, len(r.docs))}
	for stateKey, doc := range r.docs {
		s.Events[stateKey] = doc.save(r.layout, stateKey)
	}
	return s, nil
}

func (d *document) save(layout wire.Layout, stateKey string) savedDocument {
	s := savedDocument{
		Older: d.older, Ask: d.ask, Fork: d.fork, Told: d.told, Unproved: d.unproved,
		Past: slices.Clone(d.past), Mine: slices.Clone(d.mine), Top: d.top, Carried: d.carried, Loose: slices.Clone(d.loose),
	}
	in := &contents{layout: layout, stateKey: stateKey}
	events := d.recent
	if d.meaning != nil {
		events = d.meaning.events
		s.Meaning = d.meaning.save()
	}
	for _, e := range events {
		one := savedEvent{ID: e.id, Replaces: e.replaces, Sender: e.sender, Time: e.time, Content: in.saveEvent(e), Blank: e.blank, Stamped: e.write != nil,
			Fits: e.fits, Partial: e.partial, Bare: e.bare, Guessed: e.guessed, Acked: e.acked, Lost: e.lost}
		if e.frozen {
			r := e.reading
			one.Reading = &savedReading{Own: r.own, Sure: r.sure, Unsure: r.unsure, Depth: r.depth, Floor: r.floor, Stamps: byName(r.stamps, func(at wire.Stamp) wire.Stamp { return at })}
		}
		s.Known = append(s.Known, one)
	}
	s.Standing = in.stands(d.standing)
	if d.meaning == nil || len(events) == 0 && len(d.meaning.kept.keys) == 0 {
		answer := in.save(d.dict, nil)
		s.Answer = &answer
	}
	if d.from != nil {
		s.From = &savedFrom{in.save(d.from.dict, nil), d.from.mark, d.from.until, d.from.copied, slices.Clone(d.from.older), d.from.took}
	}
	for _, one := range d.sent {
		s.Sent = append(s.Sent, savedSent{one.id, one.base})
	}
	return s
}

func (m *meaning) save() *savedMeaning {
	rulings := func(r map[string]ruling) map[string]savedRuling {
		return byName(r, func(r ruling) savedRuling { return savedRuling{r.stamp, r.value.Raw} })
	}
	s := &savedMeaning{Past: slices.Clone(m.past), Depth: m.depth, Unsure: m.unsure, Torn: m.torn, Ruled: rulings(m.ruled), Held: rulings(m.held), Copies: maps.Clone(m.copies)}
	weaks := func(all []weak) (saved []savedWeak) {
		for _, w := range all {
			saved = append(saved, savedWeak{w.value.Raw, w.floor, w.at})
		}
		return saved
	}
	s.Absent = weaks(m.kept.absent.weak)
	s.Keys = byName(m.kept.keys, func(k *known) savedKnown {
		one := savedKnown{Value: k.value.Raw, From: k.from, Said: k.said, Weak: weaks(k.weak)}
		if k.stamped {
			at := k.at
			one.At = &at
		}
		return one
	})
	return s
}

// byName makes a map by the names of keys, which are text whatever the keys are.
func byName[V, W any](all map[string]V, save func(V) W) map[string]W {
	if len(all) == 0 {
		return nil
	}
	named := make(map[string]W, len(all))
	for key, one := range all {
		named[wire.EncodeKey(key)] = save(one)
	}
	return named
}

// byKey is the reverse of byName.
func byKey[V, W any](named map[string]W, restore func(W) V) (map[string]V, error) {
	if len(named) == 0 {
		return nil, nil
	}
	all := make(map[string]V, len(named))
	for name, one := range named {
		key, ok := wire.DecodeKey(name)
		if !ok {
			return nil, fmt.Errorf("%q is no key's name", name)
		}
		all[key] = restore(one)
	}
	return all, nil
}

// Restore makes a room that is not loaded answer from what [Room.Save] gave, so that it is
// behind: it must be loaded before anything is written. After an error it is as before.
func (r *Room) Restore(from []byte) error {
	restored, err := restore(r.layout, r.self, from)
	if err != nil {
		return fmt.Errorf("restoring what was known of the room's memory, which must be read from the homeserver instead: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded || r.loading {
		return errors.New("restoring what was known of the room's memory: it is loaded already")
	}
	r.clear()
	r.docs, r.pointers, r.busy = restored.docs, restored.pointers, restored.busy
	r.loaded, r.behind, r.count = true, 1, r.count+restored.count
	r.reached = max(r.reached, restored.reached)
	for _, doc := range r.docs {
		doc.top = max(doc.top, r.reached)
	}
	return nil
}

func restore(layout wire.Layout, self string, from []byte) (*Room, error) {
	var s saved
	if err := json.Unmarshal(from, &s); err != nil {
		return nil, err
	}
	return s.restore(layout, self)
}

func (s *saved) restore(layout wire.Layout, self string) (*Room, error) {
	switch {
	case s.Version != savedVersion:
		return nil, fmt.Errorf("it was saved in version %d of the format, not in %d", s.Version, savedVersion)
	case s.Self != self:
		return nil, fmt.Errorf("it was saved by %s, not by %s", s.Self, self)
	case s.PerKey != layout.PerKey, s.StateKey != layout.StateKey:
		return nil, errors.New("it was saved of another layout")
	}
	r := New(layout, self)
	r.reached = s.Reached
	for stateKey, one := range s.Events {
		if !layout.Owns(stateKey) {
			return nil, fmt.Errorf("nothing of the memory's stands under the state key %q", stateKey)
		}
		doc, err := one.restore(layout, stateKey)
		if err != nil {
			return nil, fmt.Errorf("what stands under the state key %q: %w", stateKey, err)
		}
		r.docs[stateKey] = doc
		r.touch(stateKey)
	}
	return r, nil
}

func (s savedDocument) restore(layout wire.Layout, stateKey string) (*document, error) {
	d := &document{
		older: s.Older, ask: s.Ask, fork: s.Fork, told: s.Told, unproved: s.Unproved,
		past: s.Past, mine: s.Mine, top: s.Top, carried: s.Carried, loose: s.Loose,
	}
	in := &contents{layout: layout, stateKey: stateKey}
	var events []*event
	for _, one := range s.Known {
		e, err := one.restore(in)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", one.ID, err)
		}
		if slices.ContainsFunc(events, func(o *event) bool { return o.id == e.id }) {
			return nil, fmt.Errorf("event %s is there twice", e.id)
		}
		events = append(events, e)
	}
	var err error
	switch {
	case s.Meaning == nil && layout.PerKey:
		d.recent = events
	case s.Meaning == nil || layout.PerKey:
		return nil, errors.New("it was saved of another layout")
	default:
		if d.meaning, err = s.Meaning.restore(layout); err != nil {
			return nil, err
		}
		for _, e := range events {
			d.meaning.include(e, len(d.meaning.events))
		}
		d.top += restartDepth // an attempt that was made after the room was saved may still arrive
	}
	if d.standing, err = in.stood(s.Standing); err != nil {
		return nil, err
	}
	if s.Answer != nil {
		if d.dict, _, err = in.restore(*s.Answer); err != nil {
			return nil, err
		}
	}
	if s.From != nil {
		meant, _, err := in.restore(s.From.Meant)
		if err != nil {
			return nil, err
		}
		d.from = &inheritance{meant, s.From.Mark, s.From.Until, s.From.Copied, s.From.Older, s.From.Took}
	}
	for _, one := range s.Sent {
		d.sent = append(d.sent, sent{one.ID, one.Base})
	}
	return d, nil
}

func (s savedEvent) restore(in *contents) (*event, error) {
	e := &event{id: s.ID, replaces: s.Replaces, sender: s.Sender, time: s.Time, partial: s.Partial, bare: s.Bare, guessed: s.Guessed, acked: s.Acked, lost: s.Lost}
	var err error
	if e.dict, e.raw, err = in.restore(s.Content); err != nil {
		return nil, err
	}
	if e.raw != nil {
		_, e.err = in.layout.Decode(in.stateKey, e.raw)
	}
	e.blank = s.Blank || e.err != nil
	if s.Stamped {
		e.write = e.dict.Write
	}
	e.fits = s.Fits && e.write != nil
	if r := s.Reading; r != nil {
		stamps, err := byKey(r.Stamps, func(at wire.Stamp) wire.Stamp { return at })
		if err != nil {
			return nil, err
		}
		e.frozen, e.reading = true, &reading{own: r.Own && e.fits, sure: r.Sure, unsure: r.Unsure, depth: r.Depth, stamps: stamps, floor: r.Floor}
	}
	return e, nil
}

func (s *savedMeaning) restore(layout wire.Layout) (*meaning, error) {
	m := newMeaning(layout)
	m.past, m.depth, m.unsure, m.torn, m.copies = s.Past, s.Depth, s.Unsure, s.Torn, s.Copies
	rulings := func(saved map[string]savedRuling) (map[string]ruling, error) {
		return byKey(saved, func(r savedRuling) ruling { return ruling{r.At, valueOf(r.Value)} })
	}
	weaks := func(saved []savedWeak) (all []weak) {
		for _, w := range saved {
			all = append(all, weak{valueOf(w.Value), w.Floor, w.At})
		}
		return all
	}
	var err error
	if m.ruled, err = rulings(s.Ruled); err != nil {
		return nil, err
	}
	if m.held, err = rulings(s.Held); err != nil {
		return nil, err
	}
	m.kept.absent.weak = weaks(s.Absent)
	keys, err := byKey(s.Keys, func(s savedKnown) *known {
		k := &known{value: valueOf(s.Value), from: s.From, said: s.Said, weak: weaks(s.Weak)}
		if s.At != nil {
			k.stamped, k.at = true, *s.At
		}
		return k
	})
	if keys != nil {
		m.kept.keys = keys
	}
	return m, err
}

// valueOf returns the entry that stands in a content as this; one without Raw if
// nothing does.
func valueOf(raw json.RawMessage) wire.Entry {
	if raw == nil {
		return wire.Entry{}
	}
	return wire.DecodeValue(raw)
}

func (in *contents) stands(s standing) *savedStanding {
	if !s.found {
		return nil
	}
	return &savedStanding{ID: s.id, Content: in.save(s.dict, s.raw)}
}

func (in *contents) stood(s *savedStanding) (standing, error) {
	if s == nil {
		return standing{}, nil
	}
	dict, raw, err := in.restore(s.Content)
	out := standing{found: true, id: s.ID, dict: dict, raw: raw}
	if raw != nil {
		_, out.err = in.layout.Decode(in.stateKey, raw)
	}
	return out, err
}
