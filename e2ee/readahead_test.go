//go:build goolm

package e2ee_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// Opening a room fetches no value, and reading one fetches that one. Who reads a
// second one finds the others there, each fetched once.
func TestValuesAreReadAhead(t *testing.T) {
	const values = 20
	bot := register(t)
	conf, proxy := proxied(t, bot.config(t, bot.newRoom(t)))
	memory := open(t, conf)
	for i := range values {
		require.NoError(t, memory.Set(fmt.Sprint(i), fmt.Append(nil, i)))
	}
	require.NoError(t, memory.Close())
	fetched := func() int {
		return proxy.Count(func(r homeserver.Request) bool { return strings.Contains(r.Path, "/event/") })
	}

	memory = open(t, conf)
	require.Zero(t, fetched())
	for range 3 {
		rig.Has(t, memory, "0", "0")
	}
	require.Equal(t, 1, fetched())
	rig.Has(t, memory, "1", "1")
	eventually(t, func() bool { return fetched() == values }, "the other values are not read ahead")
	for i := range values {
		rig.Has(t, memory, fmt.Sprint(i), fmt.Sprint(i))
	}
	require.Equal(t, values, fetched())
}
