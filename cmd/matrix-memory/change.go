package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
)

// A changeLine is a change as programs read it.
type changeLine struct {
	Time    time.Time       `json:"time"`
	Sender  string          `json:"sender,omitempty"`
	EventID string          `json:"event_id,omitempty"`
	Room    string          `json:"room"`
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value,omitempty"`
	Deleted bool            `json:"deleted,omitempty"`
	Error   string          `json:"error,omitempty"` // why the value can't be read
}

// printChange prints a change, whose value can't be read if there is an error: as JSON, or as a line
// of text in which what tells it from others of its command comes third.
func printChange(cmd *cli.Command, change matrix.Change, unreadable error, third string) error {
	line := changeLine{
		Time: change.Time.UTC(), Sender: change.Sender, EventID: change.EventID,
		Room: change.Room, Key: change.Key, Value: change.Value, Deleted: change.Deleted,
	}
	what := "can't be read: "
	switch {
	case unreadable != nil:
		line.Error = unreadable.Error()
		what += line.Error
	case change.Deleted:
		what = "deleted"
	default:
		line.Value = compact(change.Value)
		what = "= " + string(line.Value)
	}
	if cmd.Bool("json") {
		return writeJSON(cmd, line)
	}
	sender := change.Sender
	if sender == "" {
		sender = "somebody"
	}
	_, err := fmt.Fprintf(cmd.Root().Writer, "%s  %s  %s  %s\n", line.Time.Format(time.RFC3339), sender, third, what)
	return err
}
