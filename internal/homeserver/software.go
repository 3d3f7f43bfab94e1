package homeserver

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Software is the program of a homeserver.
type Software int

const (
	// Dendrite is github.com/matrix-org/dendrite, built with the go command.
	Dendrite Software = iota
	// Synapse is the matrix-synapse of PyPI, which needs Python. It runs on Unix.
	Synapse
)

// variable is the environment variable that FromEnvironment reads.
const variable = "MATRIX_MEMORY_HOMESERVER"

// FromEnvironment returns the homeserver that the environment variable
// MATRIX_MEMORY_HOMESERVER asks for: "dendrite", which is also meant when it is
// empty or not set, or "synapse". Anything else is an error.
func FromEnvironment() (Software, error) {
	switch name := os.Getenv(variable); name {
	case "", Dendrite.String():
		return Dendrite, nil
	case Synapse.String():
		return Synapse, nil
	default:
		return 0, fmt.Errorf("%s is %q; set it to %q or %q", variable, name, Dendrite, Synapse)
	}
}

// String returns the name of the software in lower case, such as "dendrite".
func (s Software) String() string {
	if p, ok := programs[s]; ok {
		return p.name
	}
	return fmt.Sprintf("Software(%d)", int(s))
}

// programs says how each software is got and run.
var programs = map[Software]*program{Dendrite: &dendrite, Synapse: &synapse}

// program is what differs from one software to another.
type program struct {
	name string // that of the software, and of its files in the server's folder
	// rateLimits says whether it has limits that Options.DefaultRateLimits keeps.
	rateLimits bool
	// install returns the path of what command runs. If the user's cache folder
	// does not hold that yet, it is made first.
	install func(ctx context.Context, progress io.Writer) (path string, err error)
	// config returns the configuration for a start. The server runs in its folder,
	// and all paths are relative: it may be moved while the server is stopped.
	config func(settings) string
	// prepare writes into the server's folder what else it needs, unless it is there.
	prepare func(dir string) error
	// command runs the server with the configuration in the file config.
	command func(path, config string, port int) *exec.Cmd
	// wellKnown is the path of a JSON object that the server answers with, and
	// instance the member of it that is as the configuration says.
	wellKnown, instance string
}

// settings are what differs from one configuration of a program to another.
type settings struct {
	port              int    // that it listens on
	instance          string // tells this start from any other: a host name that nobody has
	defaultRateLimits bool
}

func (p *program) configFile() string { return p.name + ".yaml" }

func (p *program) logFile() string { return p.name + ".log" }
