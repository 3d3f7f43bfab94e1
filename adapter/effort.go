package adapter

import (
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// A bot often says what a stranger gave it, and there are texts of a few kilobytes that
// take seconds and gigabytes to render. So what a text costs is estimated first.
const (
	// maxEffort is how many bytes of its paragraph are looked at for all marks of a
	// text together, which takes a few hundredths of a second. A text that takes more is cut.
	maxEffort = 20_000_000

	// maxCells is how many cells the tables of a text may have, else it has none: each
	// line of a table gets as many as its head, even if it is short. More than a third
	// would not fit in an event anyway.
	maxCells = 20_000

	// maxNesting is how many quotes and lists may begin in a line, else the text goes
	// out as it stands. A list in a list takes two of the 100 levels that clients show
	// (Matrix spec, "m.room.message msgtypes").
	maxNesting = 50
)

// Structure and plainStructure read what blocks a text has, with tables and without, and
// nothing of what is in them: so that takes long for no text that does not nest deep.
var (
	structure      = blocks(goldmark.WithExtensions(extension.Table))
	plainStructure = blocks()
)

func blocks(extensions ...goldmark.Option) parser.Parser {
	only := goldmark.WithParser(parser.NewParser(parser.WithBlockParsers(parser.DefaultBlockParsers()...)))
	return goldmark.New(append([]goldmark.Option{only}, extensions...)...).Parser()
}

// laborious says whether it would take long to render a text.
func laborious(markdown string) bool {
	if len(markdown)*countMarks(markdown) <= maxEffort || nestsDeep(markdown) {
		return false
	}
	source, read := []byte(markdown), structure
	if hasManyCells(markdown) {
		read = plainStructure
	}
	effort := 0
	_ = ast.Walk(read.Parse(text.NewReader(source)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if node.Type() == ast.TypeInline {
			return ast.WalkSkipChildren, nil
		}
		if entering && !node.IsRaw() {
			content := string(node.Lines().Value(source))
			effort += len(content) * countMarks(content)
		}
		return ast.WalkContinue, nil
	})
	return effort > maxEffort
}

// countMarks counts the marks for each of which goldmark may look through the rest of the
// paragraph, or at all marks before.
func countMarks(markdown string) int {
	n := 0
	for i := 0; i < len(markdown); i++ {
		switch markdown[i] {
		case '\\':
			i++ // what is escaped is none
		case '*', '_', '[', ']', '~', '|':
			n++
		case '<':
			n += 3
			if rest := markdown[i+1:]; strings.HasPrefix(rest, "!") || strings.HasPrefix(rest, "?") {
				n += 30 // a comment's end is looked for line by line
			}
		}
	}
	return n
}

// hasManyCells says whether the tables of a text may have too many cells.
func hasManyCells(markdown string) bool {
	cells, columns, lines := 0, 0, 0
	for line := range strings.Lines(markdown) {
		if strings.TrimSpace(line) == "" {
			cells += columns * lines
			columns, lines = 0, 0
			continue
		}
		lines++
		// The line below a table's head, perhaps in quotes or a list.
		if strings.Trim(line, "|:- \t\r\n>+*.)0123456789") == "" && strings.Contains(line, "-") {
			columns = max(columns, strings.Count(line, "|")+1)
		}
	}
	return cells+columns*lines > maxCells
}

// nestsDeep says whether a line of a text begins too many quotes and lists.
func nestsDeep(markdown string) bool {
	for line := range strings.Lines(markdown) {
		begins := line[:len(line)-len(strings.TrimLeft(line, "> \t-+*.)0123456789"))]
		n := strings.Count(begins, ">")
		for marker := range strings.FieldsFuncSeq(begins, func(r rune) bool { return r == '>' || unicode.IsSpace(r) }) {
			if len(marker) == 1 && strings.Contains("-+*", marker) || strings.HasSuffix(marker, ".") || strings.HasSuffix(marker, ")") {
				n++
			}
		}
		if n > maxNesting {
			return true
		}
	}
	return false
}
