package adapter

import (
	"strings"
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
		{"Marvin's hat is lost", true, "Marvin's hat is lost", false},
		{"@marvin’s hat is lost", true, "@marvin’s hat is lost", false},
		{"@marvin:example.org's hat", true, "@marvin:example.org's hat", false},
		{"@marvin:\nopen", false, "open", true},
		{"@marvin:\u00a0open", false, "open", true},
		{"@marvin:", false, "", true},
		{"@marvin:elsewhere.example open", true, "@marvin:elsewhere.example open", false},
		{"marvin：open", false, "open", true},
		{"marvin，open", false, "open", true},
		{"Marvin! open", true, "open", true},
		{"marvin - open", true, "open", true},
		{"marvin — open", true, "open", true},
		{"marvin!", true, "", true},
		{"marvin !open", true, "!open", true},
		{"marvin -5", true, "-5", true},
		{"[@marvin:example.org](https://matrix.to/#/@marvin:example.org) open", false, "open", true},
		{"[Marvin](https://matrix.to/#/%40marvin%3Aexample.org): open", false, "open", true},
		{"[Marvin [bot]](<https://matrix.to/#/@marvin:example.org>), open", false, "open", true},
		{"[Marvin](matrix:u/marvin:example.org) open", false, "open", true},
		{"[Marvin](https://matrix.to/#/@marvin:example.org)", false, "", true},
		{"[Marvin](https://matrix.to/#/@zaphod:example.org): open", true, "[Marvin](https://matrix.to/#/@zaphod:example.org): open", false},
		{"[Marvin](https://example.org/@marvin:example.org) open", true, "[Marvin](https://example.org/@marvin:example.org) open", false},
		{"[Marvin](https://matrix.to/#/@marvin:example.org", false, "[Marvin](https://matrix.to/#/@marvin:example.org", false},
		{"[Marvin] open", true, "[Marvin] open", false},
		{"\u2068Marvin B. Ot\u2069: open", false, "open", true},
		{"Marvin\u200b: open", false, "open", true},
		{"\u202eMarvin: open", false, "open", true},
		{"\u2067Marvin: open\u2069", false, "open", true},
		{"\ufeffMar\u00advin\u200e, \u200bopen", false, "open", true},
		{"@\u2068marvin\u2069 open", false, "open", true},
		{"\u200b@marvin:example.org\u200b: open", false, "open", true},
		{"@marvin:\u200b open", false, "open", true},
		{"\u2068[Marvin](https://matrix.to/#/@marvin:example.org)\u2069: open", false, "open", true},
		{"\u2068Marvin B. Ot\u2069 open", true, "open", true},
		{"Marvin\u200bette: open", true, "Marvin\u200bette: open", false},
		{"marvin\u200d's hat", true, "marvin\u200d's hat", false},
		{"marvin: 👩\u200d👧 \u2068tea\u2069 🏴\U000e0067\U000e0062\U000e007f", false, "👩\u200d👧 \u2068tea\u2069 🏴\U000e0067\U000e0062\U000e007f", true},
		{"\u200bas it stands", true, "\u200bas it stands", false},
		{" as it stands ", true, " as it stands ", false},
		{"", true, "", false},
	} {
		rest, found := marvin.strip(test.text, test.pointed)
		require.Equal(t, test.rest, rest, "%q", test.text)
		require.Equal(t, test.found, found, "%q", test.text)
	}
}

// A name is the same in any case, whatever its letters.
func TestNamesInAnyCase(t *testing.T) {
	for text, name := range map[string]string{
		"STRAẞE: open":      "Straße",
		"straße: open":      "STRAẞE",
		"\u212aelvin: open": "Kelvin",
		"kelvin: open":      "\u212aelvin",
		"ΝΊΚΟΣ: open":       "Νίκος",
		"ſam: open":         "Sam",
	} {
		c := called{userID: "@bot:example.org", name: name}
		rest, found := c.strip(text, false)
		require.True(t, found, "%q", text)
		require.Equal(t, "open", rest)
		require.True(t, c.named("hey, "+text), "%q", text)
	}
}

