package main

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/go-joe/joe"
)

// quitLine ends the chat.
const quitLine = "quit"

// terminal is joe's own adapter for the terminal, on any input and output. It
// prompts only where a person types.
func terminal(stdin io.Reader, stdout io.Writer) joe.Module {
	return joe.ModuleFunc(func(conf *joe.Config) error {
		cli := joe.NewCLIAdapter(conf.Name, conf.Logger("terminal"))
		cli.Input = &input{from: bufio.NewReader(stdin)}
		cli.Output = stdout
		if !isTerminal(stdin) {
			cli.Prefix = ""
		}
		conf.SetAdapter(cli)
		return nil
	})
}

// An input hands lines to joe's adapter one by one, and ends with one that quits:
// at its end the adapter would wait for ever, and it would drop a last line that
// no line break ends. The bot handles lines in their order, so it has answered
// all of them when it quits.
type input struct {
	from *bufio.Reader
	line string // what is left of the present line
	last bool   // there is no line after it
}

func (in *input) Read(p []byte) (int, error) {
	if in.line == "" {
		if in.last {
			return 0, io.EOF
		}
		in.next()
	}
	n := copy(p, in.line)
	in.line = in.line[n:]
	return n, nil
}

// next reads the next line. An input that fails ends, too.
func (in *input) next() {
	line, err := in.from.ReadString('\n')
	line = strings.TrimSpace(line)
	if err != nil && line == "" {
		line = quitLine
	}
	in.last = strings.EqualFold(line, quitLine)
	in.line = line + lineBreak()
}

// lineBreak is what joe's adapter takes off a line.
func lineBreak() string {
	if runtime.GOOS == "windows" {
		return "\r\n"
	}
	return "\n"
}

// Close does nothing: a terminal can't be closed while it is read.
func (in *input) Close() error { return nil }

func isTerminal(stdin io.Reader) bool {
	file, ok := stdin.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
