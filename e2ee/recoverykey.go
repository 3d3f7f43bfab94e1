//go:build goolm

package e2ee

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unicode"

	"maunium.net/go/mautrix/crypto/ssss"
	"maunium.net/go/mautrix/crypto/utils"
)

// maxIterations bounds what a passphrase may cost, about ten seconds of computing. The
// homeserver says how many there are; Element's are 500,000.
const maxIterations = 5_000_000

// recoveryKey returns the recovery key and where it is from: the settings, or the
// file of an earlier start. It is empty if there is none.
func (c *crypt) recoveryKey() (text, source string, err error) {
	if c.conf.RecoveryKey != "" {
		return c.conf.RecoveryKey, "recovery_key", nil
	}
	path := c.store.path(recoveryFile)
	written, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("the account's recovery key: %w", err)
	}
	return strings.TrimSpace(string(written)), path, nil
}

// decodeRecoveryKey returns the key that a recovery key spells:
// https://spec.matrix.org/v1.16/client-server-api/#recovery-key
//
// People copy it with other spaces, dashes or quotes than it had. So what is neither letter
// nor digit does not count.
func decodeRecoveryKey(text string) ([]byte, error) {
	bare := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, text)
	if key := utils.DecodeBase58RecoveryKey(bare); key != nil {
		return key, nil
	}
	const shape = "a recovery key is 48 letters and digits that begin with Es"
	switch {
	case len(bare) < 40 || len(bare) > 56 || !strings.EqualFold(bare[:2], "Es"):
		return nil, fmt.Errorf("%w: %s", ssss.ErrInvalidRecoveryKey, shape)
	case bare == strings.ToLower(bare) || bare == strings.ToUpper(bare):
		return nil, fmt.Errorf("%w: all its letters are of one case, and there are both in it, which can't be guessed: copy it anew as it was shown", ssss.ErrInvalidRecoveryKey)
	}
	return nil, fmt.Errorf("%w: some character of it is wrong, missing or one too many (%s, and there are %d): copy it anew as it was shown", ssss.ErrInvalidRecoveryKey, shape, len(bare))
}

// passphraseKey returns the key that follows from a passphrase:
// https://spec.matrix.org/v1.16/client-server-api/#deriving-keys-from-passphrases
func passphraseKey(how *ssss.PassphraseMetadata, passphrase string) ([]byte, error) {
	switch {
	case how.Iterations < 1 || how.Iterations > maxIterations:
		return nil, fmt.Errorf("its passphrase takes %d iterations, and the bot makes at most %d", how.Iterations, maxIterations)
	case how.Bits != 0 && how.Bits != 256:
		return nil, fmt.Errorf("its passphrase makes a key of %d bits, and it should have 256", how.Bits)
	}
	return how.GetKey(strings.TrimRight(passphrase, "\r\n")) // as files and variables have them
}

// syncFolder sees to it that the names in a folder outlive a power failure.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // which can't
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// writeRecoveryKey writes a new recovery key to its file. It is there wholly, or
// not at all.
func (c *crypt) writeRecoveryKey(text string, backedUp bool) error {
	path := c.store.path(recoveryFile)
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the account's recovery key: %w", err)
	}
	_, err = file.WriteString(text + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncFolder(c.store.dir) // the other copy is deleted next
	}
	if err != nil {
		return fmt.Errorf("writing the account's recovery key: %w", err)
	}
	advice := "The account's new recovery key is in this file. Move it to a safe place"
	if backedUp {
		advice += ": it is all that is needed to read the bot's values when the key store is lost"
	}
	c.log.WithField("file", path).Warn(advice)
	return nil
}
