package adapter

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"
)

// HTML that would take a renderer forever, or all there is of the stack, is read
// at once.
func TestHTMLThatIsHardToRender(t *testing.T) {
	const link = `<a href="https://matrix.to/#/@marvin:example.org">Bot</a>`
	for name, hard := range map[string]string{
		"a list that starts at the least number": link + `<ol start="-9223372036854775808"><li>a</li></ol>`,
		"quotes within quotes":                   link + strings.Repeat("<blockquote>", 500) + strings.Repeat("a<br>", 10_000),
		"tags within tags":                       link + strings.Repeat("<b>", 20_000),
		"links within links":                     link + strings.Repeat(`<a href=x>`, 6_000),
		"a long attribute":                       link + `<a href="` + strings.Repeat("x", 60_000),
		"many attributes":                        link + `<a ` + strings.Repeat("a=b ", 15_000) + `>`,
		"many replies":                           strings.Repeat("<mx-reply></mx-reply>", 3_000) + link,
		"an open comment":                        link + "<!--" + strings.Repeat("<!-- -", 10_000),
	} {
		began := time.Now()
		pointed, pill := marvin.pointed(&event.MessageEventContent{Format: event.FormatHTML, FormattedBody: hard})
		require.True(t, pointed, name)
		require.Equal(t, "Bot", pill, name)
		require.Less(t, time.Since(began), time.Second, name)
	}
}

func TestBlankHTML(t *testing.T) {
	for text, blank := range map[string]bool{
		"":                                    true,
		" \n":                                 true,
		"<p> </p><h1></h1><br>":               true,
		"<mx-reply>said</mx-reply>":           true,
		`<img src="https://example.org/cat">`: true,
		`<pre><code class="x"></code></pre>`:  true,
		"<p>a</p>":                            false,
		"<hr />":                              false,
		`<img src="mxc://example.org/cat">`:   false,
		"&lt;":                                false,
	} {
		require.Equal(t, blank, read(text).blank, text)
	}
}

// Of whatever HTML, just the users in links are found, however they are nested.
func TestReadHTML(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var users []id.UserID
		for _, piece := range rapid.SliceOf(rapid.SampledFrom([]string{
			"<b>", "</b>", "<blockquote>", "</p>", "a", " ", "&lt;", "</a>", `<a name="x">`, "<mx-reply>x</mx-reply>", "<ol start=-1>", "user",
		})).Draw(t, "pieces") {
			if piece == "user" {
				user := id.UserID("@" + rapid.StringMatching(`[a-z0-9._=-]{1,8}`).Draw(t, "localpart") + ":example.org")
				users = append(users, user)
				piece = `<a href="` + user.URI().MatrixToURL() + `">`
			}
			text.WriteString(piece)
		}
		require.Equal(t, users, read(text.String()).users)
	})
	rapid.Check(t, func(t *rapid.T) { // and nothing makes it panic
		read(rapid.StringOf(rapid.RuneFrom([]rune("<>/a!-&;=\"' mxreply"))).Draw(t, "text"))
		read(rapid.String().Draw(t, "any text"))
	})
}

func FuzzReadHTML(f *testing.F) {
	f.Add(`<p><a href="https://matrix.to/#/@marvin:example.org">Bot</a>: open</p>`)
	f.Add(`<mx-reply><a href="matrix:u/a:b">a</a></mx-reply><img src="mxc:/"><hr/>&amp;`)
	f.Fuzz(func(t *testing.T, text string) {
		m := read(text)
		if m.pill != "" && (m.blank || len(m.users) == 0) {
			t.Errorf("%q: %+v", text, m)
		}
	})
}
