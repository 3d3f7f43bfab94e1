package adapter

// Bound makes gaps begin and end sooner, so that a test needs fewer messages.
func Bound(timeline, onePage, most int) (restore func()) {
	before := []int{timelineLimit, page, maxMissed}
	timelineLimit, page, maxMissed = timeline, onePage, most
	return func() { timelineLimit, page, maxMissed = before[0], before[1], before[2] }
}
