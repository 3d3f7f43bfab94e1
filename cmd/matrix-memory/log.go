package main

import (
	"fmt"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
)

// logger returns what a memory logs to: its warnings, or with -v all.
func logger(cmd *cli.Command) logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(cmd.Root().ErrWriter)
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	if cmd.Bool("v") {
		log.SetLevel(logrus.DebugLevel)
		return log
	}
	log.SetFormatter(unguarded{log.Formatter})
	log.SetLevel(logrus.WarnLevel)
	return log
}

// unguarded leaves out what a memory says of the guard's answers, as that is how it is meant.
type unguarded struct{ logrus.Formatter }

func (u unguarded) Format(entry *logrus.Entry) ([]byte, error) {
	if text := fmt.Sprint(entry.Data[logrus.ErrorKey]); strings.Contains(text, onlyReads) || strings.Contains(text, keepAccount) {
		return nil, nil
	}
	return u.Formatter.Format(entry)
}
