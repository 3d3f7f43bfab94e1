package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/commit"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// What a retry can't help fails at once, after one request, and is never visible.
func TestRefused(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		r := behind(t, proxy(t), bot, 15*time.Second, layout)
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
				remove := r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Status(test.status, nil, body)})
				defer remove()
				for _, op := range []string{"set", "delete"} {
					r.front.Reset()
					var err error
					if op == "set" {
						err = r.Set("tea", []byte(`"secret"`))
					} else {
						_, err = r.Delete("tea")
					}
					r.failed(t, err, op, "tea")
					answered(t, err, test.code)
					require.ErrorContains(t, err, "the server's words")
					if test.is != nil {
						require.ErrorIs(t, err, test.is)
					}
					require.NotErrorIs(t, err, commit.ErrUnknownOutcome)
					require.Equal(t, 1, r.writes())
					r.has(t, "tea", `"old"`)
				}
			})
		}
		require.NoError(t, r.Set("tea", []byte(`"new"`)), "nothing stays behind")
		r.has(t, "tea", `"new"`)
	}
}

// What does not fit in an event is refused before anything is sent, and what just
// fits is accepted by the homeserver.
func TestLimits(t *testing.T) {
	bot := register(t)
	contents := map[string]func(n int) []byte{ // each of about n bytes in the event
		"quotes": func(n int) []byte { return []byte(`"` + strings.Repeat(`\"\\`, n/4) + strings.Repeat("x", n%4) + `"`) },
		"controls": func(n int) []byte {
			return []byte(`"` + strings.Repeat(`\u0001`, n/6) + strings.Repeat("x", n%6) + `"`)
		},
		"multi-byte": func(n int) []byte { return []byte(`"` + strings.Repeat("🫖", n/4) + strings.Repeat("x", n%4) + `"`) },
		"bytes":      func(n int) []byte { return bytes.Repeat([]byte{0xff}, n*3/4-1) },
		"numbers":    func(n int) []byte { return []byte("[" + strings.Repeat("1,", n/2) + strings.Repeat("1", 1+n%2) + "]") },
		"wrapped": func(n int) []byte {
			return []byte(`["` + strings.Repeat(`\\`, n/4) + strings.Repeat("x", n%4) + `",1.5]`)
		},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, proxy(t), bot, 30*time.Second, layout)
			require.NoError(t, r.Set("other", []byte(`"secret"`)))
			var before []byte
			for content, make := range contents {
				r.front.Reset()
				err := r.Set("tea", make(80_000))
				r.failed(t, err, "set", "tea")
				require.ErrorIs(t, err, matrix.ErrTooLarge)
				var tooLarge *commit.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Size))
				require.ErrorContains(t, err, fmt.Sprint(tooLarge.Limit))
				require.Greater(t, tooLarge.Limit, 60_000)
				require.Zero(t, r.writes(), content)
				r.has(t, "tea", string(before))
				r.has(t, "other", `"secret"`)

				// The largest that the memory takes, found without sending any.
				n := 80_000 - (tooLarge.Size - tooLarge.Limit) + 16
				for err = r.Set("tea", make(n)); errors.Is(err, matrix.ErrTooLarge); err = r.Set("tea", make(n)) {
					var answer mautrix.RespError
					require.False(t, errors.As(err, &answer), "%s: the homeserver refused what should fit: %v", content, err)
					n--
				}
				require.NoError(t, err, content)
				require.Equal(t, 1, r.writes(), content)
				before = make(n)
				r.has(t, "tea", string(before))
			}
			r.has(t, "other", `"secret"`)
		})
	}
	t.Run("dictionary", func(t *testing.T) {
		t.Parallel()
		r := behind(t, proxy(t), bot, 30*time.Second, matrix.OneStateKey)
		half := []byte(`"` + strings.Repeat("x", 40_000) + `"`)
		require.NoError(t, r.Set("one", half))
		err := r.Set("two", half)
		r.failed(t, err, "set", "two")
		require.ErrorIs(t, err, matrix.ErrTooLarge)
		require.ErrorContains(t, err, "the dictionary of 2 keys would have 80")
		require.Equal(t, 1, r.writes())
		r.has(t, "two", "")
		require.NoError(t, r.Set("small", []byte(`1`)))
		_, err = r.Delete("one")
		require.NoError(t, err)
		require.NoError(t, r.Set("two", half), "there is room again")
		require.Equal(t, map[string]string{"": `{"small":1,"two":` + string(half) + `}`}, r.state(t, r.room))
	})
}

// Of many who write at the same time, only those whose value is bad get an error.
func TestOneBadValue(t *testing.T) {
	bot := register(t)
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := behind(t, proxy(t), bot, 30*time.Second, layout)
			poisoned := func(w http.ResponseWriter, req *http.Request, server http.Handler) {
				body, _ := io.ReadAll(req.Body)
				if bytes.Contains(body, []byte("poison")) {
					homeserver.Status(http.StatusBadRequest, nil, `{"errcode":"M_BAD_JSON","error":"no poison"}`)(w, req, server)
					return
				}
				req.Body = io.NopCloser(bytes.NewReader(body))
				server.ServeHTTP(w, req)
			}
			r.front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: poisoned})
			values := map[string]string{"bad": `"poison"`, "large": `"` + strings.Repeat("x", 70_000) + `"`}
			for i := range 8 {
				values[fmt.Sprintf("good %d", i)] = fmt.Sprint(i)
			}
			handle := r.InRoom(r.room.String())
			results := make(map[string]error)
			var mu sync.Mutex
			var writers sync.WaitGroup
			for key, value := range values {
				writers.Go(func() {
					err := handle.Set(key, rawJSON(value))
					mu.Lock()
					defer mu.Unlock()
					results[key] = err
				})
			}
			writers.Wait()
			for key, value := range values {
				switch key {
				case "bad":
					r.failed(t, results[key], "set", key)
					answered(t, results[key], "M_BAD_JSON")
					r.has(t, key, "")
				case "large":
					r.failed(t, results[key], "set", key)
					require.ErrorIs(t, results[key], matrix.ErrTooLarge)
					r.has(t, key, "")
				default:
					require.NoError(t, results[key], key)
					r.has(t, key, value)
				}
			}
			_, found := bot.state(t, r.room)["bad"]
			require.False(t, found)
			for stateKey, content := range bot.state(t, r.room) {
				require.NotContains(t, content, "poison", stateKey)
			}
		})
	}
}
