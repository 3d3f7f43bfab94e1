package journal

import (
	"encoding/binary"
	"errors"
	"time"
)

// errRecord says that bytes are no record of the kind that is expected.
var errRecord = errors.New("it is no record of a journal")

// A writer puts a record together: numbers as varints, all else with its length before it,
// so that a name or a value may be any bytes.
type writer []byte

func (w *writer) uint(n uint64)  { *w = binary.AppendUvarint(*w, n) }
func (w *writer) int(n int64)    { *w = binary.AppendVarint(*w, n) }
func (w *writer) text(s string)  { w.uint(uint64(len(s))); *w = append(*w, s...) }
func (w *writer) bytes(b []byte) { w.uint(uint64(len(b))); *w = append(*w, b...) }

// A reader takes a record apart. Once something is not as it must be, all that it returns is zero.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) fail() {
	r.rest, r.broken = nil, true
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// bytes returns a part of the record itself.
func (r *reader) bytes() []byte {
	size := r.uint()
	if size > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	part := r.rest[:size:size]
	r.rest = r.rest[size:]
	return part
}

func (r *reader) text() string { return string(r.bytes()) }

// end returns an error unless the record was read to its end.
func (r *reader) end() error {
	if r.broken || len(r.rest) > 0 {
		return errRecord
	}
	return nil
}

// What the kinds of a change's record are made of.
const (
	isDelete = 1 << iota
	isForced
	isAttempted
	isRefused
	isBlind
	isAll = 1<<iota - 1
)

// encodeChange returns the record of a room's change.
func encodeChange(room string, c *Change) []byte {
	var kind uint64
	if c.Delete {
		kind |= isDelete
	}
	if c.Forced {
		kind |= isForced
	}
	if c.Attempt != nil {
		kind |= isAttempted
	}
	if c.Refused != "" {
		kind |= isRefused
	}
	if c.Blind {
		kind |= isBlind
	}
	w := make(writer, 0, len(c.Value)+len(room)+len(c.Key)+len(c.Over)+len(c.Start)+64)
	w.uint(kind)
	w.uint(c.Seq)
	w.text(room)
	w.text(c.Key)
	w.bytes(c.Value)
	w.text(c.Over)
	w.int(c.Depth)
	w.int(c.Since.UnixNano())
	w.text(c.Start)
	if c.Attempt != nil {
		w.int(c.Attempt.Depth)
		w.text(c.Attempt.ID)
		w.text(c.Attempt.Was)
	}
	if c.Refused != "" {
		w.text(c.Refused)
	}
	return w
}

func decodeChange(record []byte) (room string, c *Change, err error) {
	r := reader{rest: record}
	kind := r.uint()
	c = &Change{Delete: kind&isDelete != 0, Forced: kind&isForced != 0, Blind: kind&isBlind != 0, Seq: r.uint()}
	room = r.text()
	c.Key = r.text()
	value := r.bytes()
	c.Over = r.text()
	c.Depth = r.int()
	c.Since = time.Unix(0, r.int())
	c.Start = r.text()
	if kind&isAttempted != 0 {
		c.Attempt = &Attempt{Depth: r.int(), ID: r.text(), Was: r.text()}
	}
	if kind&isRefused != 0 {
		c.Refused = r.text()
	}
	switch {
	case r.end() != nil, kind > isAll, c.Forced && !c.Delete, c.Delete && len(value) > 0, (kind&isRefused != 0) != (c.Refused != ""):
		return "", nil, errRecord
	case !c.Delete:
		c.Value = append([]byte{}, value...)
	}
	return room, c, nil
}

// A head is what stands in the file for it as a whole, and is written by every transaction.
type head struct {
	id         string // of the journal, whichever file it is in
	generation int64
	seq        uint64 // the greatest that was given
	entries    uint64 // how many changes and depths there are
	sum        uint64 // and a sum over them, so that none can be missing or an older one
}

func (h head) encode() []byte {
	var w writer
	w.text(h.id)
	w.int(h.generation)
	w.uint(h.seq)
	w.uint(h.entries)
	w.uint(h.sum)
	return w
}

func decodeHead(record []byte) (head, error) {
	r := reader{rest: record}
	h := head{id: r.text(), generation: r.int(), seq: r.uint(), entries: r.uint(), sum: r.uint()}
	return h, r.end()
}

// encodeNumber and decodeNumber are for records that are one number.
func encodeNumber(n int64) []byte { return binary.AppendVarint(nil, n) }

func decodeNumber(record []byte) (int64, error) {
	r := reader{rest: record}
	n := r.int()
	return n, r.end()
}
