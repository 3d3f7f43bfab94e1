package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// The tool can be installed as an operator installs it, from a release of both modules: go.mod says no more than go
// install takes, and names all that is to be compiled. To compile it all once more would take minutes.
func TestInstalls(t *testing.T) {
	t.Parallel()
	const version = "v0.1.0"
	releases := t.TempDir()
	for path, dir := range map[string]string{
		"github.com/go-joe/matrix-memory":                   filepath.Join("..", ".."),
		"github.com/go-joe/matrix-memory/cmd/matrix-memory": ".",
	} {
		release(t, releases, module.Version{Path: path, Version: version}, dir)
	}
	before, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	bin := t.TempDir()
	install := exec.Command("go", "install", "-n", "-tags", "goolm", "github.com/go-joe/matrix-memory/cmd/matrix-memory@"+version)
	install.Dir = bin // in no module
	install.Env = append(os.Environ(),
		"GOBIN="+bin, "GOMODCACHE="+t.TempDir(), "GOWORK=off", "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw",
		fmt.Sprintf("GOPROXY=file://%s,file://%s/cache/download", releases, strings.TrimSpace(string(before))))
	output, err := install.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), filepath.Join(bin, "matrix-memory"))
}

// release puts a module into a folder that is laid out as a module proxy.
func release(t *testing.T, releases string, of module.Version, dir string) {
	t.Helper()
	folder := filepath.Join(releases, filepath.FromSlash(of.Path), "@v")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	file := filepath.Join(folder, of.Version)
	packed, err := os.Create(file + ".zip")
	require.NoError(t, err)
	defer packed.Close()
	require.NoError(t, zip.CreateFromDir(packed, of, dir))
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".mod", mod, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "list"), []byte(of.Version+"\n"), 0o600))
	require.NoError(t, os.WriteFile(file+".info", fmt.Appendf(nil, `{"Version":%q}`, of.Version), 0o600))
}
