package adapter

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"

	"github.com/go-joe/matrix-memory/internal/wire"
)

func speaker() *adapter {
	return &adapter{options: options{msgType: event.MsgNotice}, client: &mautrix.Client{UserID: "@marvin:example.org"}}
}

func TestRender(t *testing.T) {
	for text, formatted := range map[string]string{ // "": nothing is formatted
		"hello":                               "",
		"2 < 3 & 4 > 3":                       "",
		"a  b":                                "",
		"<b>x</b>":                            "",
		"[INFO]: done":                        "",
		"[a]: /b\n[c]: d":                     "[a]: /b<br>\n[c]: d",
		"#":                                   "",
		">":                                   "",
		"```":                                 "",
		"```x":                                "",
		"![cat](https://example.org/cat.png)": "",
		"![cat](mxc://example.org/cat)":       `<img src="mxc://example.org/cat" alt="cat">`,
		"---":                                 "<hr>",
		"**bold** & <i>":                      "<strong>bold</strong> &amp; &lt;i&gt;",
		"a\nb":                                "a<br>\nb",
		"[site](https://example.org)":         `<a href="https://example.org">site</a>`,
		"| a | b |\n|---|---|\n| 1 | 2 |":     "<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td>2</td>\n</tr>\n</tbody>\n</table>",
	} {
		message := speaker().render(text, nil)
		require.Equal(t, text, message.Body)
		require.Equal(t, formatted, message.FormattedBody, "%q", text)
		require.Equal(t, formatted != "", message.Format == event.FormatHTML, "%q", text)
		require.Empty(t, message.Mentions.UserIDs)
	}
	require.Equal(t, "  a\n  *b*", speaker().render("  a\n  *b*\n\n", nil).Body)
	require.Equal(t, []id.UserID{"@alice:example.org"}, speaker().render("hello [Alice](https://matrix.to/#/@alice:example.org)", nil).Mentions.UserIDs)
}

// Links lead where Matrix lets them lead. Others are shown as they stand.
func TestLinksThatMayNotBe(t *testing.T) {
	for text, formatted := range map[string]string{
		"[x](javascript:alert(1))":                              "",
		"[x](JavaScript:alert(1))":                              "",
		"[x](javascript&colon;alert)":                           "",
		"[x](java\\script:alert)":                               "",
		"[x](vbscript:a) [y](file:///a) [z](data:text/html,hi)": "",
		"<javascript:alert(1)>":                                 "",
		"![x](data:image/png;base64,AA)":                        "",
		"![x](javascript:a)":                                    "",
		"a[i](x) and [y](/path) and [z]()":                      "",
		"[**x**](javascript:a \"title\")":                       "[<strong>x</strong>](javascript:a &quot;title&quot;)",
		"![**x**](https://example.org)":                         "![<strong>x</strong>](https://example.org)",
		"[![x](mxc://a/b)](javascript:a)":                       `[<img src="mxc://a/b" alt="x">](javascript:a)`,
		"[![x](http://a/b)](http://c)":                          `<a href="http://c">![x](http://a/b)</a>`,
		"[x](HTTPS://example.org)":                              `<a href="HTTPS://example.org">x</a>`,
		"[x](matrix:r/room:example.org)":                        `<a href="matrix:r/room:example.org">x</a>`,
		"<mailto:a@example.org> <a@example.org>":                `<a href="mailto:a@example.org">mailto:a@example.org</a> <a href="mailto:a@example.org">a@example.org</a>`,
		"<https://example.org> [x](ftp://a) [y](magnet:?a)":     `<a href="https://example.org">https://example.org</a> <a href="ftp://a">x</a> <a href="magnet:?a">y</a>`,
	} {
		message := speaker().render(text, nil)
		require.Equal(t, text, message.Body)
		require.Equal(t, formatted, message.FormattedBody, "%q", text)
	}
}

// What answers a message mentions nobody whom that names, but for who asked.
func TestAnswersMentionNobodyWhomTheMessageNames(t *testing.T) {
	for _, text := range []string{
		"[admin](https://matrix.to/#/@admin:example.org) hi", "[admin](matrix:u/admin:example.org)", "<https://matrix.to/#/@admin:example.org>",
		"[x](https://matrix.to/#/%40%61dmin%3Aexample.org)", "[x](https://matrix.to/#/&#64;admin&colon;example.org)", "[x](https://matrix.to/#/@admin:example\\.org)",
		"`[admin](https://matrix.to/#/@admin:example.org)`",
	} {
		to := &asked{author: "@alice:example.org", text: plain(text)}
		echo := strings.Trim(text, "`")
		require.Equal(t, []id.UserID{"@admin:example.org"}, speaker().render(echo, nil).Mentions.UserIDs, "%q", echo)
		require.Empty(t, speaker().render("You said: "+echo, to).Mentions.UserIDs, "%q", echo)
		require.Equal(t, []id.UserID{"@bob:example.org"}, speaker().render(echo+" [Bob](https://matrix.to/#/@bob:example.org)", to).Mentions.UserIDs)
	}
	to := &asked{author: "@alice:example.org", text: plain("I am [Alice](https://matrix.to/#/@alice:example.org)")}
	require.Len(t, speaker().render("Hello [Alice](https://matrix.to/#/@alice:example.org)", to).Mentions.UserIDs, 1)
}

// What a text says can be seen whichever way a client shows it.
func TestRenderedTextIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab*_`#>[]()!:|- \n<&"))).Draw(t, "text")
		message := speaker().render(text, nil)
		require.Equal(t, strings.TrimRight(text, " \n"), message.Body)
		require.True(t, message.FormattedBody == "" || !read(message.FormattedBody).blank)
	})
}

// However a text is made, its parts are few, fit, and are made soon.
func TestPartsOfLongTexts(t *testing.T) {
	const room = "!room:example.org"
	limit := wire.EventLimit(room, "@marvin:example.org", event.EventEncrypted.Type, "")
	for name, text := range map[string]string{
		"words":               strings.Repeat("word ", 20_000),
		"lines":               strings.Repeat("a line of text\n", 7_000),
		"code in one line":    "```" + strings.Repeat("a", 40_000) + "```",
		"code in a long line": "```\n" + strings.Repeat("a", 100_000) + "\n```",
		"a wide table":        strings.Repeat("|a", 5_000) + "\n" + strings.Repeat("|-", 5_000) + "\n" + strings.Repeat("a\n", 5_000),
		"backticks":           strings.Repeat("`", 100_000),
		"a long fence":        "```" + strings.Repeat("x", 31_000) + "\n" + strings.Repeat("code\n", 10_000) + "```",
		"what is escaped":     strings.Repeat("\x01\"<", 20_000),
	} {
		for _, encrypted := range []bool{false, true} {
			began := time.Now()
			parts := slices.Collect(speaker().parts(text, room, nil, encrypted))
			require.Less(t, time.Since(began), 10*time.Second, name)
			require.LessOrEqual(t, len(parts), 1+len(text)/4_000, name)
			var said strings.Builder
			for _, part := range parts {
				content, err := json.Marshal(part)
				require.NoError(t, err)
				require.LessOrEqual(t, wire.CanonicalSize(content), limit, name)
				said.WriteString(part.Body)
			}
			bare := func(s string) string { return strings.NewReplacer(" ", "", "\n", "", "`", "").Replace(s) }
			require.Equal(t, bare(text), bare(said.String()), name)
		}
	}
}
