package settings

import (
	"slices"
	"strings"
)

// checkKnown reports a key that is not in known, and what it may have been meant as.
func (r *reader) checkKnown(e entry, known []string) {
	if slices.Contains(known, e.key) {
		return
	}
	hint := ""
	if meant := closest(e.key, known); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	r.fault(e.line, "unknown key %q%s", shownKey(e.key), hint)
}

// shownKey is a key as it may stand in an error. What goes beyond a plain word is
// cut off, as `password:secret` without a blank is a key to YAML.
func shownKey(key string) string {
	const most = 40
	end := strings.IndexFunc(key, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-<", r))
	})
	if end < 0 && len(key) <= most {
		return key
	}
	if end < 0 || end > most {
		end = most
	}
	return key[:end] + "…"
}

// closest returns the known key that was probably meant by another one, or "": one that is
// spelt nearly so, or the only one that has it as a word, as access_token has token.
func closest(key string, known []string) string {
	best, meant := 3, ""
	if len(key) > 40 {
		return ""
	}
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	for _, k := range known {
		if d := distance(key, strings.ReplaceAll(k, "-", "_")); d < best && 2*d < len(k) {
			best, meant = d, k
		}
	}
	if meant != "" {
		return meant
	}
	var having []string
	for _, k := range known {
		if slices.Contains(strings.FieldsFunc(k, func(r rune) bool { return r == '_' || r == '-' }), key) {
			having = append(having, k)
		}
	}
	if len(having) == 1 {
		return having[0]
	}
	return ""
}

// distance is the Levenshtein distance: how many letters must be put in, taken out
// or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
