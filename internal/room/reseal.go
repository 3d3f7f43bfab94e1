package room

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// resealed is a value that was taken along, and how it stands in the new room.
type resealed struct{ from, to json.RawMessage }

// reseal returns how values of the room that this one replaces are to stand here, where that is otherwise: encrypted
// for this room. One that can't be decrypted stays as it is, and so does one that was sent encrypted and would stand
// here in the clear. clear are keys that must not stand here as they do there.
func (r *Room) reseal(ctx context.Context, before *Room, taken map[string]wire.Entry) (raws map[string]json.RawMessage, clear []string, err error) {
	if len(taken) == 0 || r.isReplaced() { // they are sealed anew for the room that replaces it
		return nil, nil, nil
	}
	encrypted, err := r.encrypted()
	if err != nil {
		return nil, nil, err
	}
	raws = make(map[string]json.RawMessage)
	values := make(map[string]json.RawMessage)
	var left []string
	for _, key := range slices.Sorted(maps.Keys(taken)) {
		entry := taken[key]
		switch known, ok := r.resealing(key); {
		case entry.Pointer == "" && !encrypted:
			continue
		case entry.Err != nil:
			if encrypted {
				clear = append(clear, key)
			}
			continue
		case ok && bytes.Equal(known.from, entry.Raw):
			raws[key] = known.to
			continue
		case entry.Pointer != "" && !encrypted:
			left = append(left, key)
			continue
		}
		value := entry.Value
		if entry.Pointer != "" {
			value, err = before.open(ctx, key, entry.Pointer)
			switch {
			case errors.Is(err, ErrUndecryptable), errors.Is(err, ErrNoEncryption):
				left = append(left, key)
				continue
			case err != nil:
				return nil, nil, err
			}
		}
		if raw := wire.EncodeSealed(value); r.queue.Seals(key, raw) {
			values[key] = raw
		} else if entry.Pointer == "" {
			clear = append(clear, key)
		} else {
			left = append(left, key)
		}
	}
	err = r.queue.Seal(ctx, values, func(key string, pointer json.RawMessage) {
		r.mu.Lock()
		r.resealed[key] = resealed{taken[key].Raw, pointer}
		r.mu.Unlock()
		raws[key] = pointer
	})
	if err != nil {
		return nil, nil, err
	}
	if len(left) > 0 {
		r.log().WithField("keys", left).Warn("These values were sent encrypted to the room that this one replaces, and can't be sent anew: they can't be decrypted, or this room is not encrypted. They stay there, for as long as the bot can read that room")
	}
	return raws, clear, nil
}

// resealing returns how a value was sealed anew, if it was.
func (r *Room) resealing(key string) (resealed, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	known, ok := r.resealed[key]
	return known, ok
}

// tookAlong says whether a key holds what was taken along and sealed anew.
func (r *Room) tookAlong(key string) bool {
	known, ok := r.resealing(key)
	entry, there, err := r.replica.Get(key)
	return ok && there && err == nil && bytes.Equal(entry.Raw, known.to)
}
