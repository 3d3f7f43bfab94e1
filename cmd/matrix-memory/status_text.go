package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes a status for people.
func (s status) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	line := func(name, text string, p problems) {
		fmt.Fprintf(table, "%s\t%s\n", name, text)
		p.print(table)
	}
	line("homeserver", s.Homeserver.text(), s.Homeserver.problems)
	if s.Login != nil {
		line("login", s.Login.text(), s.Login.problems)
	}
	if s.Journal != nil {
		line("journal", s.Journal.text(), s.Journal.problems)
	}
	for _, room := range s.Rooms {
		for i, text := range room.lines() {
			name := ""
			if i == 0 {
				name = room.title()
			}
			line(name, text, problems{})
		}
		room.print(table)
	}
	if s.OK {
		fmt.Fprintln(table, "all is well")
	}
	return table.Flush()
}

func (p problems) print(w io.Writer) {
	for _, problem := range p.Problems {
		fmt.Fprintf(w, "\tWRONG: %s\n\t    ➜ %s\n", problem.Problem, problem.Advice)
	}
}

func (h homeserverStatus) text() string {
	return join(", ", h.URL, h.Version, prefixed("Matrix ", h.Matrix))
}

func (l loginStatus) text() string {
	switch {
	case l.User == "":
		return "failed"
	case l.Device == "":
		return l.User + ", by password"
	}
	return join(", ", l.User, prefixed("device ", l.Device))
}

// title is what a room is called, as it is known by more than its ID or alias.
func (r *roomStatus) title() string {
	if r.Name == r.Room || r.Name == r.Alias {
		return "room"
	}
	return "room " + onOneLine(r.Name)
}

// lines are what is to say of a room, whether it is well or not.
func (r *roomStatus) lines() []string {
	lines := []string{join(", ", r.Room, r.Alias)}
	if lines[0] == "" || !r.Joined {
		return lines
	}
	if r.ReplacedBy != "" {
		lines = append(lines, "upgraded to "+r.ReplacedBy)
	}
	lines = append(lines, fmt.Sprintf("power level %d, needs %d", r.Has, r.Needs))
	lines = append(lines, fmt.Sprintf("%s, %s, the fullest event at %d %%", count(r.Keys, "key"), size(r.Bytes), r.Full))
	switch {
	case r.Sealed == 0 && r.Encrypted:
		lines = append(lines, "encrypted, without values yet")
	case r.Readable != nil:
		lines = append(lines, fmt.Sprintf("encrypted, %d of %d values can be read", *r.Readable, r.Sealed))
	case r.Why != "" && r.Sealed > 0:
		lines = append(lines, fmt.Sprintf("encrypted, and it was not looked whether %s can be read: %s", count(r.Sealed, "value"), r.Why))
	}
	return lines
}

func join(by string, parts ...string) string {
	var there []string
	for _, part := range parts {
		if part != "" {
			there = append(there, part)
		}
	}
	return strings.Join(there, by)
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func size(bytes int) string {
	if bytes < 1000 {
		return count(bytes, "byte")
	}
	return fmt.Sprintf("%.1f KB", float64(bytes)/1000)
}
