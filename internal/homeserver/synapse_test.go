package homeserver

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequirementsPinSynapse(t *testing.T) {
	require.Regexp(t, `(?m)^matrix-synapse==`+synapseVersion+`$`, string(requirements))
	require.NotRegexp(t, `(?m)^[^#\n]*(//|@|[<>])`, string(requirements))
}