// The text of a link to the bot, with which a message begins, addresses it by
// whatever name.
func TestStripLinkText(t *testing.T) {
	for formatted, want := range map[string]string{
		`<p><a href="https://matrix.to/#/@marvin:example.org">The Robot</a> open</p>`:              "open",
		`<a href="https://matrix.to/#/@marvin:example.org">The <b>Robot</b></a> open`:              "open",
		`<mx-reply>said</mx-reply> <a href="matrix:u/marvin:example.org">the robot</a> open`:       "open",
		`hey <a href="https://matrix.to/#/@marvin:example.org">The Robot</a> open`:                 "The Robot open",
		`<a href="https://matrix.to/#/@zaphod:example.org">The Robot</a> open`:                     "The Robot open",
		`<a href="https://example.org">The Robot</a> open`:                                         "The Robot open",
		`<mx-reply><a href="https://matrix.to/#/@marvin:example.org">The Robot</a></mx-reply>open`: "The Robot open",
	} {
		c := marvin
		var pointed bool
		pointed, c.pill = c.pointed(&event.MessageEventContent{Format: event.FormatHTML, FormattedBody: formatted})
		rest, _ := c.strip("The Robot open", pointed)
		require.Equal(t, want, rest, formatted)
	}
	_, pill := marvin.pointed(&event.MessageEventContent{
		Format: event.FormatHTML, FormattedBody: `<a href="https://matrix.to/#/@marvin:example.org">@The Robot</a> open`,
	})
	rest, _ := called{userID: marvin.userID, pill: pill}.strip("@The Robot open", true)
	require.Equal(t, "open", rest)
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
		"where is Marvin B. Ot's hat":     true,
		"\u2068Marvin\u00a0B. Ot\u2069":   false, // that is seen
		"open, \u2068Marvin B. Ot\u2069!": true,
		"x\u200bMarvin B. Ot":             false,
		strings.Repeat("\u200b", 20_000):  false,
		"":                                false,
	} {
		require.Equal(t, want, marvin.named(text), "%q", text)
	}
	require.False(t, called{userID: "@marvin:example.org"}.named("anything"))
	require.False(t, called{userID: "@marvin:example.org", name: "\u200b"}.named("anything"))
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
		html(`<mx-reply><b>was said</b></mx-reply><i>hey</i> <A title="<a>" HREF=https://matrix.to/#/@marvin:example.org>Bot`),
	} {
		pointed, _ := marvin.pointed(content)
		require.True(t, pointed, "%+v", content)
	}
	for _, content := range []*event.MessageEventContent{
		{},
		{Mentions: &event.Mentions{Room: true, UserIDs: []id.UserID{"@zaphod:example.org"}}},
		html(`<a href="https://matrix.to/#/@zaphod:example.org">Marvin</a>`),
		html(`<a href="https://example.org/@marvin:example.org">link</a>`),
		html(`<mx-reply><a href="https://matrix.to/#/@marvin:example.org">Bot</a></mx-reply>yes`),
		html(`&lt;a href="https://matrix.to/#/@marvin:example.org">no link</a>`),
		html(`<!-- <a href="https://matrix.to/#/@marvin:example.org">no link</a> -->`),
		{FormattedBody: `<a href="https://matrix.to/#/@marvin:example.org">no HTML</a>`},
	} {
		pointed, _ := marvin.pointed(content)
		require.False(t, pointed, "%+v", content)
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
	rapid.Check(t, func(t *rapid.T) { // nor do brackets, quotes and links
		pieces := rapid.SliceOf(rapid.SampledFrom([]string{
			"[", "](", "<", ">)", ")", "https://matrix.to/#/@marvin:example.org", "matrix:u/", "%", "@marvin", ":", "!", "'", "\xff", " ", "x",
		})).Draw(t, "pieces")
		text := strings.Join(pieces, "")
		rest, found := marvin.strip(text, true)
		require.True(t, strings.HasSuffix(strings.TrimSpace(text), strings.TrimSpace(rest)))
		require.True(t, found || rest == text)
	})
}
