package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	matrix "github.com/go-joe/matrix-memory"
)

// A device says as which device of the bot's account the tool uses a memory. The keys of a
// device that encrypts are in one store, and whatever syncs as that device takes away what
// others have sent it, keys among that. So the tool is a bot's device only together with the
// store, which a bot that runs has locked; or else a device of its own. With a token alone it
// can make none, and the settings know no store that somebody might use with that device.
type device int

const (
	tokenDevice  device = iota // the token's, which has no keys
	ownDevice                  // one of the tool's own, without keys
	ownEncrypted               // one of the tool's own, with keys for the time that it runs
	botsDevice                 // the bot's, with its store
)

// own says whether the device is made for the tool, and removed again.
func (d device) own() bool { return d == ownDevice || d == ownEncrypted }

// chooseDevice says which device suits a bot's settings.
func chooseDevice(conf matrix.Config) (device, error) {
	mayMake := conf.Password != "" && conf.UserID != ""
	switch {
	case conf.StorePath == "" && conf.RecoveryKey == "" && !mayMake:
		return tokenDevice, nil
	case conf.StorePath == "" && conf.RecoveryKey == "":
		return ownDevice, nil
	case encryption == nil && mayMake:
		return ownDevice, nil
	case encryption == nil:
		return 0, notHere{errors.New("the settings have a store_path, and this matrix-memory was built without encryption: install it with -tags goolm")}
	case conf.RecoveryKey != "" && mayMake:
		return ownEncrypted, nil
	case conf.StorePath == "":
		return 0, errors.New("the settings have a recovery_key, and neither a store_path nor a password beside it: give one of them")
	}
	if _, err := os.Stat(filepath.Join(conf.StorePath, "keys.db")); err != nil {
		return 0, notHere{fmt.Errorf("the bot's keys are not in store_path: %w; run the tool where the bot has run, or %s", err, adviceOwn)}
	}
	return botsDevice, nil
}

// A notHere says why the tool can't use a memory here and now, where the bot may well.
type notHere struct{ error }

func (n notHere) Unwrap() error { return n.error }

// adviceOwn lets the tool be a device of its own.
const adviceOwn = "put mxid, password and recovery_key into the settings, so that the tool makes a device of its own"

// temporaryKeys gives settings a key store that lasts as long as the tool runs, and returns
// how to remove it.
func temporaryKeys(conf *matrix.Config) (remove func(), err error) {
	folder, err := os.MkdirTemp("", "matrix-memory-")
	if err != nil {
		return nil, fmt.Errorf("a folder for the keys of the tool's device: %w", err)
	}
	conf.StorePath, conf.StoreKey = folder, rand.Text()
	return func() { os.RemoveAll(folder) }, nil
}

// inUse adds to an error what to do if the bot's key store is locked.
func inUse(conf matrix.Config, err error) error {
	lock := flock.New(filepath.Join(conf.StorePath, "lock"))
	defer lock.Close()
	if free, lockErr := lock.TryRLock(); free || lockErr != nil {
		return err
	}
	return notHere{fmt.Errorf("the bot runs, and its device can't be used by two programs: stop it, or %s: %w", adviceOwn, err)}
}
