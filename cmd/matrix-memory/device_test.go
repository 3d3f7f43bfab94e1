package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
)

// The tool is the token's device only where it can make none of its own: whoever encrypts as that
// device would miss what the tool's sync takes away.
func TestChooseDevice(t *testing.T) {
	for name, test := range map[string]struct {
		conf matrix.Config
		want device
	}{
		"a token":                          {matrix.Config{AccessToken: "t", UserID: "@bot:example.org"}, tokenDevice},
		"a password":                       {matrix.Config{UserID: "@bot:example.org", Password: "p"}, ownDevice},
		"both":                             {matrix.Config{AccessToken: "t", UserID: "@bot:example.org", Password: "p"}, ownDevice},
		"a password that is nobody's":      {matrix.Config{AccessToken: "t", Password: "p"}, tokenDevice},
		"both, and a recovery key":         {matrix.Config{AccessToken: "t", UserID: "@bot:example.org", Password: "p", RecoveryKey: "r"}, ownEncrypted},
		"all of them, and a store of keys": {matrix.Config{AccessToken: "t", UserID: "@bot:example.org", Password: "p", RecoveryKey: "r", StorePath: "s"}, ownEncrypted},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, err := chooseDevice(test.conf)
			require.NoError(t, err)
			require.Equal(t, test.want, chosen)
		})
	}
}
