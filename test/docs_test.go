package test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// root is where the pages and the sources are.
const root = "../"

// A block is a fenced block of one of the repository's pages.
type block struct {
	page, language, text string
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns the blocks of README.md and docs in a language.
func blocks(t *testing.T, language string) []block {
	t.Helper()
	pages, err := filepath.Glob(root + "docs/*.md")
	require.NoError(t, err)
	var found []block
	for _, page := range append(pages, root+"README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, match := range fence.FindAllSubmatch(text, -1) {
			if string(match[1]) == language {
				found = append(found, block{page, language, string(match[2])})
			}
		}
	}
	require.NotEmpty(t, found)
	return found
}

func (b block) isProgram() bool { return strings.HasPrefix(b.text, "package ") }

// The programs in the pages compile.
func TestProgramsInThePagesCompile(t *testing.T) {
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	file := filepath.Join(t.TempDir(), "overlay.json")
	args := []string{"build", "-tags", "goolm", "-overlay", file, "-o", os.DevNull}
	for i, b := range blocks(t, "go") {
		if !b.isProgram() {
			continue
		}
		dir := fmt.Sprintf("page-program-%d", i) // in the module, and nowhere else
		place, err := filepath.Abs(filepath.Join(root, dir, "main.go"))
		require.NoError(t, err)
		overlay.Replace[place] = filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(overlay.Replace[place], []byte(b.text), 0o600))
		args = append(args, root+dir)
	}
	require.NotEmpty(t, overlay.Replace)
	text, err := json.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	output, err := exec.Command("go", args...).CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// The fragments in the pages are taken from examples and tests, word for word
// but for the indentation, so that they run.
func TestFragmentsInThePagesRun(t *testing.T) {
	var sources strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, root+"examples") || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		sources.WriteString(unindented(string(text)))
		return err
	}))
	for _, b := range blocks(t, "go") {
		if !b.isProgram() {
			require.True(t, strings.Contains(sources.String(), unindented(b.text)), "%s: no test runs this fragment:\n%s", b.page, b.text)
		}
	}
}

func unindented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}

// Each picture in the pages is there, says in words what it shows, and is an image on its own:
// it is XML, and asks no other host for anything. No page does without one that is there.
func TestPicturesInThePages(t *testing.T) {
	picture := regexp.MustCompile(`!\[([^]]*)\]\(([^)]+)\)`)
	pages, err := filepath.Glob(root + "docs/*.md")
	require.NoError(t, err)
	used := make(map[string]bool)
	for _, page := range append(pages, root+"README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, match := range picture.FindAllStringSubmatch(string(text), -1) {
			require.Greater(t, len(match[1]), 20, "%s: what %s shows", page, match[2])
			used[filepath.Join(filepath.Dir(page), match[2])] = true
		}
	}
	there, err := filepath.Glob(root + "docs/images/*")
	require.NoError(t, err)
	require.ElementsMatch(t, there, slices.Collect(maps.Keys(used)))

	elsewhere := regexp.MustCompile(`(href|src)="[^#]|url\((['"]?)[^#'"]`)
	for _, name := range there {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Less(t, len(text), 60_000, name)
		require.NotRegexp(t, elsewhere, string(text), name)
		decoder := xml.NewDecoder(bytes.NewReader(text))
		for {
			_, err := decoder.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, name)
		}
	}
}

// The configurations in the pages can be loaded.
func TestConfigurationsInThePagesLoad(t *testing.T) {
	variable := regexp.MustCompile(`\$([A-Z_]+)`)
	for _, b := range blocks(t, "yaml") {
		for _, name := range variable.FindAllStringSubmatch(b.text, -1) {
			t.Setenv(name[1], "open sesame")
		}
		file := filepath.Join(t.TempDir(), "configuration.yaml")
		require.NoError(t, os.WriteFile(file, []byte(b.text), 0o600))
		_, err := matrix.LoadConfig(file)
		require.NoError(t, err, b.page)
	}
}

// The table of settings in the README lists every field of Config.
func TestReadmeListsEverySetting(t *testing.T) {
	text, err := os.ReadFile(root + "README.md")
	require.NoError(t, err)
	config := reflect.TypeFor[matrix.Config]()
	for i := range config.NumField() {
		if field := config.Field(i); field.IsExported() {
			require.Regexp(t, "(?m)^\\| `\\w+` \\| \\w+ \\| `"+field.Name+"` \\|", string(text), "no row for "+field.Name)
		}
	}
}

// The samples in the page on the wire format are what the code writes.
func TestWireFormatSamples(t *testing.T) {
	text, err := os.ReadFile(root + "docs/wire-format.md")
	require.NoError(t, err)
	values, keys, found := strings.Cut(string(text), "## Keys")
	require.True(t, found)

	row := regexp.MustCompile("(?m)^\\| `([^`\n]*)` \\| `([^`\n]*)` \\| `([^`\n]*)` \\|$")
	samples := row.FindAllStringSubmatch(values, -1)
	require.NotEmpty(t, samples)
	for _, sample := range samples {
		value := []byte(sample[1])
		require.Equal(t, sample[2], string(wire.EncodeValue(value)), sample[0])
		require.Equal(t, sample[3], string(wire.EncodeSealed(value)), sample[0])
	}
	samples = row.FindAllStringSubmatch(keys, -1)
	require.NotEmpty(t, samples)
	for _, sample := range samples {
		key, err := strconv.Unquote(sample[1])
		require.NoError(t, err, sample[0])
		require.Equal(t, sample[2], strconv.Quote(wire.EncodeKey(key)), sample[0])
		require.Equal(t, sample[3], strconv.Quote(wire.StateKey(key)), sample[0])
	}
}
