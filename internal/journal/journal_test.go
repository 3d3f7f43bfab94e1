package journal

import (
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
)

const account = "@bot:example.org"

// options returns the options of a journal whose log nobody looks at.
func options(key string) Options {
	log, _ := test.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	return Options{Account: account, Key: key, Log: log}
}

// open opens a journal that is closed when the test ends.
func open(t testing.TB, path, key string) *Journal {
	t.Helper()
	j, err := Open(path, options(key))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}
