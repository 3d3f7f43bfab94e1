//go:build goolm

package e2ee

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/sirupsen/logrus"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
)

// The files in the store's folder, beside those that SQLite makes.
const (
	keysFile     = "keys.db"
	lockFile     = "lock"
	recoveryFile = "recovery_key"
)

// A keyStore is the folder where the keys of one device are kept.
type keyStore struct {
	dir       string
	lock      *flock.Flock
	db        *dbutil.Database // nil until something is written
	pickleKey []byte           // locks every key in the database

	user   id.UserID // whose keys they are; "" until the first login
	device id.DeviceID
}

// openStore opens the store in a folder, or makes one. It has only looked at the
// store so far, and changed nothing but permissions: belongTo is the first to write.
func openStore(dir, passphrase string, log logrus.FieldLogger) (_ *keyStore, err error) {
	if dir == "" {
		return nil, errors.New("encryption needs a folder for its keys that outlives the process: set store_path")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the key store's folder: %w", err)
	}
	s := &keyStore{dir: dir, lock: flock.New(filepath.Join(dir, lockFile))}
	switch ok, err := s.lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("the key store's folder: %w", err)
	case !ok:
		return nil, fmt.Errorf("the key store %s is in use by another bot or process: a store belongs to one at a time, so give each a store_path of its own", dir)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.tighten(log); err != nil {
		return nil, err
	}

	info, err := os.Stat(s.path(keysFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		for _, rest := range []string{keysFile + "-wal", keysFile + "-shm"} {
			if _, err := os.Stat(s.path(rest)); err == nil {
				return nil, fmt.Errorf("the key store %s has %s, and %s is missing: put that back, or move keys.db-wal and keys.db-shm away as well, "+
					"and set recovery_key to restore the keys from the homeserver's backup", dir, rest, keysFile)
			}
		}
		if err := s.create(passphrase); err != nil {
			return nil, fmt.Errorf("making the key store %s: %w", dir, err)
		}
	case err != nil:
		return nil, fmt.Errorf("the key store: %w", err)
	case info.Size() == 0:
		return nil, s.unchanged(s.damaged(errors.New("it is empty")))
	}
	if err := s.inspect(passphrase); err != nil {
		return nil, s.unchanged(err)
	}
	return s, nil
}

// keys is the path of the database. It may be behind a link, and what SQLite makes is then beside
// the file that the link leads to.
func (s *keyStore) keys() string {
	if path, err := filepath.EvalSymlinks(s.path(keysFile)); err == nil {
		return path
	}
	return s.path(keysFile)
}

func (s *keyStore) path(name string) string { return filepath.Join(s.dir, name) }

func (s *keyStore) damaged(err error) error {
	return fmt.Errorf("the key store %s is damaged: %w: put a good copy in the place of keys.db, keys.db-wal and keys.db-shm, "+
		"or move all three away and set recovery_key to restore the keys from the homeserver's backup", s.path(keysFile), err)
}

func (s *keyStore) unchanged(err error) error {
	return fmt.Errorf("%w; nothing in it was changed", err)
}

// belongTo makes the store the one of a device, or says that it is another's.
func (s *keyStore) belongTo(ctx context.Context, user id.UserID, device id.DeviceID) (err error) {
	if err := s.mayBelongTo(user, device); err != nil {
		return err
	}
	if s.db == nil {
		if s.db, err = openDatabase(s.path(keysFile), "_pragma=journal_mode(WAL)"); err != nil {
			return fmt.Errorf("opening the key store %s: %w", s.dir, err)
		}
	}
	if s.user == user && s.device == device {
		return nil
	}
	s.user, s.device = user, device
	if _, err = s.db.Exec(ctx, `UPDATE matrix_memory SET user_id = $1, device_id = $2`, user, device); err != nil {
		return s.unwritable(err)
	}
	return nil
}

// mayBelongTo says if the store is known to be another device's. An empty argument
// stands for any.
func (s *keyStore) mayBelongTo(user id.UserID, device id.DeviceID) error {
	if s.user != "" && user != "" && s.user != user {
		return fmt.Errorf("the key store %s has the keys of the account %s, and the bot is %s: give each account a store_path of its own", s.dir, s.user, user)
	}
	if s.device != "" && device != "" && s.device != device {
		return fmt.Errorf("the key store %s has the keys of the device %s, and the bot logs in as the device %s: use an access token or device_id of that device, or another store_path", s.dir, s.device, device)
	}
	return nil
}

func (s *keyStore) close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, s.lock.Close())
}
