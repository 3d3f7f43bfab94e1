package adapter

import (
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// schemes are those that a link may have (Matrix spec, "m.room.message msgtypes"), and
// that of Matrix's own URIs. A bot often says what a stranger gave it, and not every
// client looks at where a link leads before it follows it.
var schemes = []string{"https", "http", "ftp", "mailto", "magnet", "matrix"}

// Links shows links and images that a message must not have as they stand.
type links struct{}

// Transform implements parser.ASTTransformer.
func (links) Transform(document *ast.Document, reader text.Reader, _ parser.Context) {
	type refusal struct {
		node          ast.Node
		before, after string
	}
	var refused []refusal
	_ = ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch node := node.(type) {
		case *ast.Link:
			if !mayLink(resolved(node.Destination)) {
				refused = append(refused, refusal{node, "[", target(node.Destination, node.Title)})
			}
		case *ast.Image:
			if !strings.HasPrefix(resolved(node.Destination), "mxc:") {
				refused = append(refused, refusal{node, "![", target(node.Destination, node.Title)})
			}
		case *ast.AutoLink:
			if uri := string(node.URL(reader.Source())); node.AutoLinkType == ast.AutoLinkURL && !mayLink(uri) {
				refused = append(refused, refusal{node, "<" + uri + ">", ""})
			}
		}
		return ast.WalkContinue, nil
	})
	for _, r := range refused {
		parent := r.node.Parent()
		parent.InsertBefore(parent, r.node, literal(r.before))
		for child := r.node.FirstChild(); child != nil; child = r.node.FirstChild() {
			parent.InsertBefore(parent, r.node, child)
		}
		parent.ReplaceChild(parent, r.node, literal(r.after))
	}
}

func mayLink(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	return ok && slices.Contains(schemes, strings.ToLower(scheme))
}

// resolved returns where a link leads once entities and escapes are read.
func resolved(destination []byte) string { return string(util.URLEscape(destination, true)) }

// target returns what follows a link's text.
func target(destination, title []byte) string {
	if title == nil {
		return "](" + string(destination) + ")"
	}
	return "](" + string(destination) + ` "` + string(title) + `")`
}

// literal is text that is shown as it stands.
func literal(said string) ast.Node {
	node := ast.NewString([]byte(said))
	node.SetRaw(true)
	return node
}
