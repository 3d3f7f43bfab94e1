package session

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSameHost(t *testing.T) {
	for _, test := range []struct {
		from, to string
		same     bool
	}{
		{"https://a.example/x", "https://a.example/y", true},
		{"https://a.example", "https://A.example:443", true},
		{"http://a.example", "http://a.example:80", true},
		{"http://a.example", "https://a.example", true},
		{"http://a.example:8008", "https://a.example:8448", true},
		{"https://a.example", "http://a.example", false},
		{"https://a.example:443", "http://a.example:443", false},
		{"https://a.example", "https://a.example:8448", false},
		{"http://a.example", "http://a.example:8008", false},
		{"https://a.example", "https://www.a.example", false},
		{"https://www.a.example", "https://a.example", false},
		{"http://a.example", "https://b.example", false},
		{"https://a.example", "ftp://a.example", false},
	} {
		from, err := url.Parse(test.from)
		require.NoError(t, err)
		to, err := url.Parse(test.to)
		require.NoError(t, err)
		require.Equal(t, test.same, sameHost(from, to), "%s to %s", from, to)
	}
}
