//go:build goolm

package e2ee_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// refuse opens a memory that can't be opened and returns the error.
func refuse(t testing.TB, conf matrix.Config) error {
	t.Helper()
	memory := matrix.New(conf, matrix.WithLogger(rig.Log(t)), e2ee.Enable())
	err := memory.Open(t.Context())
	require.Error(t, err)
	require.NoError(t, memory.Close())
	return err
}

// contents returns the files in a folder.
func contents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files[path], err = os.ReadFile(path)
		}
		return err
	}))
	return files
}

// Stores outside the tests are locked with as many rounds as OWASP asks for, and open again.
func TestRounds(t *testing.T) {
	require.GreaterOrEqual(t, e2ee.Rounds, 210_000)
	restore := e2ee.WithRounds(e2ee.Rounds)
	defer restore()
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Close())

	restore()
	require.ErrorContains(t, refuse(t, conf), "store_key", "fewer rounds make another key")
}

func TestStoreIsForItsOwnerOnly(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	conf.StorePath = filepath.Join(conf.StorePath, "a folder?", "100%")
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))

	for dir := conf.StorePath; filepath.Base(dir) != "keys"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), dir)
	}
	entries, err := os.ReadDir(conf.StorePath)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), entry.Name())
		names = append(names, entry.Name())
	}
	require.Equal(t, []string{"keys.db", "keys.db-shm", "keys.db-wal", "lock", "recovery_key"}, names)
}

func TestStoreNeedsAFolder(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	conf.StorePath, conf.StoreKey = "", ""
	require.ErrorContains(t, refuse(t, conf), "store_path")
}

