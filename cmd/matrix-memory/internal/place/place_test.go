package place

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/alicebob/miniredis/v2"
	file "github.com/go-joe/file-memory"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// values are what any place can keep.
var values = map[string][]byte{
	"tea": []byte(`"green"`), "a/b/c": []byte(`{"n":1}`), "a/b": []byte("2"), "/root": []byte("3"), "_joe/x": []byte("4"),
	"joe.permissions.bob": []byte(`["admin"]`), "bytes": {0, 0xff}, "empty": {}, "space key ü": []byte("null"),
}

// TestRoundTrip writes to each place, also a second time, and reads what it wrote.
func TestRoundTrip(t *testing.T) {
	server := miniredis.RunT(t)
	there, err := NewRedis("redis://" + server.Addr())
	require.NoError(t, err)
	named, err := NewRedis("redis:" + server.Addr() + "/3?key=another")
	require.NoError(t, err)
	folder := t.TempDir()
	for name, p := range map[string]Place{
		"bolt": Bolt{filepath.Join(folder, "bolt")}, "file": File{filepath.Join(folder, "file")}, "redis": there, "another hash": named,
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			_, err := p.Read(ctx)
			require.ErrorIs(t, err, ErrMissing)
			_, err = os.Stat(filepath.Join(folder, name))
			require.ErrorIs(t, err, os.ErrNotExist, "to read makes nothing")
			d, err := Compare(ctx, values, p)
			require.NoError(t, err)
			require.Len(t, d.New, len(values))

			write(t, p, map[string][]byte{"tea": []byte("1"), "stays": []byte("2")}, nil)
			d, err = Compare(ctx, values, p)
			require.NoError(t, err)
			require.Equal(t, []string{"tea"}, d.Changed)
			write(t, p, values, nil)
			contents, err := p.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, []byte("2"), contents.Values["stays"])
			delete(contents.Values, "stays")
			require.Equal(t, values, contents.Values)
			d, err = Compare(ctx, values, p)
			require.NoError(t, err)
			require.Equal(t, Difference{Same: len(values)}, d)
		})
	}
	require.True(t, server.Exists("joe-bot"))
	require.True(t, server.DB(3).Exists("another"))
}

// write writes to a place, and looks at what it says of each key.
func write(t *testing.T, p Place, values map[string][]byte, refused map[string]string) {
	t.Helper()
	told := make(map[string]bool)
	require.NoError(t, p.Write(context.Background(), values, func(key string, err error) {
		require.False(t, told[key])
		told[key] = true
		if says, ok := refused[key]; ok {
			require.ErrorContains(t, err, says)
		} else {
			require.NoError(t, err)
		}
	}))
	require.Len(t, told, len(values))
}

// TestBoltAsJoeWritesIt makes the calls of github.com/robertgzr/joe-bolt-memory.
func TestBoltAsJoeWritesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt")
	db, err := bbolt.Open(path, 0o666, nil)
	require.NoError(t, err)
	set := func(bucket, key, value string) {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte(value))
		}))
	}
	set("_joe", "foo", "1")       // Set("foo")
	set("users/", "bob", "2")     // Set("users/bob")
	set("users/x/", "bob", "3")   // Set("users/x/bob")
	set("users//", "double", "4") // Set("users//double")

	_, err = Bolt{path}.Read(t.Context())
	require.ErrorContains(t, err, "another process has it")
	require.NoError(t, db.Close())
	contents, err := Bolt{path}.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"foo": []byte("1"), "users/bob": []byte("2"), "users/x/bob": []byte("3"), "users//double": []byte("4")}, contents.Values)

	write(t, Bolt{path}, map[string][]byte{"": []byte("1"), "a/": []byte("1"), "foo": []byte("5")}, map[string]string{"": "can't keep a key", "a/": "can't keep a key"})
	contents, err = Bolt{path}.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, contents.Values, 4)
	require.Equal(t, []byte("5"), contents.Values["foo"])
}

func TestNotABoltMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt")
	db, err := bbolt.Open(path, 0o666, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("other")); return err }))
	require.NoError(t, db.Close())
	_, err = Bolt{path}.Read(t.Context())
	require.ErrorContains(t, err, `a bucket "other"`)

	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, broken := range [][]byte{nil, []byte("text"), whole[:len(whole)/3]} {
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		_, err = Bolt{path}.Read(t.Context())
		require.ErrorContains(t, err, path)
	}
}

// TestFileAsJoeWritesIt lets joe's file memory write, and read what was written here.
func TestFileAsJoeWritesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "joe.json")
	memory, err := file.NewMemory(path)
	require.NoError(t, err)
	for key, value := range values {
		require.NoError(t, memory.Set(key, value))
	}
	contents, err := File{path}.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, values, contents.Values)

	require.NoError(t, os.Chmod(path, 0o640))
	write(t, File{path}, map[string][]byte{"tea": []byte("1"), "\xff": []byte("2")}, map[string]string{"\xff": "not UTF-8"})
	memory, err = file.NewMemory(path)
	require.NoError(t, err)
	keys, err := memory.Keys()
	require.NoError(t, err)
	require.Len(t, keys, len(values))
	value, ok, err := memory.Get("tea")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "1", string(value))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm(), "it stays as it was")
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestNotAFileMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "joe.json")
	for text, says := range map[string]string{`{"tea": "c2Vjc`: "cut off", `{"tea": "secret?"}`: "values in Base64", `["secret"]`: "values in Base64"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := File{path}.Read(t.Context())
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "secret")
		require.Error(t, File{path}.Write(t.Context(), values, nil), "it is not written over")
	}
}

// TestRedisWithTLS: who asks for TLS gets it, in whichever form, and no password goes out without.
func TestRedisWithTLS(t *testing.T) {
	for text, tls := range map[string]bool{
		"redis:host:1": false, "redis://host:1": false, "redis:redis://host:1": false,
		"rediss:host:1": true, "rediss://host:1": true, "rediss::s3cret@host:1": true, "redis:rediss://host:1": true, "rediss:rediss://host:1": true,
	} {
		place, err := NewRedis(text)
		require.NoError(t, err, text)
		require.Equal(t, tls, place.options.TLSConfig != nil, text)
		require.Equal(t, "host:1", place.options.Addr, text)
	}
	_, err := NewRedis("rediss:redis://:s3cret@host:1")
	require.ErrorContains(t, err, "asks for TLS")
	require.NotContains(t, err.Error(), "s3cret")
}

// TestRedisAsJoeWritesIt makes the calls of github.com/go-joe/redis-memory.
func TestRedisAsJoeWritesIt(t *testing.T) {
	server := miniredis.RunT(t)
	server.RequireAuth("s3cret")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "s3cret"})
	defer client.Close()
	require.NoError(t, client.HSet(t.Context(), "joe-bot", "foo", []byte("1")).Err())
	place, err := NewRedis("redis://:s3cret@" + server.Addr() + "/0")
	require.NoError(t, err)
	contents, err := place.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"foo": []byte("1")}, contents.Values)

	for _, wrong := range []string{"redis://:s3cret%@host", "redis://:s3cret@host/x", "redis://:s3cret@host?nothing=1", "http://:s3cret@host"} {
		_, err := NewRedis(wrong)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
	}
	place, err = NewRedis("redis://:wrongs3cret@" + server.Addr())
	require.NoError(t, err)
	_, err = place.Read(t.Context())
	require.ErrorContains(t, err, server.Addr())
	require.NotContains(t, err.Error(), "s3cret")
	require.NoError(t, client.Set(t.Context(), "text", "1", 0).Err())
	place, err = NewRedis("redis://:s3cret@" + server.Addr() + "?key=text")
	require.NoError(t, err)
	_, err = place.Read(t.Context())
	require.ErrorContains(t, err, `the hash "text"`)
}
