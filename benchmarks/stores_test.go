package benchmarks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-joe/file-memory"
	"github.com/go-joe/joe"
	"github.com/redis/go-redis/v9"
	bolt "go.etcd.io/bbolt"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/rig"
)

const keys = 100 // in every store

func key(i int) string { return fmt.Sprintf("key %d", i%keys) }

// value is JSON of 100 bytes. It differs from one n to the next.
func value(n int) []byte { return fmt.Appendf(nil, `"%098d"`, n) }

// stores are what the memory is compared with, and the memory itself.
var stores = []struct {
	name string
	open func(*testing.B) joe.Memory
}{
	{"Matrix", openMatrix},
	{"Matrix, journal", openJournalled},
	{"file", openFile},
	{"Bolt", openBolt},
	{"Redis", openRedis},
	{"opsdroid", openOpsdroid},
}

// each runs a benchmark on all stores. Each store holds the same keys.
func each(b *testing.B, bench func(*testing.B, joe.Memory)) {
	for _, store := range stores {
		b.Run(store.name, func(b *testing.B) {
			memory := store.open(b)
			fill(b, memory)
			bench(b, memory)
		})
	}
}

func fill(b *testing.B, memory joe.Memory) {
	b.Helper()
	for i := range keys {
		check(b, memory.Set(key(i), value(i)))
	}
}

func openMatrix(b *testing.B) joe.Memory {
	memory, _, _ := openFilled(b, rig.Shared(b).URL())
	return memory
}

// openFilled opens a memory that holds the keys already, so that fill has nothing
// to do, and returns its account and room.
func openFilled(b *testing.B, url string) (*matrix.Memory, rig.Account, id.RoomID) {
	bot := rig.Register(b)
	room := bot.NewRoom(b)
	check(b, newPutter(b, bot, room).put("", dictionary(keys-1)))
	return open(b, bot, room, url), bot, room
}

func openFile(b *testing.B) joe.Memory {
	memory, err := file.NewMemory(filepath.Join(b.TempDir(), "memory.json"))
	check(b, err)
	b.Cleanup(func() { check(b, memory.Close()) })
	return memory
}

// A boltMemory makes the calls that joe's Bolt memory makes.
type boltMemory struct{ db *bolt.DB }

var bucketName = []byte("joe")

func openBolt(b *testing.B) joe.Memory {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "memory.db"), 0o600, nil)
	check(b, err)
	b.Cleanup(func() { check(b, db.Close()) })
	check(b, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketName)
		return err
	}))
	return boltMemory{db}
}

func (m boltMemory) Set(key string, value []byte) error {
	return m.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).Put([]byte(key), value)
	})
}

func (m boltMemory) Get(key string) (value []byte, ok bool, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucketName).Get([]byte(key))) // it is not valid after the transaction
		return nil
	})
	return value, value != nil, err
}

func (m boltMemory) Delete(key string) (ok bool, err error) {
	err = m.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		ok = bucket.Get([]byte(key)) != nil
		return bucket.Delete([]byte(key))
	})
	return ok, err
}

func (m boltMemory) Keys() (keys []string, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName).ForEach(func(key, _ []byte) error {
			keys = append(keys, string(key))
			return nil
		})
	})
	return keys, err
}

func (m boltMemory) Close() error { return m.db.Close() }

// A redisMemory makes the calls that joe's Redis memory makes: one hash.
type redisMemory struct{ client *redis.Client }

const hashKey = "joe-bot"

func openRedis(b *testing.B) joe.Memory {
	client := redis.NewClient(&redis.Options{Addr: startRedis(b)})
	b.Cleanup(func() { check(b, client.Close()) })
	return redisMemory{client}
}

func (m redisMemory) Set(key string, value []byte) error {
	return m.client.HSet(context.Background(), hashKey, key, value).Err()
}

func (m redisMemory) Get(key string) ([]byte, bool, error) {
	value, err := m.client.HGet(context.Background(), hashKey, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return value, err == nil, err
}

func (m redisMemory) Delete(key string) (bool, error) {
	n, err := m.client.HDel(context.Background(), hashKey, key).Result()
	return n > 0, err
}

func (m redisMemory) Keys() ([]string, error) {
	return m.client.HKeys(context.Background(), hashKey).Result()
}

func (m redisMemory) Close() error { return m.client.Close() }

// startRedis starts a Redis server on a free loopback port, in a folder of its
// own, stops it when the benchmark ends, and returns its address.
func startRedis(b *testing.B) string {
	b.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.Fatal("no redis-server in the PATH; on Debian: apt-get install redis-server")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	address := listener.Addr().String()
	check(b, listener.Close())
	_, port, err := net.SplitHostPort(address)
	check(b, err)

	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, program, "--bind", "127.0.0.1", "--port", port, "--dir", b.TempDir(), "--save", "", "--appendonly", "no")
	var output bytes.Buffer
	server.Stdout, server.Stderr = &output, &output
	check(b, server.Start())
	b.Cleanup(func() {
		stop()
		_ = server.Wait() // killed
	})

	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	ready, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	for client.Ping(ready).Err() != nil {
		if ready.Err() != nil {
			stop()
			_ = server.Wait() // what it wrote is there after that
			b.Fatalf("redis-server does not answer at %s; it says:\n%s", address, output.String())
		}
	}
	return address
}
