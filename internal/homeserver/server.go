package homeserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/go-joe/matrix-memory/internal/process"
)

const (
	startBound = 2 * time.Minute  // from the start of the process to its first answer
	stopBound  = 15 * time.Second // for a polite stop
)

// serverName is the domain in the user IDs and aliases of the server.
const serverName = "localhost"

// lockFile is the file of the server's folder that is locked while it runs.
const lockFile = "lock"

// ErrFolderInUse says that another server runs in the folder.
var ErrFolderInUse = errors.New("another homeserver is running in this folder; stop it first, or use a folder of its own")

// Options say how a server is started.
type Options struct {
	// Dir is the folder where the server keeps its data, keys and log. It is
	// required; Start creates it when it does not exist. A server that is
	// started on the folder of an earlier one takes over its data, and its port
	// if that is still free; it must be of the same software. Two servers at once
	// need two folders.
	Dir string
	// Software is the program that is started, by default Dendrite.
	Software Software
	// DefaultRateLimits keeps the rate limits of a server that is not configured
	// otherwise, all but that on new accounts; a user of Synapse may then send 10
	// events at once and one in 5 seconds. Without it nothing is limited. It is for
	// Synapse only: Start refuses it for Dendrite.
	DefaultRateLimits bool
	// Progress receives a line now and then while the server is built or
	// installed, and started. Nil means none. It is used by one goroutine at a
	// time, and not after Start or Restart returned.
	Progress io.Writer
}

// Server is a homeserver that runs as a child process. Its methods may be called
// by several goroutines at once; Start, Stop, Kill and Restart wait for each
// other.
type Server struct {
	opts    Options // with an absolute Dir and a Progress
	program *program
	path    string // of the program as it is installed
	port    int    // never changes after Start

	mu   sync.Mutex       // held while the server starts or stops; guards proc
	proc *process.Process // nil: not running
}

// Start builds or installs the server on first use, starts it on a free loopback
// port and returns when its client API answers. The context bounds that, not the
// life of the server. If it ends early, nothing is left running, on Unix.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("start the homeserver: Options.Dir is empty; it names the folder for the server's data")
	}
	program, ok := programs[opts.Software]
	switch {
	case !ok:
		return nil, fmt.Errorf("start the homeserver: Options.Software is %v, which this package does not know", opts.Software)
	case opts.DefaultRateLimits && !program.rateLimits:
		return nil, fmt.Errorf("start the homeserver: Options.DefaultRateLimits is set, but %v here has no limits", opts.Software)
	}
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	var err error
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, fmt.Errorf("start the homeserver: %w", err)
	}
	s := &Server{opts: opts, program: program}
	if s.path, err = program.install(ctx, opts.Progress); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("start the homeserver in %s: %w", opts.Dir, err)
	}
	return s, nil
}

// start is the first start of s: it also chooses the port.
func (s *Server) start(ctx context.Context) error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return err
	}
	s.port = readPort(s.opts.Dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Between the moment that a port is found free and the one at which the
	// server listens on it, somebody else may take it. Then it takes another.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		if s.port == 0 || !portIsFree(s.port) {
			port, err := freePort()
			if err != nil {
				return err
			}
			s.port = port
		}
		err := s.launch(ctx)
		if err == nil {
			return writePort(s.opts.Dir, s.port)
		}
		if attempt == attempts || ctx.Err() != nil || portIsFree(s.port) {
			return err
		}
	}
}

// launch starts the process and waits until it answers. It is called with s.mu
// held.
func (s *Server) launch(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	lock, ok, err := process.TryLock(filepath.Join(s.opts.Dir, lockFile))
	if err != nil {
		return err
	}
	if !ok {
		return ErrFolderInUse
	}
	defer lock.Close() // the process goes on holding it

	instance := rand.Text() + ".invalid"
	if err := s.configure(instance); err != nil {
		return err
	}
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor

	fmt.Fprintf(s.opts.Progress, "starting the homeserver at %s\n", s.URL())
	begin := time.Now()
	cmd := s.program.command(s.path, s.program.configFile(), s.port)
	cmd.Dir = s.opts.Dir
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := process.Start(cmd, lock)
	if err != nil {
		return err
	}
	if err := s.waitReady(ctx, proc, instance); err != nil {
		proc.Kill()
		if errors.Is(ctx.Err(), context.Canceled) {
			return err // the server did nothing wrong
		}
		return fmt.Errorf("%w\nthe homeserver's log ends with:\n%s", err, s.Log())
	}
	s.proc = proc
	fmt.Fprintf(s.opts.Progress, "the homeserver answers after %.1f s\n", time.Since(begin).Seconds())
	return nil
}

