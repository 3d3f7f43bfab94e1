package matrix_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// list runs go list and returns its lines, each a package.
func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // or packages with cgo would list their other files
	var complaints strings.Builder
	cmd.Stderr = &complaints
	output, err := cmd.Output()
	require.NoError(t, err, complaints.String())
	return strings.Split(strings.TrimSpace(string(output)), "\n")
}

// Who keeps a bot's memory in a room, or talks there, must not pay for encryption,
// a database or a C compiler. (mautrix itself needs crypto/olm, which declares
// interfaces only.)
func TestDependenciesStaySmall(t *testing.T) {
	unwanted := []string{
		olmMachine,
		"maunium.net/go/mautrix/crypto/goolm",
		"maunium.net/go/mautrix/crypto/goolm/account",
		"maunium.net/go/mautrix/crypto/goolm/session",
		"maunium.net/go/mautrix/crypto/libolm",
		"github.com/mattn/go-sqlite3",
		"github.com/lib/pq",
		"github.com/jackc/pgx",
		"modernc.org/sqlite",
		"testing",
		"github.com/stretchr/testify",
		"github.com/go-joe/matrix-memory/internal/homeserver",
		"github.com/go-joe/matrix-memory/adapter",
		"github.com/go-joe/matrix-memory/e2ee",
	}
	for _, from := range []string{".", "./adapter"} {
		found := list(t, "-deps", "-f", "{{.ImportPath}}", from)
		found = found[:len(found)-1] // the last is the package itself
		require.Contains(t, found, "maunium.net/go/mautrix", "go list lists what the package needs")
		for _, name := range unwanted {
			require.NotContains(t, found, name)
		}
		withCgo := list(t, "-deps", "-f", "{{if not .Standard}}{{if .CgoFiles}}{{.ImportPath}}{{end}}{{end}}", from)
		require.Equal(t, []string{""}, withCgo, "packages that need a C compiler")
	}
}

// olmMachine is the package that encrypts and decrypts.
const olmMachine = "maunium.net/go/mautrix/crypto"

// The order of the module's packages: each may import those that follow. Only e2ee
// reaches the olm machine, and only tests and examples what is there for them.
func TestDependenciesPointOneWay(t *testing.T) {
	const module = "github.com/go-joe/matrix-memory"
	inside := []string{"/internal/session", "/internal/commit", "/internal/replica", "/internal/wire"}
	allowed := map[string][]string{
		module + "/adapter":          append(inside, ""),
		module + "/e2ee":             append(inside, ""),
		module:                       inside,
		module + "/internal/session": {},
		module + "/internal/commit":  {"/internal/replica", "/internal/wire"},
		module + "/internal/replica": {"/internal/wire"},
		module + "/internal/wire":    {},
		module + "/memorytest":       {},
	}
	for name, below := range allowed {
		for _, dependency := range list(t, "-tags", "goolm", "-deps", "-f", "{{.ImportPath}}", name) {
			part, ours := strings.CutPrefix(dependency, module)
			require.True(t, !ours || dependency == name || slices.Contains(below, part), "%s imports %s", name, dependency)
			require.True(t, dependency != olmMachine || name == module+"/e2ee", "%s imports %s", name, dependency)
		}
	}
	for _, line := range list(t, "-tags", "goolm", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		imports := strings.Fields(line)
		if strings.HasPrefix(imports[0], module+"/examples/") {
			continue
		}
		for _, helper := range []string{"/memorytest", "/internal/homeserver"} {
			require.NotContains(t, imports[1:], module+helper, "%s imports what is for tests", imports[0])
		}
	}
}

func TestEveryPackageHasADocumentation(t *testing.T) {
	for _, line := range list(t, "-tags", "goolm", "-f", "{{.ImportPath}}|{{.Doc}}|{{len .GoFiles}}", "./...") {
		fields := strings.Split(line, "|")
		require.Len(t, fields, 3, line)
		if fields[2] != "0" { // a folder may hold tests only
			require.NotEmpty(t, fields[1], "package %s has no documentation", fields[0])
		}
	}
}
