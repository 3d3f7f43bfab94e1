package settings

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parse returns the root of the file's only document, or nil after a fault.
func (r *reader) parse(data []byte) *yaml.Node {
	if !utf8.Valid(data) {
		valid := 0
		for rest := data; ; {
			char, size := utf8.DecodeRune(rest)
			if char == utf8.RuneError && size == 1 {
				break
			}
			valid, rest = valid+size, rest[size:]
		}
		r.fault(1+bytes.Count(data[:valid], []byte("\n")), "is not UTF-8 text")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	} else if err != nil {
		r.syntaxFault(data, err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		r.fault(second.Line, "a second YAML document begins here; a configuration is one document")
		return nil
	} else if !errors.Is(err, io.EOF) {
		r.syntaxFault(data, err)
		return nil
	}
	return resolve(first.Content[0])
}

var (
	syntaxLine    = regexp.MustCompile(`^yaml: line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^yaml: unknown anchor '(.*)' referenced$`)
)

func (r *reader) syntaxFault(data []byte, err error) {
	if m := unknownAnchor.FindStringSubmatch(err.Error()); m != nil {
		// The name is not shown: it may be a password that begins with *.
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		r.fault(1+bytes.Count(before, []byte("\n")), "is not YAML: a value that begins with * refers to an anchor, and there is none; put it in quotes")
		return
	}
	line := 0
	text := err.Error()
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	r.fault(line, "is not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

// An entry is a key of a YAML mapping and its value.
type entry struct {
	key   string
	line  int // of the key
	first int // the line where the mapping had the key before, or 0
	value *yaml.Node
}

// entries lists a mapping, with what it merges by <<. Of a key that stands both
// in the mapping and in what is merged, the mapping's own counts.
func entries(mapping *yaml.Node) []entry {
	var list []entry
	taken := map[string]bool{}
	merged := map[*yaml.Node]bool{} // an anchor may refer to itself
	var add func(*yaml.Node)
	add = func(mapping *yaml.Node) {
		if mapping.Kind != yaml.MappingNode || merged[mapping] {
			return
		}
		merged[mapping] = true
		own := map[string]int{}
		var merges []*yaml.Node
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key, value := resolve(mapping.Content[i]), resolve(mapping.Content[i+1])
			switch {
			case key.Tag == "!!merge" && value.Kind == yaml.SequenceNode:
				merges = append(merges, value.Content...)
				continue
			case key.Tag == "!!merge" && value.Kind == yaml.MappingNode:
				merges = append(merges, value)
				continue
			}
			e := entry{key.Value, mapping.Content[i].Line, own[key.Value], value}
			if e.first == 0 {
				own[e.key] = e.line
			}
			if e.first != 0 || !taken[e.key] {
				list = append(list, e)
			}
		}
		for key := range own {
			taken[key] = true
		}
		for _, m := range merges {
			add(resolve(m))
		}
	}
	add(mapping)
	return list
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// describe says what a node is, and nothing of what it holds.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	}
	return "a value with a tag"
}
