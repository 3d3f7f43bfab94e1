//go:build goolm

package e2ee

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"go.mau.fi/util/dbutil"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// checkFolder is where a database is looked at that was not closed in good order.
const checkFolder = "check"

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
		return nil, err
	}
	db.Log = watchedLog{dbutil.NoopLogger}
	return db, nil
}

// create makes the database under another name first: one that bears its final
// name is complete, so that an incomplete one is known to be damaged.
func (s *keyStore) create(passphrase string) error {
	path := s.path(keysFile + ".new")
	for _, old := range []string{path, path + "-journal"} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
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

// inspect reads the whole database to see if it is sound, finds out whether the
// passphrase is the right one, and whose keys the store has. It changes nothing.
func (s *keyStore) inspect(passphrase string) (err error) {
	// What was not closed in good order SQLite repairs when it is read. So a copy
	// is read then.
	path, options := s.keys(), "mode=ro&immutable=1"
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		if path, err = s.copyToCheck(); err != nil {
			return fmt.Errorf("checking the key store %s: copying it: %w", s.dir, err)
		}
		options = "mode=rw"
		defer func() { err = errors.Join(err, os.RemoveAll(s.path(checkFolder))) }()
	}
	db, err := openDatabase(path, options)
	if err != nil {
		return s.damaged(err)
	}
	defer db.Close()
	var verdict string
	if err := db.RawDB.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return s.damaged(err)
	}
	if verdict != "ok" {
		return s.damaged(errors.New(verdict))
	}
	var salt, verifier []byte
	err = db.RawDB.QueryRow(`SELECT salt, verifier, user_id, device_id FROM matrix_memory`).Scan(&salt, &verifier, &s.user, &s.device)
	if err != nil {
		return s.damaged(err)
	}
	key, check, err := deriveKeys(passphrase, salt)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(check, verifier) != 1 {
		return fmt.Errorf("the key store %s can't be opened: store_key is not the passphrase that it is locked with", s.dir)
	}
	s.pickleKey = key
	return nil
}

// copyToCheck copies the database, and what of it stands in the write-ahead log,
// into a folder beside it.
func (s *keyStore) copyToCheck() (path string, err error) {
	dir := s.path(checkFolder)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	for _, rest := range []string{"", "-wal"} {
		if err := copyFile(filepath.Join(dir, keysFile+rest), s.keys()+rest); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, keysFile), nil
}

func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// rounds is how costly it is to try a passphrase: OWASP's number for PBKDF2 with SHA-512. Every
// store was made with it.
var rounds = 210_000

// deriveKeys makes the key that locks the store of a passphrase, and one that
// only tells whether the passphrase is the right one.
func deriveKeys(passphrase string, salt []byte) (key, verifier []byte, err error) {
	both, err := pbkdf2.Key(sha512.New, passphrase, salt, rounds, sha512.Size)
	if err != nil {
		return nil, nil, err
	}
	return both[:32], both[32:], nil
}
