package commit

// Pending returns how many writes wait for the worker.
func Pending(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// Closed says whether the queue refuses writes.
func Closed(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Idle says whether the worker has nothing to do.
func Idle(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.running
}
