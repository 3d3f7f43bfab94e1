package test

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the path of this module, whose packages the tests here are about.
const module = "github.com/go-joe/matrix-memory"

// list runs go list for packages of the module and returns its lines.
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
	}
	for _, from := range []string{module, module + "/adapter"} {
		found := list(t, "-deps", "-f", "{{.ImportPath}}", from)
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

// mayImport says, for each package that is not for tests only, which others of the
// module it may import.
var mayImport = map[string][]string{
	"":                     {"/internal/bridge", "/internal/journal", "/internal/outlet", "/internal/room", "/internal/session", "/internal/settings", "/internal/wire"},
	"/adapter":             {"", "/internal/bridge", "/internal/outlet", "/internal/session", "/internal/wire"},
	"/e2ee":                {"", "/internal/bridge", "/internal/session"},
	"/internal/bridge":     {"/internal/outlet", "/internal/room", "/internal/session"},
	"/internal/room":       {"/internal/session", "/internal/commit", "/internal/replica", "/internal/wire", "/internal/journal"},
	"/internal/commit":     {"/internal/replica", "/internal/wire"},
	"/internal/journal":    {},
	"/internal/outlet":     {},
	"/internal/replica":    {"/internal/wire"},
	"/internal/session":    {},
	"/internal/settings":   {},
	"/internal/wire":       {},
	"/memorytest":          {},
	"/internal/process":    {},
	"/internal/product":    {"/internal/process"},
	"/internal/homeserver": {"/internal/process", "/internal/product"},
	"/internal/opsdroid":   {"/internal/process", "/internal/product"},
	"/internal/jssdk":      {"/internal/process", "/internal/product"},
	// The harness of the tests may import what it likes, and examples start a homeserver.
	"/internal/rig":        {"", "/internal/homeserver"},
	"/test/peers":          {},
	"/docs/pictures/scene": {"", "/internal/homeserver"},
	"/examples/encrypted":  {"", "/e2ee", "/internal/homeserver"},
	"/examples/remember":   {"", "/internal/homeserver"},
	"/examples/rooms":      {"", "/adapter", "/internal/homeserver"},
}

// Dependencies point one way: no package imports what mayImport does not grant it.
// Only e2ee reaches the olm machine.
func TestDependenciesPointOneWay(t *testing.T) {
	const format = `{{.ImportPath}} {{len .GoFiles}} {{join .Imports " "}}`
	lines := list(t, "-f", format, module+"/...")
	for _, line := range append(lines, list(t, "-tags", "goolm", "-f", format, module+"/...")...) {
		imports := strings.Fields(line)
		name := strings.TrimPrefix(imports[0], module)
		if imports[1] == "0" {
			continue // tests only
		}
		allowed, known := mayImport[name]
		require.True(t, known, "mayImport does not have %q", name)
		for _, imported := range imports[2:] {
			if part, ours := strings.CutPrefix(imported, module); ours {
				require.Contains(t, allowed, part, "what %q may import", name)
			}
			require.True(t, imported != olmMachine || name == "/e2ee", "%s imports %s", name, imported)
		}
	}
}

// No exported name has a type of an internal package: users could not name it, and
// what is internal could not change.
func TestPublicFaceHasNoInternalTypes(t *testing.T) {
	compiled := make(map[string]string) // where a package's types are, by its path
	for _, line := range list(t, "-tags", "goolm", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", module+"/...") {
		path, file, _ := strings.Cut(line, "=")
		compiled[path] = file
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if compiled[path] == "" {
			return nil, fmt.Errorf("no types of %s", path)
		}
		return os.Open(compiled[path])
	})
	for path := range compiled {
		name, ours := strings.CutPrefix(path, module)
		if !ours || strings.Contains(name, "/internal/") || strings.HasPrefix(name, "/examples/") || strings.HasPrefix(name+"/", "/test/") {
			continue
		}
		pkg, err := from.Import(path)
		require.NoError(t, err)
		for _, exported := range pkg.Scope().Names() {
			if object := pkg.Scope().Lookup(exported); object.Exported() {
				for _, internal := range internalTypes(object) {
					t.Errorf("%s has the type %s", object, internal)
				}
			}
		}
	}
}

// internalTypes returns the types of internal packages that users meet at an object
// of a package: in its signature, its type parameters and arguments, its exported fields
// and methods, those that it gets by embedding among them.
func internalTypes(object types.Object) []string {
	var found []string
	seen := make(map[types.Type]bool)
	var visit func(types.Type)
	methods := func(t types.Type) {
		set := types.NewMethodSet(t)
		for i := range set.Len() {
			if method := set.At(i).Obj(); method.Exported() {
				visit(method.Type())
			}
		}
	}
	parameters := func(list *types.TypeParamList) {
		for i := range list.Len() {
			visit(list.At(i).Constraint())
		}
	}
	visit = func(t types.Type) {
		if t == nil || seen[t] {
			return
		}
		seen[t] = true
		switch t := t.(type) {
		case *types.Alias:
			visit(types.Unalias(t))
		case *types.Named:
			for i := range t.TypeArgs().Len() {
				visit(t.TypeArgs().At(i))
			}
			if pkg := t.Obj().Pkg(); pkg != nil && pkg != object.Pkg() {
				if strings.HasPrefix(pkg.Path(), module+"/internal/") {
					found = append(found, t.String())
				}
				return // other packages' types are their own business
			}
			parameters(t.TypeParams())
			methods(t)
			methods(types.NewPointer(t))
			visit(t.Underlying())
		case *types.Struct:
			for field := range t.Fields() {
				if field.Exported() || field.Embedded() { // whose exported fields are the struct's
					visit(field.Type())
				}
			}
		case *types.Interface:
			methods(t)
			for embedded := range t.EmbeddedTypes() {
				visit(embedded)
			}
		case *types.Union:
			for term := range t.Terms() {
				visit(term.Type())
			}
		case *types.Signature:
			parameters(t.TypeParams())
			visit(t.Params())
			visit(t.Results())
		case *types.Tuple:
			for variable := range t.Variables() {
				visit(variable.Type())
			}
		case *types.Map:
			visit(t.Key())
			visit(t.Elem())
		case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
			visit(t.Elem())
		}
	}
	visit(object.Type())
	slices.Sort(found)
	return found
}

func TestEveryPackageHasADocumentation(t *testing.T) {
	for _, line := range list(t, "-tags", "goolm", "-f", "{{.ImportPath}}|{{.Doc}}|{{len .GoFiles}}", module+"/...") {
		fields := strings.Split(line, "|")
		require.Len(t, fields, 3, line)
		if fields[2] != "0" { // a folder may hold tests only
			require.NotEmpty(t, fields[1], "package %s has no documentation", fields[0])
		}
	}
}
