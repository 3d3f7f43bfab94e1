package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/sirupsen/logrus"
)

// lateAfter is how long a change may wait in the journal before something is wrong. A homeserver
// that limits how much a bot writes makes it wait for minutes.
const lateAfter = 15 * time.Minute

// A journalStatus says what waits in the bot's journal.
type journalStatus struct {
	File    string     `json:"file"`
	Missing bool       `json:"missing,omitempty"` // the bot has not run here
	Changes int        `json:"changes"`           // that are not delivered, those that are refused included
	Refused int        `json:"refused"`
	Since   *time.Time `json:"since,omitempty"` // of the oldest
	problems
}

// examineJournal looks at a copy of the journal: the bot may have it open. It returns nil if the settings name none.
func examineJournal(conf matrix.Config, log logrus.FieldLogger) *journalStatus {
	if conf.Journal == "" {
		return nil
	}
	found := &journalStatus{File: conf.Journal}
	copied, err := journal.OpenCopy(conf.Journal, journal.Options{Account: conf.UserID, Key: conf.StoreKey, Log: log})
	switch {
	case errors.Is(err, os.ErrNotExist):
		found.Missing = true
		return found
	case err != nil:
		found.add(err.Error(), "the bot can't start with it either: see docs/journal.md")
		return found
	}
	defer copied.Close()
	waiting, refused, since := copied.Pending()
	found.Changes, found.Refused = waiting+refused, refused
	if found.Changes > 0 {
		found.Since = &since
	}
	for _, room := range copied.Refused() {
		for _, change := range copied.Changes(room) {
			if change.Refused != "" {
				found.add(fmt.Sprintf("the homeserver refuses the change of %q in room %s: %s", change.Key, room, change.Refused),
					"mend what it says; the bot tries again when that may help, and when it starts")
			}
		}
	}
	if waiting > 0 && time.Since(since) > lateAfter {
		found.add(fmt.Sprintf("%s not delivered since %s", count(waiting, "change"), since.Format(time.RFC3339)),
			"see that the bot runs and reaches the homeserver; its log says what keeps it, and it delivers them when it can")
	}
	return found
}

func (j journalStatus) text() string {
	switch {
	case j.Missing:
		return j.File + ", which is not there: the bot has not run here"
	case j.Since == nil:
		return j.File + ", all is delivered"
	}
	return fmt.Sprintf("%s, %s to deliver, %d refused, since %s", j.File, count(j.Changes, "change"), j.Refused, j.Since.Format(time.RFC3339))
}
