package homeserver

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// So much passes at once, and what is refused does not count. Who waits as long as the
// answer says, may go on.
func TestLimit(t *testing.T) {
	const atOnce, pause = 3, 200 * time.Millisecond
	passed := 0
	p := proxyTo(t, func(http.ResponseWriter, *http.Request) { passed++ })
	p.Inject(Fault{Do: Limit(atOnce, pause)})
	start := time.Now()
	for passed < atOnce+4 {
		status, text := put(t, p, "")
		if status == http.StatusOK {
			continue
		}
		require.Equal(t, http.StatusTooManyRequests, status)
		require.GreaterOrEqual(t, passed, atOnce)
		var answer struct {
			Code string `json:"errcode"`
			Wait int    `json:"retry_after_ms"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &answer))
		require.Equal(t, "M_LIMIT_EXCEEDED", answer.Code)
		wait := time.Duration(answer.Wait) * time.Millisecond
		require.Greater(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, pause+time.Millisecond)
		before := passed
		<-time.After(wait)
		status, _ = put(t, p, "")
		require.Equal(t, http.StatusOK, status, "it has waited as long as it was told to")
		require.Equal(t, before+1, passed)
	}
	require.GreaterOrEqual(t, time.Since(start), 4*pause-time.Millisecond)
}
