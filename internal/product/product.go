// Package product makes what the tests run, the programs of homeservers and of those that
// share a memory with a bot, on the first use, and keeps it in the user's cache folder.
package product

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-joe/matrix-memory/internal/process"
)

// progressEvery is the time between two progress lines of something long.
const progressEvery = 5 * time.Second

// A Product is a file or folder that is made once on a machine and then kept in the
// user's cache folder. It is made elsewhere, so it is there as a whole or not at all.
type Product struct {
	Dir   string // a folder of its own in the cache folder
	Name  string // of what is made, in Dir
	Doing string // what a progress line says meanwhile, such as "building it"
	// Make makes it at path. The folder of path goes away afterwards: temporary
	// files belong there.
	Make func(ctx context.Context, path string) error
}

// Dir names the folder for what is made from all of the parts. Other parts mean
// another folder.
func Dir(name string, parts ...[]byte) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep a program in: %w", err)
	}
	hash := sha256.Sum256(bytes.Join(parts, []byte{0}))
	return filepath.Join(cache, "matrix-memory", fmt.Sprintf("%s-%x", name, hash[:6])), nil
}

// Get returns the path of the product. It makes it if it is not there yet, and
// waits if another process is making it at this moment.
func (p Product) Get(ctx context.Context, progress io.Writer) (string, error) {
	path := filepath.Join(p.Dir, p.Name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}

	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return "", err
	}
	lock, err := p.waitLock(ctx, progress)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil {
		return path, nil // the holder we waited for has made it
	}

	unfinished := filepath.Join(p.Dir, "unfinished")
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return "", err
	}
	// Each try has a new folder: in that of one that was killed, commands that it
	// started may still be at work.
	work, err := os.MkdirTemp(unfinished, "")
	if err != nil {
		return "", err
	}
	defer func() {
		_ = os.RemoveAll(work)
		if process.LockExcludes {
			_ = os.RemoveAll(unfinished) // what those that were killed left, as far as it can be
		}
	}()
	made := filepath.Join(work, p.Name)
	if err := p.makeWithProgress(ctx, made, progress); err != nil {
		return "", err
	}
	return path, os.Rename(made, path)
}

// waitLock waits until it holds the lock of the product.
func (p Product) waitLock(ctx context.Context, progress io.Writer) (*os.File, error) {
	const retry = 100 * time.Millisecond
	for waited := time.Duration(0); ; waited += retry {
		lock, ok, err := process.TryLock(filepath.Join(p.Dir, "lock"))
		if err != nil || ok {
			return lock, err
		}
		if waited%progressEvery == 0 {
			fmt.Fprintf(progress, "another process is %s; waiting for it\n", p.Doing)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another process that is %s: %w", p.Doing, context.Cause(ctx))
		case <-time.After(retry):
		}
	}
}

// makeWithProgress makes the product at path and says now and then that it does.
func (p Product) makeWithProgress(ctx context.Context, path string, progress io.Writer) error {
	begin := time.Now()
	fmt.Fprintf(progress, "%s, which may take some minutes; only the first time\n", p.Doing)
	made := make(chan error, 1)
	go func() { made <- p.Make(ctx, path) }()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintf(progress, "%s, %.0f s so far; only the first time\n", p.Doing, time.Since(begin).Seconds())
		case err := <-made:
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				return err
			}
			fmt.Fprintf(progress, "%s took %.0f s\n", p.Doing, time.Since(begin).Seconds())
			return nil
		}
	}
}
