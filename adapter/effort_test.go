package adapter

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a stranger gave the bot to say costs it neither much time nor memory, however it
// is made.
func TestTextsThatAreMadeToBeLaborious(t *testing.T) {
	const n = 20_000
	for name, text := range map[string]string{
		"emphases that don't end":      strings.Repeat("*a_", n/3),
		"links that don't end":         strings.Repeat("[a](", n/4),
		"brackets in brackets":         strings.Repeat("[", n/2) + strings.Repeat("]", n/2),
		"spoilers and strikethroughs":  strings.Repeat("||||~~*", n/7),
		"quotes in quotes":             strings.Repeat(">", n),
		"lists in lists":               strings.Repeat("- ", n/2),
		"lists in quotes":              strings.Repeat("> - ", n/4),
		"lists in lists, line by line": strings.Repeat(strings.Repeat("- ", 50)+"a\n", n/400),
		"rows of one cell":             "|" + strings.Repeat("a|", 99) + "\n|" + strings.Repeat("-|", 99) + "\n" + strings.Repeat("a\n", n/2),
		"a fence that is long":         strings.Repeat("`", n/2) + strings.Repeat("\n", n/2),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		parts := slices.Collect(speaker().parts(text, "!room:example.org", nil, false))
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		require.Less(t, took, 20*time.Second, name) // a part of that, but for what else the machine does
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(500<<20), name)
		require.LessOrEqual(t, len(parts), 40, name)
		var said strings.Builder
		for _, part := range parts {
			said.WriteString(part.Body)
			marks := len(part.Body) - len(strings.NewReplacer("*", "", "_", "", "[", "", "]", "", "~", "").Replace(part.Body))
			require.LessOrEqual(t, marks*len(part.Body), 25_000_000, "%s: for each mark, goldmark looks at all others, or at all that follows", name)
		}
		bare := func(s string) string { return strings.NewReplacer(" ", "", "\n", "", "`", "").Replace(s) }
		require.Equal(t, bare(text), bare(said.String()), name)
	}
}

// A long text that a bot composes is formatted whole.
func TestLongTextsAreFormatted(t *testing.T) {
	for name, text := range map[string]string{
		"links":   strings.Repeat("- [#123](https://example.org/issues/123): **fix** the_thing\n", 400),
		"fields":  strings.Repeat("**name**: value\n", 500),
		"a table": "| a | b | c |\n|---|:-:|--:|\n" + strings.Repeat("| **1** | - | _2_ |\n", 300),
		"code":    "A log:\n```\n" + strings.Repeat("[info] *some_thing*|else\n", 1000) + "```",
		"numbers": strings.Repeat("1 2 3 4 5 ", 100) + "**end**",
		"a line":  strings.Repeat("- ", 20) + "**end**",
	} {
		parts := slices.Collect(speaker().parts(text, "!room:example.org", nil, false))
		require.Len(t, parts, 1, name)
		require.NotContains(t, parts[0].FormattedBody, "**", name)
		require.NotEmpty(t, parts[0].FormattedBody, name)
	}
	table := speaker().render("| a | b |\n|---|---|\n"+strings.Repeat("| 1 | 2 |\n", 1000), nil)
	require.Contains(t, table.FormattedBody, "<table>")
	require.False(t, hasManyCells(strings.Repeat("| a | b |\n|---|---|\n| 1 | 2 |\n\n", 1000)), "many small tables")
	for _, marker := range []string{">", "> ", "- ", "1. ", "2) "} {
		require.NotEmpty(t, speaker().render(strings.Repeat(marker, maxNesting)+"**a**", nil).FormattedBody, marker)
		require.Empty(t, speaker().render(strings.Repeat(marker, maxNesting+1)+"**a**", nil).FormattedBody, marker)
	}
}
