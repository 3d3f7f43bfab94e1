package process

import (
	"bytes"
	"os/exec"
	"time"
)

// toolBound is how long a tool that is killed may take to be gone.
const toolBound = 10 * time.Second

// Run runs a command that makes something, or a part of it, and returns what it printed.
// If cmd's context ends, the command is killed. When Run returns, what the command has
// started is gone as well, on Unix.
func Run(cmd *exec.Cmd) (output []byte, err error) {
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	cmd.WaitDelay = toolBound
	p, err := Start(cmd, nil)
	if err != nil {
		return nil, err
	}
	err = p.Err()
	endGroup(cmd)
	return bytes.TrimSpace(buffer.Bytes()), err
}

// LastLine returns the last line of a tool's output, which tells what went wrong.
func LastLine(output []byte) string {
	output = bytes.TrimSpace(output)
	return string(bytes.TrimSpace(output[bytes.LastIndexByte(output, '\n')+1:]))
}
