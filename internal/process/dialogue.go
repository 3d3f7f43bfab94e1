package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
)

// A Dialogue is one with a child process that reads questions from its descriptor 3, a line
// each, and writes an answer to each, a line, to its descriptor 4. Its methods may be called
// by several goroutines at once, and wait for each other.
type Dialogue struct {
	Greeting []byte // the line that it has written unasked

	process *Process
	log     string

	mu      sync.Mutex // held from a question to its answer; owns what follows
	ask     *os.File
	answers *bufio.Reader
}

// Converse starts cmd, which logs to a file, and waits for the first line, which it writes
// unasked once it is ready.
func Converse(ctx context.Context, cmd *exec.Cmd, log string) (*Dialogue, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the process has its own descriptor, as of the pipes' ends
	questions, ask, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer questions.Close()
	answers, say, err := os.Pipe()
	if err != nil {
		ask.Close()
		return nil, err
	}
	defer say.Close()
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = file, file, []*os.File{questions, say}
	process, err := Start(cmd, nil)
	if err != nil {
		ask.Close()
		answers.Close()
		return nil, err
	}
	d := &Dialogue{process: process, log: log, ask: ask, answers: bufio.NewReader(answers)}
	if d.Greeting, err = d.answer(ctx); err != nil {
		d.End()
		return nil, err
	}
	return d, nil
}

// Ask asks and returns the answer. A process that does not answer before the context ends is
// of no further use, so that kills it.
func (d *Dialogue) Ask(ctx context.Context, question string) (answer []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintln(d.ask, question); err != nil {
		return nil, err
	}
	return d.answer(ctx)
}

func (d *Dialogue) answer(ctx context.Context) ([]byte, error) {
	defer context.AfterFunc(ctx, d.process.Kill)()
	line, err := d.answers.ReadBytes('\n')
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer: %w; its log ends with:\n%s", context.Cause(ctx), d.Log())
	case err != nil:
		return nil, fmt.Errorf("it has ended: %v; its log ends with:\n%s", d.process.Err(), d.Log())
	}
	return line, nil
}

// Log returns the end of what the process has logged.
func (d *Dialogue) Log() string {
	log, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4000):])
}

// End kills the process and waits until it is gone.
func (d *Dialogue) End() {
	d.process.Kill()
	d.ask.Close()
}
