package matrix

import (
	"encoding/json"
	"net/http"

	"github.com/go-joe/joe"
	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"

	"github.com/go-joe/matrix-memory/internal/bridge"
)

// An Option changes what [New] makes.
type Option func(*Memory)

// options is what Options set.
type options struct {
	log        logrus.FieldLogger
	encoder    joe.MemoryEncoder // nil: joe's
	foreign    bool              // the program logs in by itself, with client
	client     *mautrix.Client
	httpClient *http.Client  // nil: one like http.DefaultClient
	crypto     bridge.Crypto // nil: encryption is not enabled
	trusting   bool          // see bridge.Trust
}

// WithLogger sets where the memory logs. Without it, entries go to the bot's own
// log, and to logrus's standard logger if there is no bot.
func WithLogger(logger logrus.FieldLogger) Option {
	return func(m *Memory) { m.log = logger }
}

// WithClient makes the memory use a logged-in client that the program runs, syncs
// and closes itself. The memory is opened before the client syncs for the first
// time. The client's filter must let the memory's state events, power levels,
// encryption, the room's creation, tombstones, memberships and redactions through, and the
// program must have it sync, or the memory does not see what others write. If the homeserver
// has gone back to what it had before, the log says that the sync has to begin anew. Of
// the Config, the homeserver, the credentials and the device are not needed then.
func WithClient(client *mautrix.Client) Option {
	return func(m *Memory) { m.foreign, m.client = true, client }
}

// WithHTTPClient sets what the memory's requests are made with, for instance by way of
// a proxy, with certificates of the program's own, or traced. Its Transport, CheckRedirect
// and Jar are used, and not its Timeout: the memory bounds each request itself, and a
// sync waits half a minute for news. CheckRedirect is asked about redirects that stay on
// the homeserver's host; no others are followed, as the access token is for no other host.
// The connections stay the program's to close. With no Transport, as without this option,
// the memory has a copy of http.DefaultTransport, or, if a program has replaced that by one
// of another type, that one itself.
func WithHTTPClient(client *http.Client) Option {
	return func(m *Memory) { m.httpClient = client }
}

// WithEncoder sets how values become bytes, for bot.Store and for Room handles
// alike. The default is joe's: JSON.
func WithEncoder(enc joe.MemoryEncoder) Option {
	return func(m *Memory) { m.encoder = enc }
}

// jsonEncoder is joe's default encoder, which joe does not export.
type jsonEncoder struct{}

func (jsonEncoder) Encode(value interface{}) ([]byte, error)     { return json.Marshal(value) }
func (jsonEncoder) Decode(data []byte, target interface{}) error { return json.Unmarshal(data, target) }