func TestStoreIsRefusedAndLeftAlone(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))

	t.Run("in use", func(t *testing.T) {
		err := refuse(t, conf)
		require.ErrorContains(t, err, "in use")
		require.ErrorContains(t, err, conf.StorePath)
	})
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	require.NoError(t, memory.Close())

	// unchanged fails the test if the store changes.
	unchanged := func(t *testing.T) {
		before := contents(t, conf.StorePath)
		t.Cleanup(func() { require.Equal(t, before, contents(t, conf.StorePath)) })
	}
	t.Run("wrong store_key", func(t *testing.T) {
		unchanged(t)
		conf := conf
		conf.StoreKey = "another passphrase"
		err := refuse(t, conf)
		require.ErrorContains(t, err, "store_key")
		require.NotContains(t, err.Error(), "passphrase\"")
	})
	t.Run("no store_key", func(t *testing.T) {
		unchanged(t)
		conf := conf
		conf.StoreKey = ""
		require.ErrorContains(t, refuse(t, conf), "store_key")
	})
	t.Run("another account", func(t *testing.T) {
		unchanged(t)
		other := register(t)
		conf := conf
		conf.UserID, conf.Password = other.UserID.String(), other.Password
		require.ErrorContains(t, refuse(t, conf), bot.UserID.String())
	})
	t.Run("another account's token", func(t *testing.T) {
		unchanged(t)
		other := register(t)
		conf := conf
		conf.UserID, conf.Password, conf.AccessToken = "", "", other.AccessToken
		require.ErrorContains(t, refuse(t, conf), bot.UserID.String())
	})
	t.Run("another device", func(t *testing.T) {
		unchanged(t)
		conf := conf
		conf.DeviceID = "ANOTHER"
		require.ErrorContains(t, refuse(t, conf), "ANOTHER")
	})
	t.Run("another device's token", func(t *testing.T) {
		unchanged(t)
		conf := conf
		conf.AccessToken = bot.AccessToken
		require.ErrorContains(t, refuse(t, conf), bot.DeviceID.String())
	})

	path := filepath.Join(conf.StorePath, "keys.db")
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, bad := range map[string][]byte{
		"empty":       {},
		"no base":     []byte("This is a text."),
		"cut":         good[:len(good)/2],
		"overwritten": append(append(bytes.Clone(good[:4096]), bytes.Repeat([]byte{0xa5}, 8*4096)...), good[9*4096:]...),
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, bad, 0o600))
			unchanged(t)
			err := refuse(t, conf)
			require.ErrorContains(t, err, "damaged")
			require.ErrorContains(t, err, path)
		})
	}

	require.NoError(t, os.WriteFile(path, good, 0o600))
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"black"`)
}

// A copy, or a folder that was made by other means, may be open to all. It is not
// left so; but a folder with other people's files is, and the log says so.
func TestStoreThatOthersMayRead(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	conf.StorePath = restored(t, contents(t, conf.StorePath)) // with the write-ahead log
	require.NoError(t, memory.Close())
	widen := func() {
		require.NoError(t, os.Chmod(conf.StorePath, 0o755))
		for path := range contents(t, conf.StorePath) {
			require.NoError(t, os.Chmod(path, 0o644))
		}
	}
	private := func() {
		t.Helper()
		entries, err := os.ReadDir(conf.StorePath)
		require.NoError(t, err)
		for _, entry := range entries {
			info, err := entry.Info()
			require.NoError(t, err)
			if entry.Name() != "another" {
				require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), entry.Name())
			}
		}
	}
	widen()
	memory = open(t, conf)
	private()
	info, err := os.Stat(conf.StorePath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Close())

	require.NoError(t, os.WriteFile(filepath.Join(conf.StorePath, "another"), nil, 0o600))
	widen()
	logger, entries := logtest.NewNullLogger()
	memory = matrix.New(conf, matrix.WithLogger(logger), e2ee.Enable())
	require.NoError(t, memory.Open(t.Context()))
	private()
	require.NoError(t, memory.Close())
	info, err = os.Stat(conf.StorePath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	require.True(t, slices.ContainsFunc(entries.AllEntries(), func(entry *logrus.Entry) bool {
		return entry.Level == logrus.WarnLevel && strings.Contains(entry.Message, "0700")
	}), "nothing warns of the folder")
}

// Links to the store's folder and files may lead to what others may read as well.
func TestStoreBehindLinks(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	killed := contents(t, conf.StorePath) // with the write-ahead log
	require.NoError(t, memory.Close())
	folder, elsewhere := restored(t, killed), t.TempDir()
	conf.StorePath = filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(folder, conf.StorePath))
	for _, name := range []string{"keys.db", "keys.db-wal", "keys.db-shm", "recovery_key"} {
		require.NoError(t, os.Rename(filepath.Join(folder, name), filepath.Join(elsewhere, name)))
		require.NoError(t, os.Chmod(filepath.Join(elsewhere, name), 0o644))
	}
	for _, name := range []string{"keys.db", "recovery_key"} {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, name), filepath.Join(folder, name)))
	}
	require.NoError(t, os.Symlink("nowhere", filepath.Join(folder, "keys.db.new")))
	require.NoError(t, os.Chmod(folder, 0o755))

	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	for path := range contents(t, elsewhere) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
	}
	info, err := os.Stat(folder)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// The store of a process that was killed, its files damaged: nothing of it changes,
// and what the error advises works.
func TestDamagedStoreOfAKilledProcess(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	require.NoError(t, memory.Close())
	good, err := os.ReadFile(filepath.Join(conf.StorePath, "keys.db"))
	require.NoError(t, err)
	conf.RecoveryKey = recoveryKey(t, conf.StorePath)
	memory = open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"black"`)))
	killed := contents(t, conf.StorePath) // as a kill leaves it
	require.NoError(t, memory.Close())
	require.NotEmpty(t, killed[filepath.Join(conf.StorePath, "keys.db-wal")])

	for name, damage := range map[string]func(files map[string][]byte, file func(string) string){
		"empty": func(files map[string][]byte, file func(string) string) { files[file("keys.db")] = nil },
		"cut": func(files map[string][]byte, file func(string) string) {
			files[file("keys.db")] = files[file("keys.db")][:8192]
			files[file("keys.db-wal")] = files[file("keys.db-wal")][:8192]
		},
		"gone": func(files map[string][]byte, file func(string) string) { delete(files, file("keys.db")) },
	} {
		for _, advice := range []string{"good copy", "all away"} {
			t.Run(name+", "+advice, func(t *testing.T) {
				files, from := maps.Clone(killed), conf.StorePath
				damage(files, func(name string) string { return filepath.Join(from, name) })
				conf := conf
				conf.StorePath = restored(t, files)
				before := contents(t, conf.StorePath)
				err := refuse(t, conf)
				for _, name := range []string{"keys.db", "keys.db-wal", "keys.db-shm"} {
					require.ErrorContains(t, err, name)
				}
				require.Equal(t, before, contents(t, conf.StorePath))

				for _, name := range []string{"keys.db", "keys.db-wal", "keys.db-shm"} {
					require.NoError(t, os.RemoveAll(filepath.Join(conf.StorePath, name)))
				}
				if advice == "good copy" {
					require.NoError(t, os.WriteFile(filepath.Join(conf.StorePath, "keys.db"), good, 0o600))
				} // and else, the recovery key's file stays
				for range 2 {
					memory := open(t, conf)
					rig.Has(t, memory, "tea", `"black"`)
					require.NoError(t, memory.Close())
				}
			})
		}
	}
}

