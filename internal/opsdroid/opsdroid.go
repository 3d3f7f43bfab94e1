// Package opsdroid runs the real opsdroid, of PyPI, for tests of what it shares with this
// module: rooms and configuration files.
package opsdroid

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

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
type Bot struct {
	log  string // the file that it logs to
	proc *process.Process
	ask  *os.File

	mu      sync.Mutex // owns what follows, and whose turn it is to ask
	answers *bufio.Reader
}

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
// it is in its rooms. The context bounds that, not its life.
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
	log, err := os.Create(filepath.Join(opts.Dir, "opsdroid.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own descriptor
	questions, ask, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer questions.Close()
	answers, say, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, ask.Close())
	}
	defer say.Close()

	cmd := exec.Command(python, "-W", "ignore", "-m", "opsdroid", "start", "-f", configuration)
	cmd.Dir = opts.Dir
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home, "HTTPS_PROXY=", "PYTHONPATH=")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{questions, say}
	proc, err := process.Start(cmd, nil)
	if err != nil {
		return nil, errors.Join(err, ask.Close(), answers.Close())
	}
	bot := &Bot{log: log.Name(), proc: proc, ask: ask, answers: bufio.NewReader(answers)}
	if _, err := bot.answer(ctx); err != nil {
		bot.Stop()
		return nil, err
	}
	return bot, nil
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := fmt.Fprintln(b.ask, question+"]"); err != nil {
		return "", fmt.Errorf("opsdroid %s: %w", operation, err)
	}
	returned, err := b.answer(ctx)
	if err != nil {
		return "", fmt.Errorf("opsdroid %s: %w", operation, err)
	}
	return returned, nil
}

// ErrRaised says that opsdroid's database has raised an exception.
var ErrRaised = errors.New("it raised")

// answer reads what the driver says next. A driver that does not answer in time is of no
// further use, so that ends opsdroid.
func (b *Bot) answer(ctx context.Context) (returned string, err error) {
	defer context.AfterFunc(ctx, b.proc.Kill)()
	line, err := b.answers.ReadBytes('\n')
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("no answer: %w; its log ends with:\n%s", context.Cause(ctx), b.Log())
	case err != nil:
		return "", fmt.Errorf("it has ended: %v; its log ends with:\n%s", b.proc.Err(), b.Log())
	}
	var answer struct {
		Raised string
	}
	const prefix = `{"returned": `
	if text := string(line); len(text) > len(prefix) && text[:len(prefix)] == prefix {
		return text[len(prefix) : len(text)-len("}\n")], nil
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return "", fmt.Errorf("an answer that is none, %q: %w", line, err)
	}
	return "", fmt.Errorf("%w %s", ErrRaised, answer.Raised)
}

// Log returns the end of what opsdroid has logged.
func (b *Bot) Log() string {
	log, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4000):])
}

// Stop ends opsdroid and waits until it is gone. It is killed: asked politely, opsdroid
// 0.31.0 may hang.
func (b *Bot) Stop() {
	b.proc.Kill()
	_ = b.ask.Close()
}
