package journal

// Path returns where the file is.
func (j *Journal) Path() string { return j.path }

// Refused returns the rooms with dead letters.
func (j *Journal) Refused() (rooms []string) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for room, changes := range j.changes {
		for _, c := range changes {
			if c.Refused != "" {
				rooms = append(rooms, room)
				break
			}
		}
	}
	return rooms
}

// Last returns the greatest Seq of all changes.
func (j *Journal) Last() (last uint64) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, changes := range j.changes {
		for _, c := range changes {
			last = max(last, c.Seq)
		}
	}
	return last
}
