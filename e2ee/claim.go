//go:build goolm

package e2ee

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// claims makes the machine's requests. From what the homeserver answers to a claim of one-time
// keys it takes out the devices that nobody has asked for, on which mautrix panics: a member's
// homeserver can bring that about, and nobody would get a key. And it takes out those whose key
// would get in the way of another device's, see twins.go.
type claims struct {
	next http.RoundTripper
	twin func(ctx context.Context, asked mautrix.OneTimeKeysRequest) (map[id.UserID]map[id.DeviceID]bool, error)
}

func (c claims) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/keys/claim") || r.Body == nil {
		return c.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer, err := c.next.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK {
		return answer, err
	}
	said, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		return nil, err
	}
	if said, err = c.filter(r.Context(), body, said); err != nil {
		return nil, err
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(said)), int64(len(said))
	answer.Header.Del("Content-Length")
	return answer, nil
}

// filter returns an answer with what may be in it.
func (c claims) filter(ctx context.Context, body, said []byte) ([]byte, error) {
	var request mautrix.ReqClaimKeys
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	var answer struct {
		Failures    json.RawMessage                               `json:"failures,omitempty"`
		OneTimeKeys map[id.UserID]map[id.DeviceID]json.RawMessage `json:"one_time_keys"`
	}
	if json.Unmarshal(said, &answer) != nil {
		return said, nil // mautrix can't read it either
	}
	twin, err := c.twin(ctx, request.OneTimeKeys)
	if err != nil {
		return nil, fmt.Errorf("reading the key store: %w", err)
	}
	for user, devices := range answer.OneTimeKeys {
		for device := range devices {
			if _, asked := request.OneTimeKeys[user][device]; !asked || twin[user][device] {
				delete(devices, device)
			}
		}
	}
	return json.Marshal(answer)
}
