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
	found := false
	for _, e := range entries(root) {
		in, ok := sectionOf(e.key)
		if !ok {
			r.checkSection(e)
			continue
		}
		if !r.isFirst(e) {
			continue
		}
		for _, module := range r.matrixModules(e) {
			found = true
			r.readModule(in, module)
		}
	}
	if !found && len(r.faults.list) == 0 {
		r.fault(0, "has no matrix section, neither under connectors nor under databases")
	}
}

// checkSection reports what was probably meant as a section, or to be in one. All else
// belongs to other programs.
func (r *reader) checkSection(e entry) {
	if strings.EqualFold(e.key, matrix) {
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
		for _, e := range entries(list.value) {
			if r.isMatrix(e.key, e.line) && r.isFirst(e) {
				modules = append(modules, e)
			}
		}
	case list.value.Kind == yaml.SequenceNode:
		for _, item := range list.value.Content {
			e := entry{key: matrix, line: item.Line, value: resolve(item)}
			for _, member := range entries(e.value) {
				if member.key == matrix {
					r.fault(member.line, "an item of a list has its name as a member: write `- name: matrix` and the rest below it, or %s without dashes", list.key)
				}
				if member.key != "name" || !r.isMatrix(member.value.Value, member.line) {
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

// isMatrix says whether a module is one that is read, and reports one that was probably
// meant as that.
func (r *reader) isMatrix(name string, line int) bool {
	if name != matrix && closest(name, []string{matrix}) != "" {
		r.fault(line, "unknown module %q; did you mean %s?", shownKey(name), matrix)
	}
	return name == matrix
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
