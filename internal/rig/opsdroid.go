package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
)

// An Opsdroid is a program that changes a room's memory as opsdroid 0.31 does: it
// reads the state event and writes it back with its own change, and with all members
// that it does not know. Nothing is written upon what it could not read.
type Opsdroid struct {
	Account
	Room   id.RoomID
	Layout matrix.StateKey
}

// A Dictionary is the content of a state event, as opsdroid has read it.
type Dictionary map[string]json.RawMessage

// Read returns what stands in the state event of a key. It is empty, and not nil, if
// there is none.
func (o Opsdroid) Read(ctx context.Context, key string) (Dictionary, error) {
	read, _, err := o.read(ctx, key)
	return read, err
}

// read is Read, and says whether there is a state event.
func (o Opsdroid) read(ctx context.Context, key string) (read Dictionary, found bool, err error) {
	read = Dictionary{}
	err = o.StateEvent(ctx, o.Room, MemoryType, o.stateKey(key), &read)
	if err != nil && !errors.Is(err, mautrix.MNotFound) {
		return nil, false, fmt.Errorf("reading the state event of %q: %w", key, err)
	}
	return read, err == nil, nil
}

// Write writes what it has read, with whatever was changed in it, as the state event
// of a key.
func (o Opsdroid) Write(ctx context.Context, key string, content Dictionary) error {
	if _, err := o.SendStateEvent(ctx, o.Room, MemoryType, o.stateKey(key), content); err != nil {
		return fmt.Errorf("writing the state event of %q: %w", key, err)
	}
	return nil
}

// Put stores a value, unless it is there.
func (o Opsdroid) Put(ctx context.Context, key, value string) error {
	content, err := o.Read(ctx, key)
	if err != nil || string(content[key]) == value {
		return err
	}
	content[key] = json.RawMessage(value)
	return o.Write(ctx, key, content)
}

// Delete takes keys away, all from the state event of the first. It writes that also
// if none of them is in it, but not if there is no such event.
func (o Opsdroid) Delete(ctx context.Context, keys ...string) error {
	content, found, err := o.read(ctx, keys[0])
	if err != nil || !found {
		return err
	}
	for _, key := range keys {
		delete(content, key)
	}
	return o.Write(ctx, keys[0], content)
}

func (o Opsdroid) stateKey(key string) string {
	switch {
	case o.Layout == matrix.PerKey && key == ".": // its HTTP library takes that off the request's path
		return ""
	case o.Layout == matrix.PerKey:
		return key
	}
	return string(o.Layout)
}
