package session_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/rig"
	"github.com/go-joe/matrix-memory/internal/session"
)

// Where each attempt is refused after a while, that is told before the time is over: an
// attempt that was cut off would leave it open whether the homeserver acted.
func TestLastAttemptIsAnswered(t *testing.T) {
	for name, refusal := range map[string]error{
		"rate limit": mautrix.HTTPError{Response: &http.Response{StatusCode: http.StatusTooManyRequests}},
		"no route":   &net.OpError{Op: "dial", Err: errors.New("no route to host")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := session.New(session.NewClient(), true)
				defer s.Close()
				s.Timeout, s.Log = 4*time.Second, rig.Silence()
				for range 500 {
					begun := time.Now()
					acted, err := s.Try(t.Context(), func(ctx context.Context) error {
						select {
						case <-time.After(s.Timeout / 12):
							return refusal
						case <-ctx.Done():
							return ctx.Err()
						}
					})
					require.ErrorContains(t, err, refusal.Error())
					require.False(t, acted)
					require.Less(t, time.Since(begun), s.Timeout)
				}
			})
		})
	}
}
