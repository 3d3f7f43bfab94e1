//go:build goolm

package e2ee

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/session"
)

// An uploads takes whatever keys it is given, but no fallback keys while refusing is set.
type uploads struct{ refusing bool }

func (u *uploads) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil {
		body, _ = io.ReadAll(request.Body)
	}
	if u.refusing && bytes.Contains(body, []byte("fallback_keys")) {
		return nil, errors.New("refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Request: request, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"one_time_key_counts":{"signed_curve25519":0},"device_keys":{}}`))}, nil
}

// While the next fallback key could not be published, others get the old one from the
// homeserver, and the bot keeps it, also over a restart.
func TestOldFallbackKeyIsKeptUntilTheNextIsPublished(t *testing.T) {
	c, _ := detached(t)
	homeserver := &uploads{}
	c.client.Client = &http.Client{Transport: homeserver}
	c.machine.Client = c.client
	require.NoError(t, c.publishFallback(t.Context()))
	old := c.keys().CurrentFallbackKey.ID
	homeserver.refusing = true
	c.publishKeys(t.Context(), 0, true)
	require.Len(t, c.keys().FallbackKeyUnpublished(), 1, "the next start takes it for published")
	c.forgetAt, c.publishAt = time.Now().Add(-time.Second), time.Time{}
	c.publishKeys(t.Context(), 0, true)
	require.EqualValues(t, 2, c.keys().NumFallbackKeys, "the key that others get is forgotten")
	require.Equal(t, old, c.keys().PrevFallbackKey.ID)

	homeserver.refusing, c.publishAt = false, time.Time{}
	c.publishKeys(t.Context(), 0, true)
	require.Empty(t, c.keys().FallbackKeyUnpublished())
	require.NoError(t, c.forgetFallback(t.Context()))
	require.EqualValues(t, 2, c.keys().NumFallbackKeys, "it is kept from when the next one got there")
	c.forgetAt = time.Now().Add(-time.Second)
	require.NoError(t, c.forgetFallback(t.Context()))
	require.EqualValues(t, 1, c.keys().NumFallbackKeys)
}

// The store fails when the keys are to be published again after a logout. They are once it works.
func TestKeysArePublishedAgainAfterTheStoreFailed(t *testing.T) {
	c, _ := detached(t)
	c.client.Client = &http.Client{Transport: &uploads{}}
	c.machine.Client = c.client
	c.session = session.New(c.client, false)
	c.session.Timeout = time.Minute
	_, err := c.store.db.Exec(t.Context(), `CREATE TRIGGER full BEFORE INSERT ON crypto_account BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
	require.NoError(t, err)
	c.logouts.Add(1)
	c.publishAgain(t.Context())
	require.Zero(t, c.published.Load(), "it gave up")
	_, err = c.store.db.Exec(t.Context(), `DROP TRIGGER full`)
	require.NoError(t, err)
	c.againAt = time.Time{}
	c.publishAgain(t.Context())
	require.EqualValues(t, 1, c.published.Load())
}

// A session that could not be saved does not keep the next start from going on with the
// others once it is deleted.
func TestDeletedSessionNeedsNoSaving(t *testing.T) {
	c, _ := detached(t)
	keys := c.keys()
	require.NoError(t, keys.GenOneTimeKeys(1))
	oneTime, err := keys.OneTimeKeys()
	require.NoError(t, err)
	var olm *crypto.OlmSession
	for _, key := range oneTime {
		internal, err := keys.NewOutboundSession(c.machine.OwnIdentity().IdentityKey, key)
		require.NoError(t, err)
		olm = &crypto.OlmSession{Internal: internal}
	}
	c.sessions.olm["other"] = olm
	c.sessions.unsaved[olm.ID()] = true
	require.NoError(t, c.sessions.DeleteSession(t.Context(), id.SenderKey("key"), olm))
	require.True(t, c.sessions.end())
}
