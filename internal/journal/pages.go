package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt trusts its file: of one that is cut off or damaged it may read what is not there, run in
// circles, write over what is needed, or take for empty what is not. So the pages are looked at before
// it gets them, in its format, version 2: a tree of pages, each reached once and none of them free,
// with elements that stay inside and keys that ascend. What the values say is checked where they are read.

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id 8, kind 2, count 2, overflow 4
	elementSize = 16 // leaf: flags 4, pos 4, key size 4, value size 4; branch: pos 4, key size 4, page 8
	idSize      = 8
	metaSize    = 64
	bucketSize  = 16 // root page 8, sequence 8

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10

	bucketFlag = 0x01
)

var native = binary.NativeEndian // as bbolt writes what is in memory

// A meta is one of the two pages that say where a file's latest and its last transaction but one begin.
type meta struct {
	pageSize             int64
	root, free, end, txn uint64
}

// readMeta returns the meta page at an offset, if there is a sound one.
func readMeta(file io.ReaderAt, at int64) (meta, bool) {
	var b [metaSize]byte
	if _, err := file.ReadAt(b[:], at+pageHeader); err != nil {
		return meta{}, false
	}
	if native.Uint32(b[0:]) != boltMagic || native.Uint32(b[4:]) != boltVersion || native.Uint64(b[56:]) != metaSum(b[:]) {
		return meta{}, false
	}
	return meta{
		pageSize: int64(native.Uint32(b[8:])), root: native.Uint64(b[16:]),
		free: native.Uint64(b[32:]), end: native.Uint64(b[40:]), txn: native.Uint64(b[48:]),
	}, true
}

func metaSum(meta []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(meta[:metaSize-8])
	return sum.Sum64()
}

// checkPages says what is wrong with a file that bbolt is to open. halved is true where one of the
// meta pages is no good: what counts then may be the last transaction but one.
func checkPages(file io.ReaderAt, size int64) (halved bool, err error) {
	if size == 0 {
		return false, errors.New("it is empty")
	}
	m, first := readMeta(file, 0)
	second := false
	if first {
		var other meta
		if other, second = readMeta(file, m.pageSize); second && other.txn > m.txn {
			m = other
		}
	} else {
		for at := int64(1 << 10); at <= 1<<24 && !second; at <<= 1 { // the sizes of pages that bbolt tries
			m, second = readMeta(file, at)
			second = second && m.pageSize == at
		}
	}
	if !first && !second {
		return false, errors.New("it is no bbolt file, or its beginning is lost")
	}
	if m.pageSize < 1<<10 || m.pageSize > 1<<24 {
		return false, fmt.Errorf("it has pages of %d bytes", m.pageSize)
	}
	if m.end > uint64(size/m.pageSize) {
		return false, fmt.Errorf("it is cut off: it has %d bytes, and page %d should be its last", size, m.end-1)
	}
	w := walk{file: file, meta: m, seen: make([]bool, m.end)}
	if err := w.freelist(); err != nil {
		return false, err
	}
	return !first || !second, w.tree(m.root, nil, nil)
}

// A walk goes through the pages of a file.
type walk struct {
	file io.ReaderAt
	meta meta
	seen []bool // pages that were met, or are free
}

// take notes that a page belongs to something, and to nothing else.
func (w *walk) take(id uint64) error {
	if id < 2 || id >= w.meta.end {
		return fmt.Errorf("page %d is asked for, and there is none", id)
	}
	if w.seen[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	w.seen[id] = true
	return nil
}

// page returns a page with all that it runs over into.
func (w *walk) page(id uint64) ([]byte, error) {
	if err := w.take(id); err != nil {
		return nil, err
	}
	var header [pageHeader]byte
	at := int64(id) * w.meta.pageSize
	if _, err := w.file.ReadAt(header[:], at); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	if said := native.Uint64(header[0:]); said != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, said)
	}
	overflow := uint64(native.Uint32(header[12:]))
	if overflow >= w.meta.end-id {
		return nil, fmt.Errorf("page %d runs over the end of the file", id)
	}
	for more := uint64(1); more <= overflow; more++ {
		if err := w.take(id + more); err != nil {
			return nil, err
		}
	}
	b := make([]byte, int64(overflow+1)*w.meta.pageSize)
	if _, err := w.file.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return b, nil
}

