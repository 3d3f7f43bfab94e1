package settings

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A File is a file that was read: it says where each setting stands. It does not
// change, and is safe for concurrent use.
type File struct {
	name  string
	table Table
	lines map[string]int // by key, and by memberKey
}

// Read reads the matrix sections of a file into a struct, of which into is the
// address: what stands under matrix in connectors and databases, each a mapping or
// an item `name: matrix` of a list. A field without its key, or with a value that
// can't be read, stays as it is.
//
// The name is what faults call the file, and env looks a variable up, as
// [os.LookupEnv] does. Faults that are added to those of Read are reported as the
// file's.
func (t Table) Read(name string, data []byte, env func(string) (string, bool), into any) (*File, *Faults) {
	file := &File{name, t, map[string]int{}}
	faults := &Faults{file: file}
	r := &reader{file, faults, env, reflect.ValueOf(into).Elem()}
	if root := r.parse(data); root != nil {
		r.readSections(root)
	}
	faults.now = r.into.Interface()
	return file, faults
}

// Complete gives each field that has no line in the file, as it was missing or
// could not be read, the value that it has in standIns. into is the struct's
// address.
func (f *File) Complete(into, standIns any) {
	for _, s := range f.table.Settings {
		if f.lines[s.Key] == 0 {
			reflect.ValueOf(into).Elem().FieldByName(s.Field).Set(reflect.ValueOf(standIns).FieldByName(s.Field))
		}
	}
}

// place returns the line of a key, or 0, and a text that leads there.
func (f *File) place(key string) (line int, where string) {
	line = f.lines[key]
	return line, f.position(line) + ": " + key
}

func (f *File) position(line int) string {
	if line == 0 {
		return f.name
	}
	return f.name + ":" + strconv.Itoa(line)
}

// memberKey is what a member of the mapping under a key is known by.
func memberKey(key, name string) string { return key + ": " + strconv.Quote(name) }

// A reader reads one file.
type reader struct {
	file   *File
	faults *Faults
	env    func(name string) (value string, set bool)
	into   reflect.Value
}

func (r *reader) readSections(root *yaml.Node) {
	if root.Kind != yaml.MappingNode && root.ShortTag() != "!!null" {
		r.fault(root.Line, "expected a mapping with connectors and databases, found %s", describe(root))
		return
	}
	found, empty := false, false
	var others []entry
	for _, e := range entries(root) {
		in, ok := sectionOf(e.key)
		if !ok {
			others = append(others, e)
			continue
		}
		empty = empty || e.value.ShortTag() == "!!null"
		if !r.isFirst(e) {
			continue
		}
		for _, module := range r.matrixModules(e) {
			found = true
			r.readModule(in, module)
		}
	}
	for _, e := range others {
		r.checkSection(e, empty || !found)
	}
	if !found && len(r.faults.list) == 0 {
		r.fault(0, "has no matrix section, neither under connectors nor under databases")
	}
}

// checkSection reports what was probably meant as a section or, if there is none in the
// sections, as a matrix module. All else belongs to other programs.
func (r *reader) checkSection(e entry, missing bool) {
	if missing && strings.EqualFold(e.key, matrix) {
		r.fault(e.line, "%s stands beside connectors and databases: it belongs under one of them, further in", shownKey(e.key))
	} else if meant := closest(e.key, []string{Connectors.String(), Databases.String()}); meant != "" {
		r.fault(e.line, "unknown section %q; did you mean %s?", shownKey(e.key), meant)
	}
}

// matrix is the name of the modules that are read.
const matrix = "matrix"

// matrixModules returns what stands under matrix in a section: one node, unless
// there is a fault.
func (r *reader) matrixModules(list entry) (modules []entry) {
	switch {
	case list.value.Kind == yaml.MappingNode:
		all := entries(list.value)
		for _, e := range all {
			if e.key == matrix && r.isFirst(e) {
				modules = append(modules, e)
			}
		}
		if len(modules) == 0 {
			for _, e := range all {
				r.checkModule(e.key, e)
			}
		}
	case list.value.Kind == yaml.SequenceNode:
		for _, item := range list.value.Content {
			e := entry{key: matrix, line: item.Line, value: resolve(item)}
			members := entries(e.value)
			named := slices.IndexFunc(members, func(m entry) bool { return m.key == "name" })
			if at := slices.IndexFunc(members, func(m entry) bool { return m.key == matrix }); at >= 0 && named < 0 {
				r.fault(members[at].line, "an item of a list has its name as a member: write `- name: matrix` and the rest below it, or %s without dashes", list.key)
			}
			if named >= 0 {
				name := members[named].value.Value
				if name != matrix {
					r.checkModule(name, entry{key: name, line: members[named].line, value: e.value})
					continue
				}
				if len(modules) > 0 {
					e.first = modules[0].line
				}
				if r.isFirst(e) {
					modules = append(modules, e)
				}
			}
		}
	case list.value.ShortTag() != "!!null":
		r.expected(list, "a mapping or a list")
	}
	return modules
}

// checkModule reports a module that was probably meant as matrix. One may have any name if it
// says where its code is.
func (r *reader) checkModule(name string, e entry) {
	for _, member := range entries(e.value) {
		if slices.Contains([]string{"module", "repo", "path", "gist", "entrypoint"}, member.key) {
			return
		}
	}
	if closest(name, []string{matrix}) != "" {
		r.fault(e.line, "unknown module %q; did you mean %s?", shownKey(name), matrix)
	}
}

func (r *reader) readModule(in Section, module entry) {
	if module.value.ShortTag() == "!!null" {
		return
	}
	if module.value.Kind == yaml.SequenceNode {
		r.expected(module, "a mapping, which has no dashes")
		return
	}
	if module.value.Kind != yaml.MappingNode {
		r.expected(module, "a mapping")
		return
	}
	for _, e := range entries(module.value) {
		if !r.isFirst(e) {
			continue
		}
		if on, ok := boolOf(e.value); e.key == "enabled" && ok && !on {
			r.fault(e.line, "enabled: false switches %v: matrix off, so that the bot has no memory in Matrix; take that line out, or leave the memory out of the program", in)
		}
		r.readSetting(in, e)
	}
}

func (r *reader) readSetting(in Section, e entry) {
	table := r.file.table
	at := slices.IndexFunc(table.Settings, func(s Setting) bool { return s.Key == e.key })
	if at < 0 {
		r.checkKnown(e, table.keys())
		return
	}
	s := table.Settings[at]
	if s.In&in == 0 {
		r.fault(e.line, "%s belongs under %v: matrix", s.Key, s.In)
		return
	}
	value, ok := s.As(r, e)
	if !ok {
		return
	}
	field := r.into.FieldByName(s.Field)
	if line := r.file.lines[s.Key]; line != 0 && !reflect.DeepEqual(field.Interface(), value) {
		r.fault(e.line, "%s has another value in line %d", s.Key, line)
		return
	}
	field.Set(reflect.ValueOf(value))
	r.file.lines[s.Key] = e.line
}

func (r *reader) fault(line int, format string, args ...any) {
	r.faults.add(line, r.file.position(line), format, args...)
}

// isFirst reports a key that its mapping had before.
func (r *reader) isFirst(e entry) bool {
	if e.first != 0 {
		r.fault(e.line, "%s is there already, in line %d", shownKey(e.key), e.first)
	}
	return e.first == 0
}

// expected reports a value of the wrong type, without showing it.
func (r *reader) expected(e entry, what string) {
	r.fault(e.line, "%s: expected %s, found %s", e.key, what, describe(e.value))
}
