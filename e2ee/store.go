//go:build goolm

package e2ee

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/id"
	_ "modernc.org/sqlite" // the driver "sqlite"
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
	db        *dbutil.Database
	pickleKey []byte // locks every key in the database

	user   id.UserID // whose keys they are; "" until the first login
	device id.DeviceID
}

// openStore opens the store in a folder, or makes one. A store that it can't
// open for any reason it leaves as it is.
func openStore(dir, passphrase string) (_ *keyStore, err error) {
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

	info, err := os.Stat(s.path(keysFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := s.create(passphrase); err != nil {
			return nil, fmt.Errorf("making the key store %s: %w", dir, err)
		}
	case err != nil:
		return nil, fmt.Errorf("the key store: %w", err)
	case info.Size() == 0:
		return nil, s.damaged(errors.New("it is empty"))
	}
	if s.db, err = openDatabase(s.path(keysFile), "_pragma=journal_mode(WAL)"); err != nil {
		return nil, s.damaged(err)
	}
	if err := s.check(); err != nil {
		return nil, s.damaged(err)
	}
	return s, s.unlock(passphrase)
}

func (s *keyStore) path(name string) string { return filepath.Join(s.dir, name) }

func (s *keyStore) damaged(err error) error {
	return fmt.Errorf("the key store %s is damaged: %w; nothing in it was changed: put a good copy in its place, or move it away and set recovery_key to restore the keys from the homeserver's backup",
		s.path(keysFile), err)
}

// openDatabase opens a database and makes one connection, which shows whether
// the file is one.
func openDatabase(path string, options string) (*dbutil.Database, error) {
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path),
		RawQuery: "_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=foreign_keys(ON)&_pragma=synchronous(FULL)&" + options}
	raw, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, err
	}
	raw.SetMaxOpenConns(4)
	raw.SetMaxIdleConns(4)
	if err := raw.Ping(); err != nil {
		raw.Close()
		return nil, err
	}
	db, err := dbutil.NewWithDB(raw, "sqlite")
	if err != nil {
		raw.Close()
	}
	return db, err
}

// create makes the database under another name first: one that bears its final
// name is complete, so that an incomplete one is known to be damaged.
func (s *keyStore) create(passphrase string) error {
	path := s.path(keysFile + ".new")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// SQLite gives its own files the permissions of this one.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	file.Close()
	db, err := openDatabase(path, "_pragma=journal_mode(DELETE)")
	if err != nil {
		return err
	}
	salt := make([]byte, 32)
	rand.Read(salt)
	_, verifier, err := deriveKeys(passphrase, salt)
	if err == nil {
		_, err = db.RawDB.Exec(`CREATE TABLE matrix_memory (salt BLOB NOT NULL, verifier BLOB NOT NULL, user_id TEXT NOT NULL, device_id TEXT NOT NULL)`)
	}
	if err == nil {
		_, err = db.RawDB.Exec(`INSERT INTO matrix_memory VALUES (?, ?, '', '')`, salt, verifier)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return os.Rename(path, s.path(keysFile))
}

// check reads the whole database to see if it is sound.
func (s *keyStore) check() error {
	var verdict string
	if err := s.db.RawDB.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	return nil
}

// unlock finds out whether the passphrase is the right one, and whose keys the
// store has.
func (s *keyStore) unlock(passphrase string) error {
	var salt, verifier []byte
	err := s.db.RawDB.QueryRow(`SELECT salt, verifier, user_id, device_id FROM matrix_memory`).Scan(&salt, &verifier, &s.user, &s.device)
	if err != nil {
		return s.damaged(err)
	}
	key, check, err := deriveKeys(passphrase, salt)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(check, verifier) != 1 {
		return fmt.Errorf("the key store %s can't be opened: store_key is not the passphrase that it is locked with; nothing in it was changed", s.dir)
	}
	s.pickleKey = key
	return nil
}

// deriveKeys makes the key that locks the store of a passphrase, and one that
// only tells whether the passphrase is the right one.
func deriveKeys(passphrase string, salt []byte) (key, verifier []byte, err error) {
	const rounds = 210_000 // OWASP's number for PBKDF2 with SHA-512
	both, err := pbkdf2.Key(sha512.New, passphrase, salt, rounds, sha512.Size)
	if err != nil {
		return nil, nil, err
	}
	return both[:32], both[32:], nil
}

// belongTo makes the store the one of a device, or says that it is another's.
func (s *keyStore) belongTo(ctx context.Context, user id.UserID, device id.DeviceID) error {
	if err := s.mayBelongTo(user, device); err != nil {
		return err
	}
	if s.user == user && s.device == device {
		return nil
	}
	s.user, s.device = user, device
	_, err := s.db.Exec(ctx, `UPDATE matrix_memory SET user_id = $1, device_id = $2`, user, device)
	return err
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
