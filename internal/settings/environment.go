package settings

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// envName matches ${NAME}, $NAME and what looks like the latter.
var envName = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z0-9_]+)`)

// shellName matches a NAME that needs no braces.
var shellName = regexp.MustCompile(`^_*[A-Z][A-Z0-9_]*$`)

// expand returns a string with variables taken from the environment, and whether
// there were any. In a secret $NAME counts only if it is the whole string, and in
// single quotes nothing does; a $ that no name follows stands for itself. What was
// taken is not looked through again.
func (r *reader) expand(e entry, secret bool) (text string, expanded, ok bool) {
	text = e.value.Value
	if e.value.Style&yaml.SingleQuotedStyle != 0 {
		return text, false, true
	}
	ok = true
	result := envName.ReplaceAllStringFunc(text, func(match string) string {
		name := strings.Trim(match, "${}")
		if match[1] != '{' && (!shellName.MatchString(name) || secret && match != text) {
			return match
		}
		value, set := r.env(name)
		if !set {
			r.fault(e.line, "%s: the environment variable %s is not set (in single quotes a $ stands for itself)", e.key, name)
			ok = false
		}
		expanded = true
		return value
	})
	return result, expanded, ok
}
