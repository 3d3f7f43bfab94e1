package homeserver

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/go-joe/matrix-memory/internal/product"
)

var synapse = program{
	name:       "synapse",
	rateLimits: true,
	install:    installSynapse,
	config:     synapseConfig,
	prepare:    prepareSynapse,
	command: func(path, config string, _ int) *exec.Cmd {
		// -I: no setting or module of the surroundings reaches it.
		return exec.Command(path, "-I", "-m", synapseModule, "--config-path", config)
	},
	wellKnown: "/.well-known/matrix/client",
	instance:  synapseInstance,
}

// requirements pins Synapse and all that it needs.
//
//go:embed synapse/requirements.txt
var requirements []byte

// synapseVersion is what requirements says. It is the last release under the
// Apache License.
const synapseVersion = "1.98.0"

// synapseModule is what Python runs.
const synapseModule = "synapse.app.homeserver"

// installSynapse returns the path of a Python that has Synapse, which it installs on
// first use.
func installSynapse(ctx context.Context, progress io.Writer) (string, error) {
	const failed = "install the homeserver Synapse " + synapseVersion + ": "
	if runtime.GOOS == "windows" {
		return "", errors.New(failed + "it is run on Unix only; use Dendrite here")
	}
	// Synapse imports the module cgi, which 3.13 took away.
	python, err := product.Python{
		Name: "synapse-" + synapseVersion, Doing: "installing the homeserver",
		Requirements: requirements, Module: synapseModule, Until: 13,
	}.Get(ctx, progress)
	if err != nil {
		return "", fmt.Errorf(failed+"%w", err)
	}
	return python, nil
}

// synapseKey is the file of the server's folder with its signing key.
const synapseKey = "signing.key"

// synapseDatabase is the file of the server's folder with all else.
const synapseDatabase = "homeserver.db"

// synapseInstance is a member of /.well-known/matrix/client. Synapse adds any that
// it is told to, if it is also told its public_baseurl.
const synapseInstance = "dev.joe.instance"

// synapseBase is the part of the configuration that is the same for every start.
const synapseBase = `server_name: ` + serverName + `
signing_key_path: ` + synapseKey + `
trusted_key_servers: []
federation_domain_whitelist: []
send_federation: false
database:
  name: sqlite3
  args:
    database: ` + synapseDatabase + `
media_store_path: media
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4 # the lowest: these accounts guard nothing
macaroon_secret_key: unused
form_secret: unused
report_stats: false
presence: {enabled: false} # this and what follows takes a fifth of the time of a write, and nothing here looks at it
stats: {enabled: false}
push: {enabled: false}
rc_registration: &none {per_second: 1000000, burst_count: 1000000}
`

// synapseUnlimited lifts the rate limits of what a client does with its account.
const synapseUnlimited = `rc_message: *none
rc_login: {address: *none, account: *none, failed_attempts: *none}
rc_joins: {local: *none, remote: *none}
rc_joins_per_room: *none
rc_invites: {per_room: *none, per_user: *none, per_issuer: *none}
rc_third_party_invite: *none
rc_admin_redaction: *none
rc_key_requests: *none
rc_media_create: *none
`

func synapseConfig(s settings) string {
	config := synapseBase + fmt.Sprintf(`public_baseurl: http://127.0.0.1:%d/
extra_well_known_client_content:
  %s: %s
listeners:
  - type: http
    bind_addresses: [127.0.0.1]
    port: %d
    resources:
      - names: [client]
`, s.port, synapseInstance, s.instance, s.port)
	if !s.defaultRateLimits {
		config += synapseUnlimited
	}
	return config
}

// prepareSynapse writes the database and the signing key if there are none yet: a line
// with the algorithm, a name and the seed of an ed25519 key.
func prepareSynapse(dir string) error {
	if err := createDatabases(dir, synapseDatabase); err != nil {
		return err
	}
	seed := make([]byte, 32)
	rand.Read(seed)
	line := "ed25519 " + rand.Text() + " " + base64.RawStdEncoding.EncodeToString(seed) + "\n"
	return createFile(filepath.Join(dir, synapseKey), []byte(line))
}
