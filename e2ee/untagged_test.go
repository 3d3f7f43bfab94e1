//go:build !goolm

package e2ee_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
)

// A program that was built without the tag is told so before anything else.
func TestOpenNamesTheTag(t *testing.T) {
	memory := matrix.New(matrix.Config{
		Homeserver:  "http://127.0.0.1:1", // where nobody listens
		AccessToken: "token",
		DefaultRoom: "!room:example.org",
	}, e2ee.Enable())
	require.ErrorContains(t, memory.Open(t.Context()), "build it with -tags goolm")
	require.NoError(t, memory.Close())
}
