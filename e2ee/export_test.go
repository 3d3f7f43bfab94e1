//go:build goolm

package e2ee

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"time"

	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/bridge"
)

// Rounds is what stores are made with outside the tests, for which it would take too long.
var Rounds = rounds

// DecodeRecoveryKey is for tests of spellings.
var DecodeRecoveryKey = decodeRecoveryKey

func init() { rounds = 1000 }

// WithRounds has stores made with so many rounds until the function that it returns is called.
func WithRounds(n int) (restore func()) {
	before := rounds
	rounds = n
	return func() { rounds = before }
}

// KeepFallback has fallback keys kept so long until the function that it returns is called.
func KeepFallback(d time.Duration) (restore func()) {
	before := keepFallback
	keepFallback = d
	return func() { keepFallback = before }
}

// ForbidChmod has the permissions of a folder's files unchangeable until the function that it
// returns is called.
func ForbidChmod(folder string) (restore func()) {
	before := chmod
	chmod = func(path string, mode os.FileMode) error {
		if filepath.Dir(path) == folder {
			return &os.PathError{Op: "chmod", Path: path, Err: os.ErrPermission}
		}
		return before(path, mode)
	}
	return func() { chmod = before }
}

// SetPragma sets a PRAGMA of each connection to the store's database.
func SetPragma(client *mautrix.Client, pragma string) error {
	db := client.Crypto.(helper).store.db.RawDB
	var connections []*sql.Conn
	defer func() {
		for _, connection := range connections {
			connection.Close()
		}
	}()
	for range db.Stats().MaxOpenConnections {
		connection, err := db.Conn(context.Background())
		if err != nil {
			return err
		}
		connections = append(connections, connection)
		if _, err := connection.ExecContext(context.Background(), "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	return nil
}

// New returns an encryption without a memory.
func New() bridge.Crypto { return &crypt{} }
