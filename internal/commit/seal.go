package commit

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// seal sends the values that go out encrypted, several in one event as far as
// they fit. It returns what is to stand in the state for every changed key, and
// the events that were sent, also if it fails.
func (q *Queue) seal(ctx context.Context, m *merge) (raws map[string]json.RawMessage, sent []string, err error) {
	raws = make(map[string]json.RawMessage, len(m.changes))
	var secret []string
	for key, setting := range m.changes {
		if setting.seal {
			secret = append(secret, key)
		} else {
			raws[key] = setting.raw
		}
	}
	slices.Sort(secret)
	for len(secret) > 0 {
		size, n := 0, 0
		values := make(map[string]json.RawMessage)
		for _, key := range secret {
			raw := m.changes[key].raw
			if size += memberSize(m.base.Name(key), raw); n > 0 && size+2 > m.sealLimit {
				break
			}
			values[key] = raw
			n++
		}
		content := wire.Dictionary{}.NamedAs(m.base).With(values).Content()
		eventID, err := q.env.Seal(ctx, content)
		if err != nil {
			return nil, sent, err
		}
		sent = append(sent, eventID)
		for _, key := range secret[:n] {
			raws[key] = wire.EncodePointer(eventID)
		}
		secret = secret[n:]
	}
	return raws, sent, nil
}
