package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What a retry can't help fails at once, after one request, and is never visible.
func TestRefused(t *testing.T) {
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		r := behind(t, rig.Proxy(t), bot, 15*time.Second, layout)
		require.NoError(t, r.Set("tea", []byte(`"old"`)))
		for _, test := range []struct {
			status int
			code   string
			is     error
		}{
			{http.StatusForbidden, "M_FORBIDDEN", matrix.ErrForbidden},
			{http.StatusRequestEntityTooLarge, "M_TOO_LARGE", matrix.ErrTooLarge},
			{http.StatusBadRequest, "M_BAD_JSON", nil},
			{http.StatusNotFound, "M_NOT_FOUND", matrix.ErrUnknownRoom},
		} {
			t.Run(name+" "+test.code, func(t *testing.T) {
				body := fmt.Sprintf(`{"errcode":%q,"error":"the server's words"}`, test.code)
				remove := r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(test.status, nil, body)})
				defer remove()
				for _, op := range []string{"set", "delete"} {
					r.Front.Reset()
					var err error
					if op == "set" {
						err = r.Set("tea", []byte(`"secret"`))
					} else {
						_, err = r.Delete("tea")
					}
					r.Failed(t, err, op, "tea")
					answered(t, err, test.code)
					require.ErrorContains(t, err, "the server's words")
					if test.is != nil {
						require.ErrorIs(t, err, test.is)
					}
					require.NotErrorIs(t, err, matrix.ErrUnknownOutcome)
					require.Equal(t, 1, r.Writes())
					rig.Has(t, r.Memory, "tea", `"old"`)
				}
			})
		}
		require.NoError(t, r.Set("tea", []byte(`"new"`)), "nothing stays behind")
		rig.Has(t, r.Memory, "tea", `"new"`)
	}
}

// Of many who write at the same time, only those whose value is bad get an error.
func TestOneBadValue(t *testing.T) {
	bot := rig.Register(t)
	for name, layout := range rig.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, rig.Proxy(t), bot, 30*time.Second, layout)
			poisoned := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				body, _ := io.ReadAll(req.Body)
				if bytes.Contains(body, []byte("poison")) {
					homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_BAD_JSON","error":"no poison"}`)(w, req, server)
					return
				}
				req.Body = io.NopCloser(bytes.NewReader(body))
				server.ServeHTTP(w, req)
			}
			r.Front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: poisoned})
			values := map[string]string{"bad": `"poison"`, "large": `"` + strings.Repeat("x", 70_000) + `"`}
			for i := range 8 {
				values[fmt.Sprintf("good %d", i)] = fmt.Sprint(i)
			}
			handle := r.InRoom(r.Room.String())
			results := make(map[string]error)
			var mu sync.Mutex
			var writers sync.WaitGroup
			for key, value := range values {
				writers.Go(func() {
					err := handle.Set(key, json.RawMessage(value))
					mu.Lock()
					defer mu.Unlock()
					results[key] = err
				})
			}
			writers.Wait()
			for key, value := range values {
				switch key {
				case "bad":
					r.Failed(t, results[key], "set", key)
					answered(t, results[key], "M_BAD_JSON")
					rig.Has(t, r.Memory, key, "")
				case "large":
					r.Failed(t, results[key], "set", key)
					require.ErrorIs(t, results[key], matrix.ErrTooLarge)
					rig.Has(t, r.Memory, key, "")
				default:
					require.NoError(t, results[key], key)
					rig.Has(t, r.Memory, key, value)
				}
			}
			_, found := bot.Standing(t, r.Room)["bad"]
			require.False(t, found)
			for stateKey, content := range bot.Standing(t, r.Room) {
				require.NotContains(t, content, "poison", stateKey)
			}
		})
	}
}

// DeleteAll names a key that failed, and counts those that were deleted, where each
// is a state event of its own.
func TestDeleteAllInPart(t *testing.T) {
	bot := rig.Register(t)
	for name, fault := range map[string]struct {
		do   homeserver.Action
		want error
	}{
		"refused":   {rig.Forbidden, matrix.ErrForbidden},
		"no answer": {homeserver.BlackHole(), matrix.ErrUnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			r := behind(t, rig.Proxy(t), bot, 9*time.Second, matrix.PerKey)
			for _, key := range []string{"a", "b", "c", "d"} {
				require.NoError(t, r.Set(key, []byte(`1`)))
			}
			r.Front.Inject(homeserver.Fault{Do: fault.do, Match: func(q *http.Request) bool {
				return homeserver.StateWrite(q) && strings.HasSuffix(q.URL.Path, "/c")
			}})
			n, err := r.InRoom(r.Room.String()).DeleteAll("a", "missing", "b", "c")
			r.Failed(t, err, "delete", "c")
			require.ErrorIs(t, err, fault.want)
			require.Equal(t, 2, n)
			for _, key := range []string{"a", "b"} {
				rig.Has(t, r.Memory, key, "")
			}
		})
	}
	t.Run("several", func(t *testing.T) {
		r := behind(t, rig.Proxy(t), bot, 15*time.Second, matrix.PerKey)
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, r.Set(key, []byte(`1`)))
		}
		r.Front.Inject(homeserver.Fault{Do: rig.Forbidden, Match: func(q *http.Request) bool {
			return homeserver.StateWrite(q) && !strings.HasSuffix(q.URL.Path, "/b")
		}})
		n, err := r.InRoom(r.Room.String()).DeleteAll("a", "b", "c")
		r.Failed(t, err, "delete", "a")
		require.ErrorIs(t, err, matrix.ErrForbidden)
		require.ErrorContains(t, err, `"c"`)
		require.Equal(t, 1, n)
	})
}
