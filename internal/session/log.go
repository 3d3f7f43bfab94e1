package session

import (
	"encoding/json"

	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"
)

// ClientLog returns a logger for mautrix that writes to ours, at debug level: what
// matters to the bot's owner the session says itself, and mautrix's entries
// name memory keys. Request bodies hold values and never pass.
func ClientLog(log logrus.FieldLogger) zerolog.Logger {
	return zerolog.New(writer{log}).Level(zerolog.DebugLevel)
}

type writer struct{ log logrus.FieldLogger }

// passing are the fields that may be logged.
var passing = []string{"method", "url", "status_code", "duration", "error", "retry_in_seconds", "room_id", "event_id", "session_id", "sender", "device_id", "user_id"}

func (w writer) Write(line []byte) (int, error) {
	var entry map[string]any
	if json.Unmarshal(line, &entry) != nil {
		return len(line), nil
	}
	fields := make(logrus.Fields, len(passing))
	for _, name := range passing {
		if value, ok := entry[name]; ok {
			fields[name] = value
		}
	}
	message, _ := entry[zerolog.MessageFieldName].(string)
	w.log.WithFields(fields).Debug("mautrix: " + message)
	return len(line), nil
}