// noList stands in the place of the list's page where bbolt keeps none.
const noList = ^uint64(0)

// freelist notes which pages are free. This package has bbolt write no list, but a tool may have.
func (w *walk) freelist() error {
	if w.meta.free == noList {
		return nil
	}
	b, err := w.page(w.meta.free)
	if err != nil {
		return err
	}
	kind, count := native.Uint16(b[8:]), uint64(native.Uint16(b[10:]))
	ids := b[pageHeader:]
	if count == 0xFFFF { // bbolt's way to say that the count comes first
		count, ids = native.Uint64(ids), ids[idSize:]
	}
	if kind != freePage || count > uint64(len(ids)/idSize) {
		return fmt.Errorf("page %d is no list of free pages", w.meta.free)
	}
	for ; count > 0; count, ids = count-1, ids[idSize:] {
		if err := w.take(native.Uint64(ids)); err != nil {
			return fmt.Errorf("the list of free pages: %w", err)
		}
	}
	return nil
}

// tree looks at a page and all below it. Keys are to be at least from and less than to; nil is no bound.
func (w *walk) tree(id uint64, from, to []byte) error {
	b, err := w.page(id)
	if err != nil {
		return err
	}
	if err := w.elements(b, from, to); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

var errElements = errors.New("its contents are not where they should be")

// elements looks at what a page holds, or a bucket that is kept in the page of another.
func (w *walk) elements(b, from, to []byte) error {
	kind, count := native.Uint16(b[8:]), int(native.Uint16(b[10:]))
	switch {
	case kind != leafPage && kind != branchPage:
		return fmt.Errorf("it is of the unknown kind %#x", kind)
	case pageHeader+count*elementSize > len(b), kind == branchPage && count == 0:
		return errElements
	}
	// cut returns a part of the page that begins at a distance from an element.
	cut := func(element, distance, size uint64) ([]byte, error) {
		start := element + distance
		if distance < elementSize || start > uint64(len(b)) || size > uint64(len(b))-start {
			return nil, errElements
		}
		return b[start : start+size], nil
	}
	keys, below := make([][]byte, count), make([]uint64, count)
	for i := range count {
		at := uint64(pageHeader + i*elementSize)
		u32 := func(n uint64) uint64 { return uint64(native.Uint32(b[at+n:])) }
		flags, pos, keySize, valueSize := u32(0), u32(4), u32(8), u32(12)
		if kind == branchPage {
			flags, pos, keySize, valueSize = 0, u32(0), u32(4), 0
			below[i] = native.Uint64(b[at+8:])
		}
		key, err := cut(at, pos, keySize)
		if err != nil {
			return err
		}
		value, err := cut(at, pos+keySize, valueSize)
		if err != nil {
			return err
		}
		if len(key) == 0 || flags&^bucketFlag != 0 {
			return errElements
		}
		if i == 0 && bytes.Compare(key, from) < 0 || i > 0 && bytes.Compare(key, keys[i-1]) <= 0 || to != nil && bytes.Compare(key, to) >= 0 {
			return errors.New("its keys are out of order")
		}
		keys[i] = key
		if flags == bucketFlag {
			if err := w.bucket(value); err != nil {
				return err
			}
		}
	}
	if kind == branchPage {
		for i, id := range below {
			end := to
			if i+1 < count {
				end = keys[i+1]
			}
			if err := w.tree(id, keys[i], end); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket looks at a bucket: at the page that it begins with, or at what is there instead.
func (w *walk) bucket(value []byte) error {
	if len(value) < bucketSize {
		return errElements
	}
	if root := native.Uint64(value); root != 0 {
		return w.tree(root, nil, nil)
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeader || native.Uint16(inline[8:]) != leafPage {
		return errElements
	}
	return w.elements(inline, nil, nil)
}
