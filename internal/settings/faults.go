package settings

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Faults collects what is wrong with a struct, and says where: in which line of
// the file, under which key, or in which field if it was set in Go.
type Faults struct {
	file *File // nil: the struct was written in Go
	now  any   // the struct
	read any   // as it was read; nil: as it is now
	list []fault
}

type fault struct {
	line int // in the file, or 0
	text string
}

// FaultsOf returns Faults, none yet, of a struct that was written in Go.
func FaultsOf(now any) *Faults { return &Faults{now: now} }

// FaultsOf returns Faults, none yet, of a struct that is now one thing and was
// another when it had been read: a field that differs was set in Go since.
func (f *File) FaultsOf(now, read any) *Faults { return &Faults{file: f, now: now, read: read} }

// Add adds a fault of a field. The text that the format makes may show no secret.
func (f *Faults) Add(field, format string, args ...any) {
	line, where := f.place(field)
	f.add(line, where, format, args...)
}

// AddMember is Add for a member of a field that is a map[string]string.
func (f *Faults) AddMember(field, name, format string, args ...any) {
	line, where := f.placeOfMember(field, name)
	f.add(line, where, format, args...)
}

// Name returns what the reader of the faults knows a field by: its key in the
// file, or its name in Go.
func (f *Faults) Name(field string) string {
	if f.file != nil {
		return f.file.table.key(field)
	}
	return field
}

// Err returns the faults as one error, in the order of their lines, or nil.
func (f *Faults) Err() error {
	list := slices.SortedStableFunc(slices.Values(f.list), func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	list = slices.Compact(list) // a section that is merged twice has its faults twice
	switch len(list) {
	case 0:
		return nil
	case 1:
		return errors.New("matrix: " + list[0].text)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "matrix: the configuration has %d faults:", len(list))
	for _, fault := range list {
		text.WriteString("\n\t" + fault.text)
	}
	return errors.New(text.String())
}

func (f *Faults) add(line int, where, format string, args ...any) {
	f.list = append(f.list, fault{line, where + ": " + fmt.Sprintf(format, args...)})
}

// place returns the line that a field was set in, or 0, and a text that leads there.
func (f *Faults) place(field string) (line int, where string) {
	if f.file == nil || f.read != nil && !reflect.DeepEqual(valueOf(f.now, field), valueOf(f.read, field)) {
		return 0, f.nameInGo(field)
	}
	return f.file.place(f.file.table.key(field))
}

func (f *Faults) placeOfMember(field, name string) (line int, where string) {
	if f.file != nil {
		key := memberKey(f.file.table.key(field), name)
		if f.file.lines[key] != 0 && (f.read == nil || memberOf(f.now, field, name) == memberOf(f.read, field, name)) {
			return f.file.place(key)
		}
	}
	return 0, fmt.Sprintf("%s[%q]", f.nameInGo(field), name)
}

func (f *Faults) nameInGo(field string) string { return reflect.TypeOf(f.now).Name() + "." + field }

func valueOf(conf any, field string) any { return reflect.ValueOf(conf).FieldByName(field).Interface() }

func memberOf(conf any, field, name string) string {
	return valueOf(conf, field).(map[string]string)[name]
}
