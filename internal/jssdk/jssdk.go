// Package jssdk runs the real matrix-js-sdk with its Rust crypto, of npm, for tests of what
// it shares with this module: encrypted rooms and the account's keys.
package jssdk

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/go-joe/matrix-memory/internal/process"
	"github.com/go-joe/matrix-memory/internal/product"
)

// Version is that of the matrix-js-sdk which package.json pins: the last for Node.js 20.
const Version = "37.5.0"

var (
	//go:embed package.json
	packages []byte
	//go:embed package-lock.json
	lock []byte
	//go:embed peer.mjs
	peer []byte
)

// Options say how a client is started.
type Options struct {
	Dir                        string // a folder for its log, which must not be another one's
	Homeserver, User, Password string
	Progress                   io.Writer // receives a line now and then while matrix-js-sdk is installed; nil: none
}

// A Client is one of matrix-js-sdk that runs as a child process, with a new device and its keys in
// memory. Its methods may be called by several goroutines at once, and wait for each other.
type Client struct{ *process.Dialogue }

// Start installs matrix-js-sdk on first use, logs a client in, and returns when that has
// synced once. The context bounds that, not its life.
func Start(ctx context.Context, opts Options) (*Client, error) {
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	dir, err := product.Node{
		Name: "matrix-js-sdk-" + Version, Doing: "installing matrix-js-sdk",
		Files: map[string][]byte{"package.json": packages, "package-lock.json": lock, "peer.mjs": peer},
	}.Get(ctx, opts.Progress)
	if err != nil {
		return nil, fmt.Errorf("install matrix-js-sdk %s: %w", Version, err)
	}
	cmd := exec.Command("node", filepath.Join(dir, "peer.mjs"), opts.Homeserver, opts.User, opts.Password)
	dialogue, err := process.Converse(ctx, cmd, filepath.Join(opts.Dir, "matrix-js-sdk.log"))
	if err != nil {
		return nil, fmt.Errorf("start matrix-js-sdk: %w", err)
	}
	return &Client{dialogue}, nil
}

// ErrRaised says that matrix-js-sdk has thrown an error.
var ErrRaised = errors.New("it raised")

// Do does an operation of peer.mjs, and puts what it returns into the variable at answer,
// unless that is nil.
func (c *Client) Do(ctx context.Context, answer any, operation string, arguments ...any) error {
	question, err := json.Marshal(append([]any{operation}, arguments...))
	if err != nil {
		return err
	}
	line, err := c.Ask(ctx, string(question))
	if err != nil {
		return fmt.Errorf("matrix-js-sdk %s: %w", operation, err)
	}
	var said struct {
		Returned json.RawMessage
		Raised   string
	}
	switch err := json.Unmarshal(line, &said); {
	case err != nil:
		return fmt.Errorf("matrix-js-sdk %s: %q is no answer: %w", operation, line, err)
	case said.Raised != "":
		return fmt.Errorf("matrix-js-sdk %s: %w %s", operation, ErrRaised, said.Raised)
	case answer == nil:
		return nil
	}
	return json.Unmarshal(said.Returned, answer)
}
