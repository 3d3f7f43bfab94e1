//go:build goolm

package e2ee

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"
)

// A watch keeps the first failure of the key store in what is done with its context:
// mautrix logs many of them only, and goes on as if nothing had been.
type watch struct {
	mu    sync.Mutex // owns first
	first error
}

type watchKey struct{}

// watchStore returns a context for what is not to be trusted if the store fails in it.
func watchStore(ctx context.Context) (context.Context, *watch) {
	w := &watch{}
	return context.WithValue(ctx, watchKey{}, w), w
}

func (w *watch) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// watchedLog is told of each statement. It tells the watch of the context, if that has one.
type watchedLog struct{ dbutil.DatabaseLogger }

func (watchedLog) QueryTiming(ctx context.Context, _, _ string, _ []any, _ int, _ time.Duration, err error) {
	w, ok := ctx.Value(watchKey{}).(*watch)
	if !ok || err == nil || ctx.Err() != nil || errors.Is(err, sql.ErrNoRows) || errors.Is(err, sql.ErrTxDone) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = err
	}
}

// unwritable says that the store's disk or permissions fail.
func (s *keyStore) unwritable(err error) error {
	return fmt.Errorf("the key store %s can't be written: %w: see that its disk has space and works, and that the bot may write there", s.path(keysFile), err)
}

// unwritableNow says that to a bot that runs.
func (s *keyStore) unwritableNow(err error) error {
	return fmt.Errorf("%w; once it can, the bot goes on without a restart", s.unwritable(err))
}
