package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEqual(t *testing.T) {
	for _, same := range [][2]string{
		{`{"a":1,"b":2}`, ` { "b" : 2, "a" : 1 } `},
		{`"é"`, `"\u00e9"`},
		{`[{}]`, `[ { } ]`},
	} {
		require.True(t, Equal([]byte(same[0]), []byte(same[1])), "%s and %s", same[0], same[1])
	}
	for _, other := range [][2]string{
		{`1`, `1.0`}, {`{"a":1}`, `{"a":2}`}, {`{"a":1}`, `{"b":1}`}, {`[1,2]`, `[2,1]`}, {`1`, ``}, {`x`, `y`}, {`null`, `{}`},
	} {
		require.False(t, Equal([]byte(other[0]), []byte(other[1])), "%s and %s", other[0], other[1])
	}
}
