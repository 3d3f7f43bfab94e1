//go:build goolm

package e2ee

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/sirupsen/logrus"
)

// ownFiles are the names that this package and SQLite use in the store's folder.
var ownFiles = []string{
	keysFile, keysFile + "-wal", keysFile + "-shm", keysFile + ".new", keysFile + ".new-journal",
	lockFile, recoveryFile, recoveryFile + ".new", checkFolder,
}

// tighten takes from other users of the machine what they may do with the store: a
// copy or a folder that was made by other means often lets them read it. A folder
// that holds something else as well is left as it is, with a warning.
func (s *keyStore) tighten(log logrus.FieldLogger) error {
	if runtime.GOOS == "windows" { // which has no such permissions
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("the key store's folder: %w", err)
	}
	other := ""
	for _, entry := range entries {
		if !slices.Contains(ownFiles, entry.Name()) {
			other = entry.Name()
			continue
		}
		// The name may be a link; SQLite's other files are then beside the file that it leads to.
		path, err := filepath.EvalSymlinks(s.path(entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("the key store: %w", err)
		}
		files := []string{path}
		if entry.Name() == keysFile {
			files = append(files, path+"-wal", path+"-shm")
		}
		for _, file := range files {
			err := makePrivate(file)
			if err != nil && entry.Type()&fs.ModeSymlink != 0 && entry.Name() != keysFile {
				log.WithError(err).Warn("Other users may look into a file that the key store has a link to") // it may be meant so
			} else if err != nil {
				return err
			}
		}
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return fmt.Errorf("the key store's folder: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	log = log.WithField("folder", s.dir)
	if other != "" {
		log.WithField("file", other).Warn("Other users may look into the key store's folder. It holds other files as well, so its permissions are left as they are: " +
			"give the bot a folder of its own, with the permissions 0700")
		return nil
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		log.WithError(err).Warn("Other users may look into the key store's folder, and that can't be changed: give it the permissions 0700")
	}
	return nil
}

var chmod = os.Chmod // which tests have fail: root may change all

// makePrivate takes from other users what they may do with a file, if there is one.
func makePrivate(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the key store: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0:
		return nil
	}
	if err := chmod(path, 0o600); err != nil {
		return fmt.Errorf("other users may read or write %s, and that can't be changed; make the file the bot's own: %w", path, err)
	}
	return nil
}
