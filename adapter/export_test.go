package adapter

import "time"

// Bound makes gaps begin and end sooner, and what was seen be forgotten sooner, so
// that a test needs fewer messages.
func Bound(timeline, onePage, most, pages int) (restore func()) {
	before := []int{timelineLimit, page, maxMissed, maxPages, remembered}
	timelineLimit, page, maxMissed, maxPages, remembered = timeline, onePage, most, pages, 4*timeline
	return func() {
		timelineLimit, page, maxMissed, maxPages, remembered = before[0], before[1], before[2], before[3], before[4]
	}
}

// Waiting bounds how many events of a room wait for the bot.
func Waiting(most int) (restore func()) {
	before := maxWaiting
	maxWaiting = most
	return func() { maxWaiting = before }
}

// FollowAgain is how long the bot waits after it could not follow where a room was upgraded.
func FollowAgain(after time.Duration) (restore func()) {
	before := followAgain
	followAgain = after
	return func() { followAgain = before }
}
