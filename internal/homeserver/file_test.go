package homeserver

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A folder in which an earlier start was cut off is as good as any other.
func TestStartAfterACutOffStart(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{traits[software(t)].key, traits[software(t)].database, portFile} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".unfinished"), []byte("half a fi"), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, portFile), nil, 0o600))
	s := startServer(t, dir)
	register(t, s, "alice").createRoom(t)
	require.Equal(t, s.port, readPort(dir))
}

// What is not written to its end does not stand under the file's name.
func TestFilesAreWrittenAsAWhole(t *testing.T) {
	for name, write := range map[string]func(dir string) error{
		dendriteKey:  prepareDendrite,
		databases[0]: prepareDendrite,
		synapseKey:   prepareSynapse,
		portFile:     func(dir string) error { return writePort(dir, 8008) },
	} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, name+".unfinished"), 0o700)) // so that it can't be written
		require.Error(t, write(dir))
		require.NoFileExists(t, filepath.Join(dir, name))
	}

	dir := t.TempDir()
	require.NoError(t, writePort(dir, 8008))
	require.NoError(t, os.Link(filepath.Join(dir, portFile), filepath.Join(dir, "before")))
	require.NoError(t, writePort(dir, 8009))
	before, err := os.ReadFile(filepath.Join(dir, "before"))
	require.NoError(t, err)
	require.Equal(t, "8008\n", string(before), "the old file was written over")
	require.Equal(t, 8009, readPort(dir))
}

// The log does not grow for ever, and its end is there for whoever asks.
func TestLogStaysSmall(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, programs[software(t)].logFile())
	var old strings.Builder
	for i := 0; old.Len() <= logMost; i++ {
		old.WriteString("an old line " + strconv.Itoa(i) + "\n")
	}
	require.NoError(t, os.WriteFile(name, []byte(old.String()+"the last old line\n"), 0o600))

	s := startServer(t, dir)
	log, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Less(t, len(log), logMost/2)
	require.Contains(t, s.Log(), "the last old line")
	require.Contains(t, s.Log(), traits[s.Software()].banner)

	require.NoError(t, s.Kill())
	require.NoError(t, s.Restart(t.Context()))
	require.Contains(t, s.Log(), "the last old line", "a log that is small is kept")
	require.Equal(t, 2, strings.Count(s.Log(), traits[s.Software()].banner))
}
