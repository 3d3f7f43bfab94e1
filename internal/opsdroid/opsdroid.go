// Package opsdroid runs the real opsdroid, of PyPI, for tests of what it shares with this
// module: rooms and configuration files.
package opsdroid

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/go-joe/matrix-memory/internal/process"
	"github.com/go-joe/matrix-memory/internal/product"
)

// Version is that of the opsdroid which requirements pins.
const Version = "0.31.0"

//go:embed requirements.txt
var requirements []byte

//go:embed driver.py
var driver []byte

// Options say how an opsdroid is started.
type Options struct {
	// Dir is a folder for its files, which must not be another one's.
	Dir string
	// Configuration is the text of its configuration.yaml, which has connectors and
	// databases and nothing else: the rest is added.
	Configuration string
	// Progress receives a line now and then while opsdroid is installed. Nil means none.
	Progress io.Writer
}

// A Bot is an opsdroid that runs as a child process. Its methods may be called by several
// goroutines at once, and wait for each other.
type Bot struct{ *process.Dialogue }

// rest is what every configuration has: a skill that obeys, and nothing that would listen
// or talk by itself. The verbs are for the folder and the skill.
const rest = `
logging: {level: warning, console: true}
welcome-message: false
module-path: %q
web: {host: 127.0.0.1, port: 0}
parsers: {regex: {}}
skills: {driver: {path: %q}}
`

// Start installs opsdroid on first use, starts it by its own command line, and returns when
// it is in its rooms. The context bounds that, not its life. It is ended by force: asked
// politely, opsdroid 0.31.0 may hang.
func Start(ctx context.Context, opts Options) (*Bot, error) {
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	python, err := product.Python{
		Name: "opsdroid-" + Version, Doing: "installing opsdroid", Requirements: requirements, Module: "opsdroid.database.matrix",
	}.Get(ctx, opts.Progress)
	if err != nil {
		return nil, fmt.Errorf("install opsdroid %s: %w", Version, err)
	}
	bot, err := start(ctx, python, opts)
	if err != nil {
		return nil, fmt.Errorf("start opsdroid in %s: %w", opts.Dir, err)
	}
	return bot, nil
}

func start(ctx context.Context, python string, opts Options) (*Bot, error) {
	file := func(name string, content []byte) (path string, err error) {
		path = filepath.Join(opts.Dir, name)
		return path, os.WriteFile(path, content, 0o600)
	}
	home := filepath.Join(opts.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	skill, err := file("driver.py", driver)
	if err != nil {
		return nil, err
	}
	configuration, err := file("configuration.yaml", []byte(opts.Configuration+fmt.Sprintf(rest, filepath.Join(opts.Dir, "modules"), skill)))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, "-W", "ignore", "-m", "opsdroid", "start", "-f", configuration)
	cmd.Dir = opts.Dir
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "HTTPS_PROXY=", "PYTHONPATH=")
	dialogue, err := process.Converse(ctx, cmd, filepath.Join(opts.Dir, "opsdroid.log"))
	if err != nil {
		return nil, err
	}
	return &Bot{dialogue}, nil
}

// Put stores a value, which is JSON as Python reads it: it may hold NaN.
func (b *Bot) Put(ctx context.Context, key, value string) error {
	_, err := b.do(ctx, "put", text(key), value)
	return err
}

// Get returns the value of a key as JSON, as Python writes it. It is "null" if there is none.
func (b *Bot) Get(ctx context.Context, key string) (string, error) {
	return b.do(ctx, "get", text(key))
}

// Delete takes keys away and returns what opsdroid does then.
func (b *Bot) Delete(ctx context.Context, keys ...string) (string, error) {
	if len(keys) == 1 {
		return b.do(ctx, "delete", text(keys[0]))
	}
	list, _ := json.Marshal(keys) // strings can always be encoded
	return b.do(ctx, "delete", string(list))
}

func text(key string) string {
	quoted, _ := json.Marshal(key) // a string can always be encoded
	return string(quoted)
}

// do lets the database do something, and returns what it does.
func (b *Bot) do(ctx context.Context, operation string, arguments ...string) (string, error) {
	question := `["` + operation + `"`
	for _, argument := range arguments {
		question += "," + argument
	}
	answer, err := b.Ask(ctx, question+"]")
	if err != nil {
		return "", fmt.Errorf("opsdroid %s: %w", operation, err)
	}
	if returned, ok := bytes.CutPrefix(answer, []byte(`{"returned": `)); ok { // which need be no JSON
		return string(bytes.TrimSuffix(returned, []byte("}\n"))), nil
	}
	var raised struct{ Raised string }
	if err := json.Unmarshal(answer, &raised); err != nil {
		return "", fmt.Errorf("opsdroid %s: %q is no answer: %w", operation, answer, err)
	}
	return "", fmt.Errorf("opsdroid %s: %w %s", operation, ErrRaised, raised.Raised)
}

// ErrRaised says that opsdroid's database has raised an exception.
var ErrRaised = errors.New("it raised")
