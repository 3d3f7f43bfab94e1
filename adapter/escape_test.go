package adapter

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

// Whatever a text is, once escaped it is seen as it stands, between others too, and
// mentions nobody.
func TestEscape(t *testing.T) {
	words := func(text string) []string { // blank lines and the like may show as fewer
		return strings.Fields(strings.ReplaceAll(text, "\u00a0", " "))
	}
	requireSeen := func(t require.TestingT, text string) {
		for _, frame := range [][2]string{{"", ""}, {"You said: ", " so"}, {"[", "](https://example.org)"}, {"| a |\n|---|\n| ", " |"}} {
			if strings.Contains(text, "\n") && strings.HasPrefix(frame[0], "|") {
				continue // of a table's row, a text of several lines makes several
			}
			message := speaker().render(frame[0]+Escape(text)+frame[1], nil)
			require.Empty(t, message.Mentions.UserIDs, "%q", text)
			if message.FormattedBody == "" {
				require.Equal(t, words(frame[0]+text+frame[1]), words(message.Body))
				continue
			}
			var seen strings.Builder
			tokens := html.NewTokenizer(strings.NewReader(message.FormattedBody))
			for tokens.Next() != html.ErrorToken {
				switch token := tokens.Token(); {
				case token.Type == html.TextToken:
					seen.WriteString(token.Data)
				case frame[0] == "" || strings.HasPrefix(frame[0], "You"):
					require.Contains(t, []string{"p", "br"}, token.Data, "%q became %q", text, message.FormattedBody)
				}
			}
			if frame[0] == "" {
				require.Equal(t, words(text), words(seen.String()), "%q became %q", text, message.FormattedBody)
			} else {
				bare := func(s string) string { return strings.Join(words(s), "") }
				require.Contains(t, bare(seen.String()), bare(text), "%q became %q", text, message.FormattedBody)
			}
		}
	}
	for _, text := range []string{
		"[admin](https://matrix.to/#/@admin:example.org) hi", "<https://matrix.to/#/@admin:example.org>", "**bold** _snake_case_ ~~gone~~ ||hidden||",
		"# Title", "> quoted", "- a\n- b", "1. one\n2) two", "a\n===", "a\n---", "***", "```\ncode\n```", "    code", "\tcode", "| a |\n|---|\n| 1 |", "a\n:-",
		"&amp; &#42; AT&T", `\* C:\dir`, "2 < 3 > 1", "<b>x</b>", "a  \nb", "a\\\nb", "  - a", "line\n\n\nline", "`a`", "@room", "[x]: y",
	} {
		requireSeen(t, text)
	}
	require.Equal(t, "what is 2 + 2, (a - b) & c? It's 4.", Escape("what is 2 + 2, (a - b) & c? It's 4."), "what means nothing is left alone")
	rapid.Check(t, func(t *rapid.T) {
		requireSeen(t, rapid.StringOf(rapid.RuneFrom([]rune("ab1*_`#<>[]()!:|-+=~.&;\\ \t\n\r\"'äx"))).Draw(t, "text"))
	})
}
