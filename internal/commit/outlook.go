package commit

import (
	"errors"

	"github.com/go-joe/matrix-memory/internal/replica"
)

// An Outlook is what a room will hold once all is stored that is not delivered yet. It is kept from
// one change to the next, so that each costs what it takes itself and not what waits already. It is
// not safe for concurrent use.
type Outlook struct {
	queue     *Queue
	count     int                 // the room's when this was made
	encrypted bool                // the same goes for this
	waiting   map[string][]Change // what is not merged yet, by state key
	merges    map[string]*merge   // by state key
	held      map[string]string   // what [replica.Room.Held] said, by key
}

// Outlook returns the outlook of a room with what is not delivered yet, in the order in which it was made.
func (q *Queue) Outlook(undelivered []Change) *Outlook {
	o := &Outlook{queue: q, count: q.room.Changes(), waiting: make(map[string][]Change), merges: make(map[string]*merge), held: make(map[string]string)}
	o.encrypted, _ = q.env.Encrypted()
	for _, change := range undelivered {
		stateKey := q.room.StateKey(change.Key)
		o.waiting[stateKey] = append(o.waiting[stateKey], change)
	}
	return o
}

// Stale says whether more is known of the room by now.
func (o *Outlook) Stale() bool {
	encrypted, _ := o.queue.env.Encrypted()
	return o.count != o.queue.room.Changes() || o.encrypted != encrypted
}

// Held returns a digest of what the room holds under a key by now; "" if it holds nothing.
func (o *Outlook) Held(key string) string {
	held, ok := o.held[key]
	if !ok {
		held = o.queue.room.Held(key)
		o.held[key] = held
	}
	return held
}

// Add adds changes to what is not delivered yet, or says why they could not be stored, as far as is
// known: a value that is too large, an entry that can't be read, or values that can't go out. Then
// some may have been added, and the outlook is of no more use.
func (o *Outlook) Add(changes ...Change) error {
	for _, change := range changes {
		m, err := o.merge(o.queue.room.StateKey(change.Key))
		if err == nil {
			_, err = m.tryAdd(change)
		}
		if err != nil {
			return &KeyError{change.Key, err}
		}
	}
	return nil
}

// merge returns what is to become of a state event.
func (o *Outlook) merge(stateKey string) (*merge, error) {
	if m := o.merges[stateKey]; m != nil {
		return m, nil
	}
	base, err := o.queue.room.Begin(stateKey)
	if err != nil && !errors.Is(err, replica.ErrNotLoaded) { // then sizes are known all the same
		return nil, err
	}
	m := o.queue.merge(base, o.queue.env.Limit(stateKey))
	for _, change := range o.waiting[stateKey] {
		change.Attempt = nil           // a stamp that can't be left out may leave others of these for a later event
		_, _ = m.add([]Change{change}) // what does not fit is told of when it is delivered
	}
	delete(o.waiting, stateKey)
	o.merges[stateKey] = m
	return m, nil
}
