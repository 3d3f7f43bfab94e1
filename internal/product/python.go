package product

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-joe/matrix-memory/internal/process"
)

// Python is a virtual environment of Python 3.11 or newer, with packages of PyPI.
//
// Many of an environment's files hold the path under which it was made. It may be moved
// nevertheless, as a product is: its Python finds its modules from where it stands itself,
// and only the scripts, which nobody is to run, need the old path.
type Python struct {
	Name         string // of its folder in the cache
	Doing        string // what a progress line says meanwhile
	Requirements []byte // pins all packages, as pip reads it
	Module       string // that has to be importable
	Until        int    // the first 3.x that it can't be; 0: any can be
}

// Get returns the path of the environment's Python. It makes the environment on first use.
func (p Python) Get(ctx context.Context, progress io.Writer) (path string, err error) {
	python, version, err := p.find(ctx)
	if err != nil {
		return "", err
	}
	dir, err := Dir(p.Name, p.Requirements, version)
	if err != nil {
		return "", err
	}
	venv, err := Product{Dir: dir, Name: "venv", Doing: p.Doing, Make: func(ctx context.Context, venv string) error {
		return p.make(ctx, python, venv)
	}}.Get(ctx, progress)
	if err != nil {
		return "", err
	}
	return venvPython(venv), nil
}

func venvPython(venv string) string { return filepath.Join(venv, "bin", "python") }

// make makes a virtual environment, and sees that what is in it can be run.
func (p Python) make(ctx context.Context, python, venv string) error {
	run := func(python string, args ...string) error {
		cmd := exec.CommandContext(ctx, python, append([]string{"-I"}, args...)...)
		cmd.Env = append(os.Environ(),
			"TMPDIR="+filepath.Dir(venv),
			// Settings that make pip install elsewhere; it ignores empty ones.
			"PIP_PREFIX=", "PIP_ROOT=", "PIP_TARGET=", "PIP_USER=",
		)
		if output, err := process.Run(cmd); err != nil {
			return fmt.Errorf("%w: %s", err, process.LastLine(output))
		}
		return nil
	}
	if err := run(python, "-m", "venv", venv); err != nil {
		return fmt.Errorf("%s -m venv: %w", python, err)
	}
	list := filepath.Join(venv, "requirements.txt")
	if err := os.WriteFile(list, p.Requirements, 0o644); err != nil {
		return err
	}
	if err := run(venvPython(venv), "-m", "pip", "install",
		"--quiet", "--no-input", "--disable-pip-version-check", "--requirement", list); err != nil {
		return fmt.Errorf("pip, which needs PyPI or the index that it is set to use, and where there is no wheel for"+
			" the machine, as on macOS, also Rust and a C compiler: %w", err)
	}
	if err := run(venvPython(venv), "-W", "ignore", "-c", "import "+p.Module); err != nil {
		return fmt.Errorf("what pip installed does not run (pip config list shows settings that may be the reason): %w", err)
	}
	return nil
}

// probe ends well on a Python of a version that fits, and prints what tells it from others.
const probe = `
import sys
if not (3, 11) <= sys.version_info < (3, %d):
    sys.exit("it is Python %%d.%%d" %% sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as e:
    sys.exit("it can't make virtual environments: %%s" %% e)
print(sys.version, sys.base_prefix)
`

// find finds a Python that fits, and returns what it prints.
func (p Python) find(ctx context.Context) (path string, version []byte, err error) {
	until, fits := p.Until, "Python 3.11 or newer"
	if until == 0 {
		until = 1000
	} else {
		fits = fmt.Sprintf("Python 3.11 to 3.%d", until-1)
	}
	var reasons []string
	for _, name := range []string{"python3", "python3.12", "python3.11"} {
		output, err := process.Run(exec.CommandContext(ctx, name, "-I", "-c", fmt.Sprintf(probe, until)))
		switch {
		case err == nil:
			return name, output, nil
		case ctx.Err() != nil:
			return "", nil, fmt.Errorf("ask %s for its version: %w", name, context.Cause(ctx))
		case len(output) > 0:
			reasons = append(reasons, name+": "+process.LastLine(output))
		default:
			reasons = append(reasons, name+": "+err.Error())
		}
	}
	return "", nil, errors.New("it needs " + fits + " with the module venv, in the PATH as python3, python3.12 or" +
		" python3.11; where python3 is another, install one of these beside it, from the system's packages (such as" +
		" python3.12 and python3.12-venv) or with pyenv: " + strings.Join(reasons, "; "))
}
