package homeserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// serverPackage is the program to build, as the module in the dendrite folder
// pins it.
const serverPackage = "github.com/matrix-org/dendrite/cmd/dendrite"

// progressEvery is the time between two progress lines of something long.
const progressEvery = 5 * time.Second

var pinnedVersion = regexp.MustCompile(`(?m)^(?:require)?\s+github\.com/matrix-org/dendrite\s+v(\S+)`)

// build returns the path of the server program. It builds the program if the
// user's cache folder does not hold it yet, and waits if another process is
// building it at this moment.
func build(ctx context.Context, progress io.Writer) (string, error) {
	module, err := moduleDir()
	if err != nil {
		return "", err
	}
	dir, err := cacheDir(ctx, module)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "dendrite")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build the homeserver: %w", err)
	}
	lock, err := waitLock(ctx, filepath.Join(dir, "lock"), progress)
	if err != nil {
		return "", fmt.Errorf("build the homeserver: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(program); err == nil {
		return program, nil // the holder we waited for has built it
	}

	// What a build that was killed left behind may be half a program.
	unfinished := program + ".unfinished"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("build the homeserver: %w", err)
	}
	if err := goBuild(ctx, module, unfinished, progress); err != nil {
		return "", err
	}
	if err := os.Rename(unfinished, program); err != nil {
		return "", fmt.Errorf("build the homeserver: %w", err)
	}
	return program, nil
}

// moduleDir finds the folder of the module that pins the server: beside this
// source file, where the compiler saw it.
func moduleDir() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "dendrite")
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("the homeserver is built from the sources of this repository, and they are not in %s"+
			" (compile this program from a checkout, without -trimpath, and run it on the same machine): %w", dir, err)
	}
	return dir, nil
}

// cacheDir names the folder for the server that module pins. Another version of
// the server, of a dependency or of Go means another folder.
func cacheDir(ctx context.Context, module string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep the homeserver's program in: %w", err)
	}
	mod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read which homeserver to build: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("read which homeserver to build: %w", err)
	}
	version := pinnedVersion.FindSubmatch(mod)
	if version == nil {
		return "", fmt.Errorf("%s does not require github.com/matrix-org/dendrite", filepath.Join(module, "go.mod"))
	}
	goVersion, err := goCommand(ctx, module, "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("the homeserver is built with the go command, which does not run: %w", err)
	}
	hash := sha256.Sum256(bytes.Join([][]byte{mod, sum, goVersion}, []byte{0}))
	return filepath.Join(cache, "matrix-memory", fmt.Sprintf("dendrite-%s-%x", version[1], hash[:6])), nil
}

// waitLock waits until it holds the lock at path.
func waitLock(ctx context.Context, path string, progress io.Writer) (*os.File, error) {
	const retry = 100 * time.Millisecond
	for waited := time.Duration(0); ; waited += retry {
		lock, ok, err := tryLock(path)
		if err != nil || ok {
			return lock, err
		}
		if waited%progressEvery == 0 {
			fmt.Fprintln(progress, "another process is building the homeserver; waiting for it")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another process that builds it: %w", context.Cause(ctx))
		case <-time.After(retry):
		}
	}
}

// goBuild builds the server that module pins into the file at out.
func goBuild(ctx context.Context, module, out string, progress io.Writer) error {
	cmd := goCommand(ctx, module, "build", "-ldflags=-s -w", "-o", out, serverPackage)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	begin := time.Now()
	fmt.Fprintln(progress, "building the homeserver, which takes some minutes; only the first time")
	p, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("build the homeserver: %w", err)
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintf(progress, "building the homeserver, %.0f s so far; only the first time\n", time.Since(begin).Seconds())
		case <-p.exited:
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("build the homeserver: %w", context.Cause(ctx))
			case p.err != nil:
				return fmt.Errorf("build the homeserver: go build: %w\n%s", p.err, strings.TrimSpace(output.String()))
			}
			fmt.Fprintf(progress, "built the homeserver in %.0f s\n", time.Since(begin).Seconds())
			return nil
		}
	}
}

// goCommand is the go command in module, for this machine and without cgo.
// Settings of the surroundings that are meant for the program under test (-race,
// -mod=vendor, a workspace, another target) do not reach it.
func goCommand(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(),
		"PWD="+module,
		"CGO_ENABLED=0",
		"GO111MODULE=on",
		"GOARCH="+runtime.GOARCH,
		"GOFLAGS=-mod=readonly -buildvcs=false", // not empty: an empty one means that of "go env -w"
		"GOOS="+runtime.GOOS,
		"GOWORK=off",
	)
	setChild(cmd, nil)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
