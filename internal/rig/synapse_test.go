package rig

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaultsAreFoundByName(t *testing.T) {
	known := faults{"test.TestA": "one", "e2ee.TestB": "two"}
	for name, want := range map[string]string{
		"test.TestA":             "one",
		"test.TestA/single":      "one",
		"test.TestA/single/deep": "one",
		"test.TestAlso":          "",
		"e2ee.TestA":             "",
		"e2ee.TestA/single":      "",
		"e2ee.TestB":             "two",
		"e2ee.TestB/perkey":      "two",
		"e2ee.TestBoth":          "",
	} {
		require.Equal(t, want, known.of(name), name)
	}
	require.Equal(t, "rig", thisPackage())
}

// No name stays in the list when its test has another, or is gone.
func TestTestsThatFailOnSynapseExist(t *testing.T) {
	const root = "../.."
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	tests := make(map[string]bool) // by package and name
	require.NoError(t, filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		text, err := os.ReadFile(file)
		dir := filepath.Base(filepath.Dir(file))
		if dir == ".." { // the module's root
			dir = "matrix-memory"
		}
		for _, match := range declared.FindAllSubmatch(text, -1) {
			tests[dir+"."+string(match[1])] = true
		}
		return err
	}))
	require.True(t, tests["rig.TestTestsThatFailOnSynapseExist"])
	for name, fault := range failsOnSynapse {
		require.True(t, tests[name], "no test is called %q, which is in the list of what fails on Synapse; subtests can't be", name)
		require.NotEmpty(t, fault, name)
	}
}
