package memorytest

import (
	"bytes"
	"encoding/gob"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/go-joe/joe"
	"github.com/stretchr/testify/require"
)

// A fileMemory keeps everything in a map and writes all of it to a file at each
// change, on a disk that is soon full. It has the faults that such memories
// tend to have, each of which can be switched on.
type fileMemory struct {
	disk *disk
	data map[string][]byte // nil once closed

	showsFailedSet    bool
	truncatesInPlace  bool
	keepsCallersSlice bool
}

const diskSize = 1 << 17

func openFile(t *testing.T, disk *disk) *fileMemory {
	m := &fileMemory{disk: disk, data: map[string][]byte{}}
	if disk.file != nil {
		require.NoError(t, gob.NewDecoder(bytes.NewReader(disk.file)).Decode(&m.data), "opening the file")
	}
	return m
}

func (m *fileMemory) Set(key string, value []byte) error {
	if m.data == nil {
		return errClosed
	}
	if !m.keepsCallersSlice {
		value = bytes.Clone(value)
	}
	if m.showsFailedSet {
		m.data[key] = value
		return m.write(m.data)
	}
	next := maps.Clone(m.data)
	next[key] = value
	err := m.write(next)
	if err == nil {
		m.data = next
	}
	return err
}

func (m *fileMemory) write(data map[string][]byte) error {
	var file bytes.Buffer
	if err := gob.NewEncoder(&file).Encode(data); err != nil {
		return err
	}
	if file.Len() > diskSize {
		if m.truncatesInPlace {
			m.disk.file = file.Bytes()[:diskSize]
		}
		return errors.New("no space left on device")
	}
	m.disk.file = file.Bytes()
	return nil
}

func (m *fileMemory) Get(key string) ([]byte, bool, error) {
	if m.data == nil {
		return nil, false, errClosed
	}
	value, ok := m.data[key]
	return bytes.Clone(value), ok, nil
}

func (m *fileMemory) Delete(key string) (bool, error) {
	if m.data == nil {
		return false, errClosed
	}
	if _, ok := m.data[key]; !ok {
		return false, nil
	}
	next := maps.Clone(m.data)
	delete(next, key)
	err := m.write(next)
	if err == nil {
		m.data = next
	}
	return err == nil, err
}

func (m *fileMemory) Keys() ([]string, error) {
	if m.data == nil {
		return nil, errClosed
	}
	return slices.Collect(maps.Keys(m.data)), nil
}

func (m *fileMemory) Close() error {
	m.data = nil
	return nil
}

// TestRunPassesSoundFileMemory shows that fileMemory has no other faults than
// those that are switched on.
func TestRunPassesSoundFileMemory(t *testing.T) {
	disks := disks{}
	Run(t, func(t *testing.T) joe.Memory { return openFile(t, disks.of(t)) })
}
