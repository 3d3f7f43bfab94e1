package homeserver

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/go-joe/matrix-memory/internal/process"
	"github.com/go-joe/matrix-memory/internal/product"
)

var dendrite = program{
	name:    "dendrite",
	install: buildDendrite,
	config:  func(s settings) string { return fmt.Sprintf(dendriteConfig, s.instance) },
	prepare: prepareDendrite,
	command: func(path, config string, port int) *exec.Cmd {
		return exec.Command(path,
			"-config", config,
			"-http-bind-address", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			"-really-enable-open-registration")
	},
	// Nobody else asks for that one as long as federation is off.
	wellKnown: "/.well-known/matrix/server",
	instance:  "m.server",
}

// dendriteModule and the package in it that is built, as the module in the
// dendrite folder pins it.
const (
	dendriteModule  = "github.com/matrix-org/dendrite"
	dendritePackage = dendriteModule + "/cmd/dendrite"
)

var pinnedDendrite = regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(dendriteModule) + `\s+v(\S+)`)

// buildDendrite returns the path of the program, which it builds on first use.
func buildDendrite(ctx context.Context, progress io.Writer) (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	dir, err := dendriteDir(ctx, module)
	if err != nil {
		return "", err
	}
	name := "dendrite"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path, err := product.Product{Dir: dir, Name: name, Doing: "building the homeserver", Make: func(ctx context.Context, path string) error {
		cmd := goCommand(ctx, module, "build", "-ldflags=-s -w", "-o", path, dendritePackage)
		cmd.Env = append(cmd.Env, "GOTMPDIR="+filepath.Dir(path))
		output, err := process.Run(cmd)
		if err != nil {
			return fmt.Errorf("go build: %w\n%s", err, output)
		}
		return nil
	}}.Get(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("build the homeserver: %w", err)
	}
	return path, nil
}

// moduleDir finds the folder of the module that pins Dendrite: beside this source
// file, where the compiler saw it.
func moduleDir() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "dendrite")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("the homeserver is built from the sources of this repository, and they are not in %s"+
			" (compile this program from a checkout, without -trimpath, and run it on the same machine): %w", dir, err)
	}
	return dir, nil
}

// dendriteDir names the cache folder for the Dendrite that module pins. Another
// version of it, of a dependency or of Go means another folder.
func dendriteDir(ctx context.Context, module string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read which homeserver to build: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("read which homeserver to build: %w", err)
	}
	version := pinnedDendrite.FindSubmatch(mod)
	if version == nil {
		return "", fmt.Errorf("%s does not require %s", filepath.Join(module, "go.mod"), dendriteModule)
	}
	goVersion, err := goCommand(ctx, module, "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("the homeserver is built with the go command, which does not run: %w", err)
	}
	return product.Dir("dendrite-"+string(version[1]), mod, sum, goVersion)
}

// goCommand is the go command in module, for this machine and without cgo.
// Settings of the surroundings that are meant for the program under test (-race,
// -mod=vendor, a workspace, another target) do not reach it.
func goCommand(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(),
		"PWD="+module,
		"CGO_ENABLED=0",
		"GO111MODULE=on",
		"GOARCH="+runtime.GOARCH,
		"GOFLAGS=-mod=readonly -buildvcs=false", // not empty: an empty one means that of "go env -w"
		"GOOS="+runtime.GOOS,
		"GOWORK=off",
	)
	return cmd
}

// dendriteKey is the file of the server's folder with its signing key.
const dendriteKey = "matrix_key.pem"

// dendriteConfig holds the verb for the instance.
//
// Dendrite drops what else stands in a SQLite connection string, so it takes no
// pragmas there: see createDatabases.
const dendriteConfig = `version: 2
global:
  server_name: ` + serverName + `
  private_key: ` + dendriteKey + `
  well_known_server_name: %s
  disable_federation: true
  cache:
    max_size_estimated: 64mb
  jetstream:
    storage_path: .
client_api:
  registration_disabled: false
  guests_disabled: true
  rate_limiting:
    enabled: false
federation_api:
  database:
    connection_string: file:federationapi.db
key_server:
  database:
    connection_string: file:keyserver.db
media_api:
  base_path: media
  database:
    connection_string: file:mediaapi.db
mscs:
  database:
    connection_string: file:mscs.db
relay_api:
  database:
    connection_string: file:relayapi.db
room_server:
  database:
    connection_string: file:roomserver.db
sync_api:
  database:
    connection_string: file:syncapi.db
user_api:
  bcrypt_cost: 4 # the lowest: these accounts guard nothing
  account_database:
    connection_string: file:userapi.db
logging:
  - type: std
    level: info
`

// prepareDendrite writes the databases and the signing key if there are none yet.
func prepareDendrite(dir string) error {
	if err := createDatabases(dir, databases...); err != nil {
		return err
	}
	// The server expects the seed of an ed25519 key.
	seed := make([]byte, 32)
	rand.Read(seed)
	return createFile(filepath.Join(dir, dendriteKey), pem.EncodeToMemory(&pem.Block{
		Type:    "MATRIX PRIVATE KEY",
		Headers: map[string]string{"Key-ID": "ed25519:" + rand.Text()},
		Bytes:   seed,
	}))
}
