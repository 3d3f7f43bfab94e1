package place

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// noBucket is where joe's memory for Bolt keeps the keys without a slash. Others it cuts after the last slash: what is before is the
// name of a bucket, slash included.
const noBucket = "_joe"

// boltWait is how long somebody who has the file is waited for: another tool lets go of it soon, a bot does not.
const boltWait = time.Second

// A Bolt is the file of a joe memory for Bolt.
type Bolt struct{ Path string }

// Read implements Place.
func (b Bolt) Read(context.Context) (Contents, error) {
	if _, err := os.Stat(b.Path); err != nil { // bbolt would make it
		return Contents{}, fmt.Errorf("the Bolt file: %w", err)
	}
	values := make(map[string][]byte)
	err := b.use(true, func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(bucket []byte, in *bbolt.Bucket) error {
				if string(bucket) != noBucket && !bytes.HasSuffix(bucket, []byte("/")) {
					return fmt.Errorf("it has a bucket %q, and joe's memory writes none of such a name: it is another program's", bucket)
				}
				return in.ForEach(func(key, value []byte) error {
					if value == nil {
						return fmt.Errorf("it has a bucket %q in the bucket %q, which joe's memory never makes: it is another program's", key, bucket)
					}
					values[strings.TrimPrefix(string(bucket), noBucketOf(bucket))+string(key)] = bytes.Clone(value)
					return nil
				})
			})
		})
	})
	return Contents{Values: values}, err
}

// noBucketOf returns what of a bucket's name is no part of its keys.
func noBucketOf(bucket []byte) string {
	if string(bucket) == noBucket {
		return noBucket
	}
	return ""
}

// Refuses implements Place.
func (Bolt) Refuses(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return errors.New("joe's memory for Bolt can't keep a key that is empty or ends in a slash")
	}
	return nil
}

// Write implements Place: all is written in one transaction.
func (b Bolt) Write(_ context.Context, values map[string][]byte, done func(string, error)) error {
	refused := make(map[string]error)
	err := b.use(false, func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			for key, value := range values {
				if refused[key] = b.Refuses(key); refused[key] != nil {
					continue
				}
				bucket, name := path.Split(key)
				if bucket == "" {
					bucket = noBucket
				}
				in, err := tx.CreateBucketIfNotExists([]byte(bucket))
				if err != nil {
					return fmt.Errorf("the bucket %q: %w", bucket, err)
				}
				switch err := in.Put([]byte(name), value); {
				case errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrValueTooLarge):
					refused[key] = err
				case err != nil:
					return err
				}
			}
			return nil
		})
	})
	if err == nil {
		for key := range values {
			done(key, refused[key])
		}
	}
	return err
}

// use opens the file.
func (b Bolt) use(reading bool, do func(*bbolt.DB) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the Bolt file %s: %w", b.Path, err)
		}
	}()
	// bbolt trusts its file, and panics where that is damaged or cut off.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = errors.New("it is damaged: a part of it can't be read, or is not as it should be")
		}
	}()
	db, err := bbolt.Open(b.Path, 0o600, &bbolt.Options{Timeout: boltWait, ReadOnly: reading})
	var of *fs.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return errors.New("another process has it, perhaps the bot: a Bolt file belongs to one at a time, so stop the bot, or copy the file and use the copy")
	case errors.As(err, &of):
		return of.Err
	case err != nil:
		return fmt.Errorf("it is no Bolt file, or damaged: %w", err)
	}
	err = do(db)
	return errors.Join(err, db.Close())
}
