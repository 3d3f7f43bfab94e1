package product

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/go-joe/matrix-memory/internal/process"
)

// Node is a folder with packages of npm, for Node.js 20 or newer.
type Node struct {
	Name  string // of its folder in the cache
	Doing string // what a progress line says meanwhile
	// Files of the folder by name: package.json and package-lock.json, which pins all
	// packages, and the modules that use them.
	Files map[string][]byte
}

// nodeProbe ends well on a Node.js of a version that fits, and prints what tells it from others.
const nodeProbe = `
if (parseInt(process.versions.node) < 20) { console.error("it is Node.js " + process.version); process.exit(1); }
console.log(process.version, process.arch);
`

// Get returns the path of the folder. It makes the folder on first use.
func (n Node) Get(ctx context.Context, progress io.Writer) (path string, err error) {
	version, err := process.Run(exec.CommandContext(ctx, "node", "-e", nodeProbe))
	if err == nil {
		_, err = exec.LookPath("npm")
	}
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("ask node for its version: %w", context.Cause(ctx))
	case err != nil && len(version) > 0:
		err = errors.New(process.LastLine(version))
		fallthrough
	case err != nil:
		return "", fmt.Errorf("it needs Node.js 20 or newer with npm, in the PATH as node and npm; install them from the system's packages"+
			" (such as nodejs and npm) or from nodejs.org: %w", err)
	}
	parts := [][]byte{version}
	for _, name := range []string{"package.json", "package-lock.json"} {
		parts = append(parts, n.Files[name])
	}
	dir, err := Dir(n.Name, parts...)
	if err != nil {
		return "", err
	}
	path, err = Product{Dir: dir, Name: "packages", Doing: n.Doing, Make: n.make}.Get(ctx, progress)
	if err != nil {
		return "", err
	}
	return path, n.write(path) // the modules may have changed since
}

func (n Node) make(ctx context.Context, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	if err := n.write(path); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = path
	if output, err := process.Run(cmd); err != nil {
		return fmt.Errorf("npm, which needs its registry or the one that it is set to use: %w: %s", err, process.LastLine(output))
	}
	return nil
}

func (n Node) write(path string) error {
	for name, content := range n.Files {
		if err := os.WriteFile(filepath.Join(path, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
