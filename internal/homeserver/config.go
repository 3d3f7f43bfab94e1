package homeserver

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// serverName is the domain in the user IDs and aliases of the server.
const serverName = "localhost"

// The files in the server's folder that this package writes itself. The server
// runs in that folder, so it may be moved while the server is stopped.
const (
	configFile = "dendrite.yaml"
	keyFile    = "matrix_key.pem"
	logFile    = "dendrite.log"
	portFile   = "port"
	lockFile   = "lock"
)

// configTemplate holds the verb for the name that tells one start of the server
// from any other. It is served at /.well-known/matrix/server, which nobody else
// asks for as long as federation is off.
//
// Dendrite drops what else stands in a SQLite connection string, so it takes no
// pragmas there: see createDatabases.
const configTemplate = `version: 2
global:
  server_name: ` + serverName + `
  private_key: ` + keyFile + `
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

// writeConfig writes the server's configuration into dir, and its signing key
// if there is none yet. The instance is a name for this start of the server.
func writeConfig(dir, instance string) error {
	config := fmt.Sprintf(configTemplate, instance)
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(config), 0o600); err != nil {
		return err
	}
	if err := createDatabases(dir); err != nil {
		return err
	}
	// The server expects the seed of an ed25519 key.
	seed := make([]byte, 32)
	rand.Read(seed)
	return createFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{
		Type:    "MATRIX PRIVATE KEY",
		Headers: map[string]string{"Key-ID": "ed25519:" + randomHex()},
		Bytes:   seed,
	}))
}

// randomHex returns a random name.
func randomHex() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// readPort returns the port that the server in dir had when it last ran, or 0 if
// that can't be told: any other will do.
func readPort(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, portFile))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return port
}

func writePort(dir string, port int) error {
	return writeFile(filepath.Join(dir, portFile), []byte(strconv.Itoa(port)+"\n"))
}