// configure writes the configuration for the start that is called instance, and
// what else the server needs in its folder. It is called with the folder locked.
func (s *Server) configure(instance string) error {
	for software, other := range programs {
		_, err := os.Stat(filepath.Join(s.opts.Dir, other.configFile()))
		switch {
		case other == s.program || errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		default:
			return fmt.Errorf("the folder was made by %v; start that, or use another folder for %v", software, s.opts.Software)
		}
	}
	config := s.program.config(settings{s.port, instance, s.opts.DefaultRateLimits})
	if err := os.WriteFile(filepath.Join(s.opts.Dir, s.program.configFile()), []byte(config), 0o600); err != nil {
		return err
	}
	return s.program.prepare(s.opts.Dir)
}

var errEndedAtOnce = errors.New("the process ended at once")

// waitReady waits until the server that was started as instance answers, so that
// another server that took the port first is not mistaken for it.
func (s *Server) waitReady(ctx context.Context, proc *process.Process, instance string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startBound, fmt.Errorf("no answer from %s within %s", s.URL(), startBound))
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if s.answersAs(ctx, instance) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-proc.Exited:
			return fmt.Errorf("%w: %v", errEndedAtOnce, proc.Err())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// answersAs reports whether both the client API answers and the server is the
// one that was started as instance.
func (s *Server) answersAs(ctx context.Context, instance string) bool {
	var wellKnown map[string]any
	return s.get(ctx, s.program.wellKnown, &wellKnown) == nil && wellKnown[s.program.instance] == instance &&
		s.get(ctx, "/_matrix/client/versions", &struct{}{}) == nil
}

// get decodes the server's answer to a GET request.
func (s *Server) get(ctx context.Context, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// URL is the base URL of the server, such as "http://127.0.0.1:43210". It stays
// the same over Stop, Kill and Restart.
func (s *Server) URL() string { return "http://127.0.0.1:" + strconv.Itoa(s.port) }

// Name is the server's name: the domain in its user IDs and room aliases.
func (s *Server) Name() string { return serverName }

// Software is the program that the server runs.
func (s *Server) Software() Software { return s.opts.Software }

// Dir is the folder where the server keeps its data, as an absolute path.
func (s *Server) Dir() string { return s.opts.Dir }

// Ended returns a channel that is closed once the server that runs now has ended,
// by itself or by Stop or Kill.
func (s *Server) Ended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return s.proc.Exited
}

// Stop asks the server to finish and waits until it has. A server that does not
// finish within 15 seconds is killed, and one that had ended by itself is
// reported; both are errors. Stop does nothing to a server that does not run.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	proc := s.proc
	if proc == nil {
		return nil
	}
	s.proc = nil
	switch err := proc.Signal(syscall.SIGTERM); {
	case errors.Is(err, os.ErrProcessDone):
		return fmt.Errorf("the homeserver had ended by itself: %v\nits log ends with:\n%s", proc.Err(), s.Log())
	case err != nil:
		proc.Kill() // there is no polite way on this system
		return nil
	}
	select {
	case <-proc.Exited:
		return nil
	case <-time.After(stopBound):
		proc.Kill()
		return fmt.Errorf("the homeserver did not stop within %s and was killed\nits log ends with:\n%s", stopBound, s.Log())
	}
}

// Kill ends the server by force, giving it no chance to finish anything, and
// waits until it is gone. It does nothing to a server that does not run.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	s.proc.Kill()
	s.proc = nil
	return nil
}

// Restart starts a server that was stopped or killed on the same data and the
// same port, and returns when it answers.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return errors.New("restart the homeserver: it is running; stop or kill it first")
	}
	// Dendrite 0.13.8 that was killed may panic as it starts, when it still has an event to
	// hand out: what takes that up can be there before what it asks. A later start goes well.
	const attempts = 20
	for attempt := 1; ; attempt++ {
		err := s.launch(ctx)
		if err == nil {
			return nil
		}
		if attempt == attempts || !errors.Is(err, errEndedAtOnce) {
			return fmt.Errorf("restart the homeserver in %s: %w", s.opts.Dir, err)
		}
	}
}
