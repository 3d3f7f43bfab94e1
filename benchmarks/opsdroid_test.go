package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-joe/joe"

	"github.com/go-joe/matrix-memory/internal/opsdroid"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// An opsdroidMemory asks opsdroid itself for what its Matrix database does. The question and
// the answer go through pipes, which takes part of a millisecond.
type opsdroidMemory struct{ bot *opsdroid.Bot }

// openOpsdroid starts an opsdroid whose room holds the keys already.
func openOpsdroid(b *testing.B) joe.Memory {
	account := rig.Register(b)
	room := account.NewRoom(b)
	check(b, newPutter(b, account, room).put("", dictionary(keys-1)))
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute) // the first start installs it
	defer cancel()
	bot, err := opsdroid.Start(ctx, opsdroid.Options{Dir: b.TempDir(), Progress: os.Stderr, Configuration: fmt.Sprintf(`
connectors:
  matrix:
    homeserver: %q
    mxid: %q
    password: %q
    rooms:
      main: %q
    enable_encryption: false
databases:
  matrix:
    single_state_key: true
`, account.HomeserverURL, account.UserID, account.Password, room)})
	check(b, err)
	b.Cleanup(bot.End)
	return opsdroidMemory{bot}
}

func (m opsdroidMemory) Set(key string, value []byte) error {
	return m.bot.Put(context.Background(), key, string(value))
}

func (m opsdroidMemory) Get(key string) ([]byte, bool, error) {
	value, err := m.bot.Get(context.Background(), key)
	return []byte(value), err == nil && value != "null", err
}

func (m opsdroidMemory) Delete(key string) (bool, error) {
	value, err := m.bot.Delete(context.Background(), key)
	return err == nil && value != "null", err
}

// Keys fails: opsdroid's databases have no list of keys.
func (m opsdroidMemory) Keys() ([]string, error) { return nil, errors.ErrUnsupported }

func (m opsdroidMemory) Close() error { return nil }
