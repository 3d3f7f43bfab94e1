package place

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// A File is the file of joe's file memory: a JSON object of values in Base64.
type File struct{ Path string }

// Read implements Place.
func (f File) Read(context.Context) (Contents, error) {
	content, err := os.ReadFile(f.Path)
	if err != nil {
		return Contents{}, err
	}
	var values map[string][]byte
	if err := json.Unmarshal(content, &values); err != nil {
		var broken *json.SyntaxError
		if errors.As(err, &broken) {
			return Contents{}, fmt.Errorf("the file %s: it is no JSON, at byte %d: it may be cut off", f.Path, broken.Offset)
		}
		// Its own words may quote a value.
		return Contents{}, fmt.Errorf("the file %s: it is not what joe's file memory writes, a JSON object of values in Base64", f.Path)
	}
	return Contents{Values: values}, nil
}

// Refuses implements Place.
func (File) Refuses(key string) error {
	if !utf8.ValidString(key) {
		return errors.New("joe's file memory can't keep a key that is not UTF-8")
	}
	return nil
}

// Write implements Place: all is written at once, or nothing.
func (f File) Write(ctx context.Context, values map[string][]byte, done func(string, error)) error {
	there, err := f.Read(ctx)
	if err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	refused := make(map[string]error)
	all := make(map[string][]byte)
	maps.Copy(all, there.Values)
	for key, value := range values {
		if refused[key] = f.Refuses(key); refused[key] != nil {
			continue
		}
		all[key] = value
	}
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := Replace(f.Path, append(content, '\n')); err != nil {
		return err
	}
	for key := range values {
		done(key, refused[key])
	}
	return nil
}

// Replace puts a file in the place of one that may be there: whatever happens, one of them is there whole. A new one is its
// owner's alone; where there is one, the new one has its permissions, and on Unix its owner. A link stays one.
func Replace(path string, content []byte) (err error) {
	named := path
	if path, err = behindLinks(path); err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	former, err := os.Stat(path)
	if err == nil {
		if !former.Mode().IsRegular() {
			return os.WriteFile(path, content, mode) // a pipe or a device
		}
		mode = former.Mode().Perm()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(made.Name())
		}
	}()
	_, err = made.Write(content)
	if former != nil && err == nil {
		if err = keepOwner(made, former); err != nil {
			err = fmt.Errorf("the file %s: %w", named, err)
		}
	}
	err = errors.Join(err, made.Chmod(mode), made.Sync())
	if err = errors.Join(err, made.Close()); err != nil {
		return err
	}
	return os.Rename(made.Name(), path)
}

// behindLinks returns the file that a path names, which need not be there.
func behindLinks(path string) (string, error) {
	file, err := filepath.EvalSymlinks(path)
	for errors.Is(err, fs.ErrNotExist) {
		to, notLink := os.Readlink(path)
		if notLink != nil {
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
		file, err = filepath.EvalSymlinks(path)
	}
	return file, err
}
