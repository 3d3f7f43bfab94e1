package adapter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"
)

var marvin = called{userID: "@marvin:example.org", name: "Marvin B. Ot"}

func TestStrip(t *testing.T) {
	for _, test := range []struct {
		text    string
		pointed bool
		rest    string
		found   bool
	}{
		{"@marvin:example.org: open the door", false, "open the door", true},
		{"@marvin:example.org open", false, "open", true},
		{"@Marvin:Example.org, open", false, "open", true},
		{"@marvin:example.org", false, "", true},
		{"@marvin:example.org.uk: open", false, "@marvin:example.org.uk: open", false},
		{"@marvin:example.org:8448: open", false, "@marvin:example.org:8448: open", false},
		{"Marvin B. Ot: open", false, "open", true},
		{"marvin b. ot,open", false, "open", true},
		{"  marvin: open ", false, "open", true},
		{"marvin:open", false, "open", true},
		{"@marvin open", false, "open", true},
		{"marvin open", false, "marvin open", false},
		{"marvin open", true, "open", true},
		{"Marvin B. Ot open", true, "open", true},
		{"marvinette: open", true, "marvinette: open", false},
		{"open, marvin", true, "open, marvin", false},
		{" as it stands ", true, " as it stands ", false},
		{"", true, "", false},
	} {
		rest, found := marvin.strip(test.text, test.pointed)
		require.Equal(t, test.rest, rest, "%q", test.text)
		require.Equal(t, test.found, found, "%q", test.text)
	}
}

func TestNamed(t *testing.T) {
	for text, want := range map[string]bool{
		"open, Marvin B. Ot!":             true,
		"OPEN, MARVIN B. OT":              true,
		"(@marvin:example.org)":           true,
		"xMarvin B. Ot":                   false,
		"Marvin B. Otter":                 false,
		"Marvin B. Otter or Marvin B. Ot": true,
		"marvin":                          false, // a local part alone may be anybody's
		"@marvin:example.org.uk":          false,
		"":                                false,
	} {
		require.Equal(t, want, marvin.named(text), "%q", text)
	}
	require.False(t, called{userID: "@marvin:example.org"}.named("anything"))
}

func TestPointed(t *testing.T) {
	html := func(body string) *event.MessageEventContent {
		return &event.MessageEventContent{Format: event.FormatHTML, FormattedBody: body}
	}
	for _, content := range []*event.MessageEventContent{
		{Mentions: &event.Mentions{UserIDs: []id.UserID{"@marvin:example.org"}}},
		html(`<a href="https://matrix.to/#/@marvin:example.org">Bot</a>: open`),
		html(`<a href="https://matrix.to/#/%40marvin%3Aexample.org">Bot</a>: open`),
		html(`<a href="matrix:u/marvin:example.org">Bot</a>: open`),
	} {
		require.True(t, marvin.pointed(content), "%+v", content)
	}
	for _, content := range []*event.MessageEventContent{
		{},
		{Mentions: &event.Mentions{Room: true, UserIDs: []id.UserID{"@zaphod:example.org"}}},
		html(`<a href="https://matrix.to/#/@zaphod:example.org">Marvin</a>`),
		html(`<a href="https://example.org/@marvin:example.org">link</a>`),
		html(`<mx-reply><a href="https://matrix.to/#/@marvin:example.org">Bot</a></mx-reply>yes`),
		{FormattedBody: `<a href="https://matrix.to/#/@marvin:example.org">no HTML</a>`},
	} {
		require.False(t, marvin.pointed(content), "%+v", content)
	}
}

// Whatever people and names there are, an address is found and what follows is kept.
func TestStripKeepsTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := called{userID: "@marvin:example.org", name: rapid.StringMatching(`\PC{1,12}\pL`).Draw(t, "name")}
		said := rapid.StringMatching(`[a-z]([a-z ]{0,20}[a-z])?`).Draw(t, "said")
		address := rapid.SampledFrom([]string{c.userID.String() + " ", c.userID.String() + ": ", "@marvin ", "Marvin: ", "marvin, "}).Draw(t, "address")
		rest, found := c.strip(address+said, false)
		require.True(t, found)
		require.Equal(t, said, rest)
	})
	rapid.Check(t, func(t *rapid.T) { // no text makes it panic
		c := called{userID: "@marvin:example.org", name: rapid.String().Draw(t, "name")}
		text := rapid.String().Draw(t, "text")
		c.strip(text, rapid.Bool().Draw(t, "pointed"))
		c.named(text)
	})
}
