package homeserver

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
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

// installSynapse returns the path of a Python that has Synapse: that of a virtual
// environment, which it makes on first use. Many of an environment's files hold the
// path under which it was made. It may be moved nevertheless, as a product is: its
// Python finds its modules from where it stands itself, and only the scripts, of
// which none is run here, need the old path.
func installSynapse(ctx context.Context, progress io.Writer) (string, error) {
	const failed = "install the homeserver Synapse " + synapseVersion + ": "
	if runtime.GOOS == "windows" {
		return "", errors.New(failed + "it is run on Unix only; use Dendrite here")
	}
	python, version, err := findPython(ctx)
	if err != nil {
		return "", fmt.Errorf(failed+"%w", err)
	}
	dir, err := cacheDir("synapse-"+synapseVersion, requirements, version)
	if err != nil {
		return "", err
	}
	venv, err := product{dir, "venv", "installing the homeserver", func(ctx context.Context, venv string) error {
		return makeVenv(ctx, python, venv)
	}}.get(ctx, progress)
	if err != nil {
		return "", fmt.Errorf(failed+"%w", err)
	}
	return venvPython(venv), nil
}

func venvPython(venv string) string { return filepath.Join(venv, "bin", "python") }

// makeVenv makes a virtual environment with Synapse, and sees that it can be run.
func makeVenv(ctx context.Context, python, venv string) error {
	run := func(python string, args ...string) error {
		cmd := exec.CommandContext(ctx, python, append([]string{"-I"}, args...)...)
		cmd.Env = append(os.Environ(),
			"TMPDIR="+filepath.Dir(venv),
			// Settings that make pip install elsewhere; it ignores empty ones.
			"PIP_PREFIX=", "PIP_ROOT=", "PIP_TARGET=", "PIP_USER=",
		)
		if output, err := runTool(cmd); err != nil {
			return fmt.Errorf("%w: %s", err, lastLine(output))
		}
		return nil
	}
	if err := run(python, "-m", "venv", venv); err != nil {
		return fmt.Errorf("%s -m venv: %w", python, err)
	}
	list := filepath.Join(venv, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	if err := run(venvPython(venv), "-m", "pip", "install",
		"--quiet", "--no-input", "--disable-pip-version-check", "--requirement", list); err != nil {
		return fmt.Errorf("pip, which needs PyPI or the index that it is set to use, and where there is no wheel for"+
			" the machine, as on macOS, also Rust and a C compiler: %w", err)
	}
	if err := run(venvPython(venv), "-c", "import "+synapseModule); err != nil {
		return fmt.Errorf("what pip installed does not run (pip config list shows settings that may be the reason): %w", err)
	}
	return nil
}

// pythonProbe ends well on a Python that can run Synapse, and prints what tells it
// from others. The pinned packages need 3.11, and Synapse imports the module cgi,
// which 3.13 took away.
const pythonProbe = `
import sys
if not (3, 11) <= sys.version_info < (3, 13):
    sys.exit("it is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as e:
    sys.exit("it can't make virtual environments: %s" % e)
print(sys.version, sys.base_prefix)
`

// findPython finds a Python that can run Synapse, and returns what it prints.
func findPython(ctx context.Context) (path string, version []byte, err error) {
	var reasons []string
	for _, name := range []string{"python3", "python3.12", "python3.11"} {
		output, err := runTool(exec.CommandContext(ctx, name, "-I", "-c", pythonProbe))
		switch {
		case err == nil:
			return name, output, nil
		case ctx.Err() != nil:
			return "", nil, fmt.Errorf("ask %s for its version: %w", name, context.Cause(ctx))
		case len(output) > 0:
			reasons = append(reasons, name+": "+lastLine(output))
		default:
			reasons = append(reasons, name+": "+err.Error())
		}
	}
	return "", nil, fmt.Errorf("it needs Python 3.11 or 3.12 with the module venv, in the PATH as python3, python3.12 or"+
		" python3.11; where python3 is another, install one of these beside it, from the system's packages (such as"+
		" python3.12 and python3.12-venv) or with pyenv: %s", strings.Join(reasons, "; "))
}

// lastLine returns the last line of a tool's output, which tells what went wrong.
func lastLine(output []byte) string {
	output = bytes.TrimSpace(output)
	return string(bytes.TrimSpace(output[bytes.LastIndexByte(output, '\n')+1:]))
}

// synapseKey is the file of the server's folder with its signing key.
const synapseKey = "signing.key"

// synapseInstance is a member of /.well-known/matrix/client. Synapse adds any that
// it is told to, if it is also told its public_baseurl.
const synapseInstance = "dev.joe.instance"

// synapseBase is the part of the configuration that is the same for every start.
//
// By default Synapse answers an initial sync that equals one of the last two
// minutes with the old answer, whatever has happened since: a memory that starts
// anew would begin with an old state.
const synapseBase = `server_name: ` + serverName + `
signing_key_path: ` + synapseKey + `
trusted_key_servers: []
federation_domain_whitelist: []
send_federation: false
database:
  name: sqlite3
  args:
    database: homeserver.db
media_store_path: media
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4 # the lowest: these accounts guard nothing
macaroon_secret_key: unused
form_secret: unused
report_stats: false
caches:
  sync_response_cache_duration: 0s
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

// prepareSynapse writes the signing key if there is none yet: a line with the
// algorithm, a name and the seed of an ed25519 key.
func prepareSynapse(dir string) error {
	seed := make([]byte, 32)
	rand.Read(seed)
	line := "ed25519 " + rand.Text() + " " + base64.RawStdEncoding.EncodeToString(seed) + "\n"
	return createFile(filepath.Join(dir, synapseKey), []byte(line))
}