// A store that is not closed in good order opens as well, and one that is refused
// for another reason stays as it is.
func TestWrongKeyForTheStoreOfAKilledProcess(t *testing.T) {
	bot := register(t)
	conf := bot.config(t, bot.newRoom(t))
	memory := open(t, conf)
	require.NoError(t, memory.Set("tea", []byte(`"green"`)))
	killed := contents(t, conf.StorePath)
	require.NoError(t, memory.Close())

	conf.StorePath = restored(t, killed)
	before := contents(t, conf.StorePath)
	wrong := conf
	wrong.StoreKey = "another passphrase"
	require.ErrorContains(t, refuse(t, wrong), "store_key")
	wrong = conf
	wrong.DeviceID = "ANOTHER"
	require.ErrorContains(t, refuse(t, wrong), "ANOTHER")
	require.Equal(t, before, contents(t, conf.StorePath))
	memory = open(t, conf)
	rig.Has(t, memory, "tea", `"green"`)
}

// A store that is copied while it is in use, and put back later, opens, and what
// is written after that can be read by all.
func TestStoreIsCopiedWhileInUse(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("a", []byte(`1`)))
	before := contents(t, conf.StorePath)
	require.NoError(t, memory.Set("b", []byte(`2`)))
	require.NoError(t, memory.Set("c", []byte(`3`)))
	for key := range bot.pointers(t, room) {
		other.decrypt(t, room, bot.pointers(t, room)[key])
	}
	require.NoError(t, memory.Close())

	conf.StorePath = restored(t, before)
	memory = open(t, conf)
	for _, key := range []string{"a", "b", "c"} {
		rig.Has(t, memory, key, map[string]string{"a": "1", "b": "2", "c": "3"}[key])
	}
	require.NoError(t, memory.Set("d", []byte(`4`)))
	require.NoError(t, memory.Close())
	memory = open(t, conf)
	rig.Has(t, memory, "d", `4`)
	evt := other.decrypt(t, room, bot.pointers(t, room)["d"])
	require.JSONEq(t, `{"d":4}`, string(evt.Content.VeryRaw))
}

// An older copy of the store is put back, after which more keys were shared. It
// encrypts nothing from a place that the store has used since, so that members get
// the new key.
func TestOlderCopySharesKeysThatMembersTake(t *testing.T) {
	bot, other := register(t), newPeer(t, register(t))
	room := bot.newRoom(t, other.account)
	conf := bot.config(t, room)
	memory := open(t, conf)
	require.NoError(t, memory.Set("a", []byte(`1`)))
	before := contents(t, conf.StorePath)
	other.decrypt(t, room, bot.pointers(t, room)["a"])
	require.NoError(t, memory.Close())
	for n := range 2 { // each start shares a key
		memory = open(t, conf)
		require.NoError(t, memory.Set("b", fmt.Appendf(nil, "%d", n)))
		other.decrypt(t, room, bot.pointers(t, room)["b"])
		require.NoError(t, memory.Close())
	}
	conf.StorePath = restored(t, before)
	memory = open(t, conf)
	require.NoError(t, memory.Set("c", []byte(`4`)))
	other.decrypt(t, room, bot.pointers(t, room)["c"])
	rig.Has(t, memory, "b", `1`)
}

// restored puts the files of a store into a new folder.
func restored(t testing.TB, files map[string][]byte) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for path, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), content, 0o600))
	}
	return dir
}
