package commit

// Check says why changes could not be stored, as far as is known, if those that are not delivered
// yet are stored before: a value that is too large, an entry that can't be read, or values that
// can't go out. It may be called concurrently with all else, and changes nothing.
func (q *Queue) Check(undelivered []Change, changes ...Change) error {
	merges := make(map[string]*merge)
	into := func(change Change) (*merge, error) {
		stateKey := q.room.StateKey(change.Key)
		if m := merges[stateKey]; m != nil {
			return m, nil
		}
		base, err := q.room.Begin(stateKey)
		if err != nil {
			return nil, err
		}
		merges[stateKey] = q.merge(base, q.env.Limit(stateKey))
		return merges[stateKey], nil
	}
	for _, change := range undelivered {
		if m, err := into(change); err == nil {
			_, _ = m.add([]Change{change}) // what does not fit is told of when it is delivered
		}
	}
	for _, change := range changes {
		m, err := into(change)
		if err == nil {
			_, err = m.add([]Change{change})
		}
		if err != nil {
			return &KeyError{change.Key, err}
		}
	}
	return nil
}
