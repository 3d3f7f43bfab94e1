package adapter

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cutUp splits a text into parts of at most most bytes.
func cutUp(text string, most int) []string {
	var parts []string
	split(text, most, func(part string) bool { return len(part) <= most }, func(part string) bool { parts = append(parts, part); return true })
	return parts
}

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		text  string
		most  int
		parts []string
	}{
		{"short", 10, []string{"short"}},
		{"", 10, nil},
		{" \n\n ", 10, nil},
		{"one\ntwo\nthree\n", 8, []string{"one\ntwo\n", "three\n"}},
		{"one\n\n\n\n\n\n\n\n\n\ntwo", 8, []string{"one\n\n\n\n\n", "\n\n\n\n\ntwo"}},
		{"a line that is too long\nb", 10, []string{"a line tha", "t is too l", "ong\nb"}},
		{"ääää", 5, []string{"ää", "ää"}},
		{"```go\n1\n2\n3\n4\n```\nend", 13, []string{"```go\n1\n2\n```", "```go\n3\n4\n```", "end"}},
		{"```aaaaaaaaaa```", 10, []string{"```aaaaaaa", "aaa```"}},
		{"```\naaaaaaaa```\n```\nb", 14, []string{"```\naaaaaa\n```", "```\naa```\n```\n", "b"}},
		{"```aaaaaaaa\n12\n```\nb", 14, []string{"```aaaaaaaa", "\n12\n```\nb\n```"}}, // a fence that leaves no room is let go
		{"```\naaaaaa```\nb", 14, []string{"```\naaaaaa\n```", "```\n```\nb"}},
		{"```\nab😀\n```", 10, []string{"```\nab\n```", "😀\n", "```\n```"}}, // so is one that leaves too little
		{"~~~~\n```\n1\n~~~~\n~~~~\nab\n~~~~\n", 18, []string{"~~~~\n```\n1\n~~~~\n", "~~~~\nab\n~~~~\n"}},
	} {
		require.Equal(t, test.parts, cutUp(test.text, test.most), "%q", test.text)
	}
}

// Nothing of a text is lost, whatever it is, and each part fits and is whole.
func TestSplitKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.StringOf(rapid.RuneFrom([]rune("abcä€😀 *_")))).Draw(t, "lines")
		text := strings.Join(lines, "\n")
		most := rapid.IntRange(4, 60).Draw(t, "most")
		parts := cutUp(text, most)
		for _, part := range parts {
			require.LessOrEqual(t, len(part), most)
			require.True(t, utf8.ValidString(part))
			require.NotEmpty(t, strings.TrimSpace(part))
		}
		bare := func(s string) string { return strings.Join(strings.Fields(s), "") }
		require.Equal(t, bare(text), bare(strings.Join(parts, "")))
	})
	rapid.Check(t, func(t *rapid.T) { // and of what looks like code
		text := rapid.StringOf(rapid.RuneFrom([]rune("``~~ \n\nabcd😀"))).Draw(t, "text")
		requireWhole(t, text, rapid.IntRange(8, 60).Draw(t, "most"))
	})
	rapid.Check(t, func(t *rapid.T) { // whole blocks, in which much is said
		var text strings.Builder
		for range rapid.IntRange(1, 4).Draw(t, "blocks") {
			marks := rapid.SampledFrom([]string{"```", "````", "~~~", "  ```", strings.Repeat("`", 30), ""}).Draw(t, "marks")
			info := rapid.SampledFrom([]string{"", "go", strings.Repeat("x", 50), "\n"}).Draw(t, "info")
			code := rapid.StringOf(rapid.RuneFrom([]rune("`  \nabcdefgh"))).Draw(t, "code")
			text.WriteString(marks + info + code + marks + rapid.SampledFrom([]string{"\n", ""}).Draw(t, "end"))
		}
		requireWhole(t, text.String(), rapid.IntRange(8, 60).Draw(t, "most"))
	})
	rapid.Check(t, func(t *rapid.T) { // and of anything, it ends
		text := rapid.StringOf(rapid.RuneFrom([]rune("`~ \na\xff"))).Draw(t, "text")
		cutUp(text, rapid.IntRange(1, 20).Draw(t, "most"))
	})
}

// Whatever is said, all of it is, in parts that fit.
func FuzzParts(f *testing.F) {
	for _, text := range []string{
		"", "hello\nworld", "```go\ncode\n```", "**a** [b](https://matrix.to/#/@a:b)", "| a |\n|-|\n| b |", "\x00\xff", "a\r\nb",
		"~~~\n```\n~~~\n", "> - a\n> - b", "[x](javascript:a)", "\\* &amp; <b>", "||a||~~b~~",
	} {
		f.Add(text, byte(20))
	}
	f.Fuzz(func(t *testing.T, text string, most byte) {
		requireWhole(t, sayable(text), 8+int(most))
		messages := slices.Collect(speaker().parts(text, "!room:example.org", nil, false))
		if strings.TrimSpace(text) == "" {
			require.Empty(t, messages)
			return
		}
		require.Len(t, messages, 1)
		require.Contains(t, messages[0].Body, strings.TrimRight(sayable(text), " \t\r\n"), "it is the text, and a fence's end at most")
		require.True(t, messages[0].FormattedBody == "" || !read(messages[0].FormattedBody).blank)
	})
}

// requireWhole requires that the parts of a text fit, are few, and say all it says.
func requireWhole(t require.TestingT, text string, most int) {
	parts := cutUp(text, most)
	require.LessOrEqual(t, len(parts), 2+8*len(text)/most, "%q", parts)
	for _, part := range parts {
		require.LessOrEqual(t, len(part), most, "%q", part)
		require.True(t, utf8.ValidString(part))
		require.NotEmpty(t, strings.TrimSpace(part))
	}
	// Nothing is left out, though a block that goes on begins with its first line again.
	bare := func(s string) []rune {
		return slices.DeleteFunc([]rune(s), func(r rune) bool { return unicode.IsSpace(r) || r == '`' || r == '~' })
	}
	said := bare(strings.Join(parts, ""))
	for _, want := range bare(text) {
		i := slices.Index(said, want)
		require.GreaterOrEqual(t, i, 0, "%q", parts)
		said = said[i+1:]
	}
}
