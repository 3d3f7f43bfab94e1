package adapter

import (
	"strings"

	"golang.org/x/net/html"
	"maunium.net/go/mautrix/id"
)

// Markup is what the adapter wants to know of a message's HTML.
type markup struct {
	users []id.UserID // to whom it links
	pill  string      // the text of such a link, if the message begins with it
	blank bool        // a client that shows it shows nothing
}

// read reads HTML, but for what it replies to. It may be anybody's, so it is read
// token by token and never rendered: however it nests, that takes no longer.
func read(text string) markup {
	m := markup{blank: true}
	var pill strings.Builder
	inReply, inPill := false, false
	tokens := html.NewTokenizer(strings.NewReader(text))
	for tokens.Next() != html.ErrorToken {
		token := tokens.Token()
		starts := token.Type == html.StartTagToken || token.Type == html.SelfClosingTagToken
		switch {
		case token.Type != html.TextToken && token.Data == "mx-reply":
			inReply = starts
		case inReply:
		case token.Type == html.TextToken:
			if inPill {
				pill.WriteString(token.Data)
			}
			m.blank = m.blank && strings.TrimSpace(token.Data) == ""
		case token.Data == "a":
			user := linked(attribute(token, "href"))
			inPill = starts && user != "" && m.blank
			if starts && user != "" {
				m.users = append(m.users, user)
			}
		case token.Data == "hr", token.Data == "img" && strings.HasPrefix(attribute(token, "src"), "mxc:"):
			m.blank = false // clients show no other images
		}
	}
	m.pill = strings.TrimSpace(pill.String())
	return m
}

// linked returns the user that a URI stands for, or "".
func linked(uri string) id.UserID {
	parsed, err := id.ParseMatrixURIOrMatrixToURL(uri)
	if err != nil {
		return ""
	}
	return parsed.UserID()
}

func attribute(token html.Token, name string) string {
	for _, attr := range token.Attr {
		if attr.Key == name {
			return attr.Val
		}
	}
	return ""
}
