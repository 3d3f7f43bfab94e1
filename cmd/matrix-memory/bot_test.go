package main

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// bound is how long a script waits for something.
const bound = 30 * time.Second

// bot is what runs beside the tool:
//
//	bot start FILE     with these settings
//	bot set KEY VALUE
//	bot has KEY VALUE  waits until it has heard that
//	bot stop
func bot(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	switch {
	case neg || len(args) == 0:
		ts.Fatalf("usage: bot start, set, has or stop")
	case args[0] == "start" && len(args) == 2:
		s.bot = startBot(ts, args[1])
	case args[0] == "set" && len(args) == 3:
		require.NoError(s, s.bot.Set(args[1], []byte(args[2])))
	case args[0] == "has" && len(args) == 3:
		var value []byte
		var err error
		rig.Eventually(bound)(s, func() bool {
			value, _, err = s.bot.Get(args[1])
			return err == nil && string(value) == args[2]
		}, "the bot has not got %q", args[1])
	case args[0] == "stop" && len(args) == 1:
		require.NoError(s, s.bot.Close())
	default:
		ts.Fatalf("bot %q is unknown", args)
	}
}

// startBot opens the memory of a bot. The settings may name the script's environment.
func startBot(ts *testscript.TestScript, file string) *matrix.Memory {
	s := sceneOf(ts)
	expanded := filepath.Join(s.TempDir(), "configuration.yaml")
	require.NoError(s, os.WriteFile(expanded, []byte(os.Expand(ts.ReadFile(file), func(name string) string { return strconv.Quote(ts.Getenv(name)) })), 0o600))
	conf, err := matrix.LoadConfig(expanded)
	require.NoError(s, err)
	options := []matrix.Option{matrix.WithLogger(rig.Warnings(s))}
	for _, path := range []*string{&conf.StorePath, &conf.Journal} {
		if *path != "" {
			*path = ts.MkAbs(*path)
		}
	}
	if conf.StorePath != "" {
		options = append(options, e2ee.Enable())
	}
	return rig.Open(s, conf, options...)
}

// setFrom sets an environment variable to what is in a file: setfrom NAME FILE.
func setFrom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setfrom NAME FILE")
	}
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}
