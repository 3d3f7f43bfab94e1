package room

import "github.com/go-joe/matrix-memory/internal/commit"

// An encounter is what the key of a change held when the change went out.
type encounter struct {
	seq      uint64
	stranger bool // it was not what the change was built upon
}

// meets notes what a change meets that is about to be sent for the first time.
func (r *Room) meets(change commit.Change) {
	if change.Attempt != nil {
		return
	}
	held := r.replica.Held(change.Key)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, again := r.sent[change.Key] // what it meets may be the change whose place it took
	r.sent[change.Key] = encounter{change.Seq, !change.Delete && !again && held != change.Over}
}

// won says of a change that is delivered whether somebody else's had to give way to it.
func (r *Room) won(change commit.Change) bool {
	later, ok := r.pending(change.Key)
	r.mu.Lock()
	defer r.mu.Unlock()
	met := r.sent[change.Key]
	if !ok || later.Seq == change.Seq {
		delete(r.sent, change.Key)
	}
	return met.seq == change.Seq && met.stranger
}
