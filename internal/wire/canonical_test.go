package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parse reads JSON with the standard library, numbers as their text.
func parse(raw []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one value in %q", raw)
	}
	return value, nil
}

// canonical writes a parsed value as canonical JSON, after the grammar in
// https://spec.matrix.org/latest/appendices/#canonical-json. It shares no code
// with the package.
func canonical(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(value)
	case json.Number:
		return value.String()
	case string:
		var quoted strings.Builder
		for _, r := range value {
			if short, ok := map[rune]string{
				'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
			}[r]; ok {
				quoted.WriteString(short)
			} else if r < 0x20 {
				fmt.Fprintf(&quoted, `\u%04x`, r)
			} else {
				quoted.WriteRune(r)
			}
		}
		return `"` + quoted.String() + `"`
	case []any:
		elements := make([]string, len(value))
		for i, element := range value {
			elements[i] = canonical(element)
		}
		return "[" + strings.Join(elements, ",") + "]"
	case map[string]any:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		slices.Sort(names)
		members := make([]string, len(names))
		for i, name := range names {
			members[i] = canonical(name) + ":" + canonical(value[name])
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	panic(fmt.Sprintf("not a JSON value: %T", value))
}

// requireSafe fails unless every homeserver keeps raw as it is: it is canonical
// JSON already, and it holds no number that canonical JSON forbids and no
// U+0000.
func requireSafe(t require.TestingT, raw json.RawMessage) {
	value, err := parse(raw)
	require.NoError(t, err)
	require.Equal(t, canonical(value), string(raw))
	require.LessOrEqual(t, requireSafeParts(t, value), 100, "nests too deep")
}

func requireSafeParts(t require.TestingT, value any) (depth int) {
	switch value := value.(type) {
	case json.Number:
		n, err := strconv.ParseInt(value.String(), 10, 64)
		require.NoError(t, err)
		require.Equal(t, strconv.FormatInt(n, 10), value.String())
		require.LessOrEqual(t, max(n, -n), int64(1)<<53-1)
	case string:
		require.NotContains(t, value, "\x00")
	case []any:
		for _, element := range value {
			depth = max(depth, requireSafeParts(t, element))
		}
		return depth + 1
	case map[string]any:
		for name, element := range value {
			require.NotContains(t, name, "\x00")
			depth = max(depth, requireSafeParts(t, element))
		}
		return depth + 1
	}
	return 0
}

func TestCanonicalChecker(t *testing.T) {
	requireSafe(t, json.RawMessage("{\"a\":[1,-9007199254740991,\"\u2028<\\n\"],\"b\":null}"))
	for _, unsafe := range []string{
		`1.5`, `1e3`, `-0`, `9007199254740992`, `"\u0000"`, `"\u003c"`, `[1, 2]`, `{"b":1,"a":2}`, `{"a":1,"a":2}`,
		strings.Repeat("[", 101) + strings.Repeat("]", 101),
	} {
		var failed recorder
		requireSafe(&failed, json.RawMessage(unsafe))
		require.True(t, bool(failed), unsafe)
	}
}

// recorder is a TestingT that notes a failure.
type recorder bool

func (r *recorder) Errorf(string, ...any) { *r = true }
func (r *recorder) FailNow()              { *r = true }
