package replica_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/replica"
	"github.com/go-joe/matrix-memory/internal/wire"
)

// A fixture is a room with one dictionary, and short words for what happens to it.
type fixture struct {
	*replica.Room
	t *testing.T
}

// load loads a room with events that sync has brought as well, so that it is in step.
func load(room *replica.Room, state, older []replica.Event) (todo bool) {
	room.Expect()
	todo = room.Restore(state, older)
	for _, event := range state {
		room.Apply(event)
	}
	return todo
}

// bySync returns a room that is in step at event $0.
func bySync(t *testing.T, content string) fixture {
	f := fixture{replica.New(wire.Layout{}), t}
	load(f.Room, []replica.Event{event("$0", content)}, nil)
	return f
}

// byRead returns a room that was read at event $5, while sync was behind.
func byRead(t *testing.T, content string) fixture {
	f := fixture{replica.New(wire.Layout{}), t}
	f.Expect()
	f.Restore([]replica.Event{event("$5", content)}, nil)
	return f
}

func event(id, content string) replica.Event {
	return replica.Event{ID: id, Content: json.RawMessage(content)}
}

func (f fixture) begin(key, raw string) wire.Dictionary {
	base, err := f.Begin("")
	require.NoError(f.t, err)
	change := json.RawMessage(raw)
	if raw == "" {
		change = nil
	}
	return base.With(map[string]json.RawMessage{key: change})
}

func (f fixture) write(id, key, raw string) {
	f.Commit("", id, f.begin(key, raw), []string{key})
}

func (f fixture) read(id, content string) {
	f.Hold("")
	require.NoError(f.t, f.Refresh(event(id, content), true))
}

// restore does what Todo must ask for, and returns what is written.
func (f fixture) restore(id string) string {
	require.Equal(f.t, []replica.Task{{Restore: true}}, f.Todo())
	base, changes, ok, err := f.Amend("")
	require.NoError(f.t, err)
	require.True(f.t, ok)
	content := base.With(changes)
	f.Commit("", id, content, nil)
	return string(content.Content())
}

func (f fixture) holds(content string) {
	f.t.Helper()
	var want map[string]json.RawMessage
	require.NoError(f.t, json.Unmarshal([]byte(content), &want))
	keys, err := f.Keys()
	require.NoError(f.t, err)
	got := make(map[string]json.RawMessage)
	for _, key := range keys {
		entry, ok, err := f.Get(key)
		require.NoError(f.t, err)
		require.True(f.t, ok)
		got[key] = entry.Raw
	}
	require.Equal(f.t, want, got)
}

func TestOrder(t *testing.T) {
	tests := map[string]struct {
		happens func(f fixture)
		holds   string
		stale   bool
	}{
		"an answer before its echo": {func(f fixture) {
			f.write("$1", "a", "1")
			f.Apply(event("$1", `{"a":1}`))
			f.Apply(event("$2", `{"a":2}`))
		}, `{"a":2}`, false},
		"an echo before its answer": {func(f fixture) {
			content := f.begin("a", "1")
			f.Apply(event("$1", `{"a":1}`))
			f.Apply(event("$2", `{"a":2}`))
			f.holds(`{"o":0}`)
			f.Commit("", "$1", content, []string{"a"})
		}, `{"a":2}`, false},
		"echoes of earlier own writes": {func(f fixture) {
			f.write("$1", "a", "1")
			f.write("$2", "a", "2")
			f.Apply(event("$1", `{"a":1,"o":0}`))
		}, `{"a":2,"o":0}`, false},
		"an older foreign event after the answer": {func(f fixture) {
			f.write("$2", "a", "2")
			f.Apply(event("$1", `{"a":1}`))
		}, `{"a":2,"o":0}`, true},
		"an older foreign event, then the echo": {func(f fixture) {
			f.write("$2", "o", "2")
			f.Apply(event("$1", `{"o":1}`))
			f.Apply(event("$2", `{"o":2}`))
		}, `{"o":2}`, false},
		"a gap that swallows the echo": {func(f fixture) {
			f.write("$1", "a", "1")
			f.Apply(event("$2", `{"a":2}`))
			f.holds(`{"a":1,"o":0}`)
			f.read("$2", `{"a":2}`)
		}, `{"a":2}`, false},
		"a refused write": {func(f fixture) {
			f.begin("a", "1")
			f.Abort("")
		}, `{"o":0}`, false},
		"a write without an answer": {func(f fixture) {
			f.begin("a", "1")
			f.Doubt("")
		}, `{"o":0}`, true},
		"a read while sync goes further": {func(f fixture) {
			f.begin("a", "1")
			f.Doubt("")
			f.Hold("")
			f.Apply(event("$1", `{"a":1}`)) // comes after the server has made its answer
			require.NoError(f.t, f.Refresh(event("$0", `{"o":0}`), true))
		}, `{"a":1}`, false},
		"a read that failed": {func(f fixture) {
			f.Hold("")
			f.Apply(event("$1", `{"a":1}`))
			f.Abort("")
		}, `{"a":1}`, false},
		"the answer is the event that stood there already": {func(f fixture) {
			content := f.begin("a", "1")
			f.Apply(event("$1", `{"a":1,"o":0}`))
			f.Commit("", "$1", content, []string{"a"})
			f.Apply(event("$2", `{"a":2}`))
		}, `{"a":2}`, false},
		"a redaction": {func(f fixture) {
			require.True(f.t, f.Redacted("$0"))
			require.True(f.t, f.Stale(""))
			f.read("$0", `{}`)
		}, `{}`, false},
		"a redaction of what is held back": {func(f fixture) {
			f.begin("a", "1")
			f.Apply(event("$1", `{"secret":1}`))
			require.True(f.t, f.Redacted("$1"))
			f.Abort("")
			f.read("$1", `{}`)
		}, `{}`, false},
		"a redaction of something else": {func(f fixture) {
			require.False(f.t, f.Redacted("$9"))
		}, `{"o":0}`, false},
		"a read of the whole state that is late": {func(f fixture) {
			f.Expect()
			f.Apply(event("$1", `{"a":1}`))
			f.Restore([]replica.Event{event("$0", `{"o":0}`)}, nil)
		}, `{"a":1}`, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := bySync(t, `{"o":0}`)
			test.happens(f)
			f.holds(test.holds)
			require.Equal(t, test.stale, f.Stale(""))
		})
	}
}

func TestRestoresWhatAnOwnWriteTookAway(t *testing.T) {
	t.Run("a key that was set", func(t *testing.T) {
		f := bySync(t, `{"o":0}`)
		f.write("$2", "a", "1")
		f.Apply(event("$1", `{"o":0,"x":1}`))
		f.Apply(event("$2", `{"a":1,"o":0}`))
		require.Equal(t, `{"a":1,"o":0,"x":1}`, f.restore("$3"))
		require.Empty(t, f.Todo())
	})
	t.Run("a key that was deleted", func(t *testing.T) {
		f := bySync(t, `{"o":0}`)
		f.write("$2", "a", "1")
		f.Apply(event("$1", `{}`))
		f.Apply(event("$2", `{"a":1,"o":0}`))
		require.Equal(t, `{"a":1}`, f.restore("$3"))
	})
	t.Run("a change after an earlier own write of the same key", func(t *testing.T) {
		f := bySync(t, `{}`)
		f.write("$1", "a", "1")
		f.write("$3", "b", "1")
		f.Apply(event("$1", `{"a":1}`))
		f.Apply(event("$2", `{"a":2}`))
		f.Apply(event("$3", `{"a":1,"b":1}`))
		require.Equal(t, `{"a":2,"b":1}`, f.restore("$4"))
	})
	t.Run("again, if the restoring write met another writer", func(t *testing.T) {
		f := bySync(t, `{}`)
		f.write("$2", "a", "1")
		f.Apply(event("$1", `{"x":1}`))
		f.Apply(event("$2", `{"a":1}`))
		require.Equal(t, `{"a":1,"x":1}`, f.restore("$4"))
		f.Apply(event("$3", `{"a":1,"x":2}`))
		f.Apply(event("$4", `{"a":1,"x":1}`))
		require.Equal(t, `{"a":1,"x":2}`, f.restore("$5"))
	})
	t.Run("even if the present event was read before sync came to it", func(t *testing.T) {
		f := bySync(t, `{}`)
		f.write("$2", "a", "1")
		f.Apply(event("$1", `{"x":1}`))
		f.read("$3", `{"a":1,"y":1}`)
		f.Apply(event("$2", `{"a":1}`))
		f.Apply(event("$3", `{"a":1,"y":1}`))
		require.Equal(t, `{"a":1,"x":1,"y":1}`, f.restore("$4"))
	})
	nothing := map[string]func(f fixture){
		"a key that an own write changed too": func(f fixture) {
			f.write("$2", "x", "2")
			f.Apply(event("$1", `{"x":1}`))
			f.Apply(event("$2", `{"x":2}`))
		},
		"a key that an own write changed since": func(f fixture) {
			f.write("$2", "a", "1")
			f.Apply(event("$1", `{"x":1}`))
			f.Apply(event("$2", `{"a":1}`))
			f.write("$3", "x", "3")
		},
		"a key that somebody changed since": func(f fixture) {
			f.write("$2", "a", "1")
			f.Apply(event("$1", `{"x":1}`))
			f.Apply(event("$2", `{"a":1}`))
			f.Apply(event("$3", `{"a":1,"x":3}`))
		},
		"before sync is certain": func(f fixture) {
			f.write("$2", "a", "1")
			f.Apply(event("$1", `{"x":1}`))
			f.read("$2", `{"a":1}`)
		},
		"what was redacted": func(f fixture) {
			f.write("$2", "a", "1")
			f.Apply(event("$1", `{"x":1}`))
			f.Redacted("$1")
			f.Apply(event("$2", `{"a":1}`))
		},
	}
	for name, happens := range nothing {
		t.Run("not "+name, func(t *testing.T) {
			f := bySync(t, `{}`)
			happens(f)
			require.Empty(t, f.Todo())
		})
	}
}

func TestLoading(t *testing.T) {
	t.Run("nothing is known before", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		require.False(t, f.Apply(event("$0", `{"a":1}`)))
		_, _, err := f.Get("a")
		require.ErrorIs(t, err, replica.ErrNotLoaded)
		_, err = f.Keys()
		require.ErrorIs(t, err, replica.ErrNotLoaded)
		_, err = f.Begin("")
		require.ErrorIs(t, err, replica.ErrNotLoaded)
	})
	t.Run("by read, and what sync brings next may be older", func(t *testing.T) {
		f := byRead(t, `{"a":5}`)
		require.True(t, f.Apply(event("$4", `{"a":4}`)))
		f.holds(`{"a":5}`)
		require.False(t, f.Apply(event("$5", `{"a":5}`)))
		require.False(t, f.Apply(event("$6", `{"a":6}`)))
		f.holds(`{"a":6}`)
	})
	t.Run("what sync brings meanwhile counts", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		f.Expect()
		f.Apply(event("$5", `{"a":5}`))
		f.Apply(event("$6", `{"a":6}`))
		require.False(t, f.Restore([]replica.Event{event("$5", `{"a":5}`)}, nil))
		f.holds(`{"a":6}`)
	})
	t.Run("what was redacted meanwhile is read again", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		f.Expect()
		f.Redacted("$5")
		require.True(t, f.Restore([]replica.Event{event("$5", `{"a":5}`)}, nil))
		require.True(t, f.Stale(""))
	})
	t.Run("a room that was left meanwhile stays unloaded", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		f.Expect()
		f.Forget()
		f.Restore([]replica.Event{event("$5", `{"a":5}`)}, nil)
		require.False(t, f.Loaded())
	})
	t.Run("a write under way when the room is left leaves nothing behind", func(t *testing.T) {
		f := bySync(t, `{"o":0}`)
		content := f.begin("a", "1")
		f.Forget()
		f.Commit("", "$1", content, []string{"a"})
		f.Doubt("")
		f.Abort("")
		require.Empty(t, f.Todo())
		load(f.Room, []replica.Event{event("$1", `{"a":1,"o":0}`)}, nil)
		f.holds(`{"a":1,"o":0}`)
	})
	t.Run("a write under way when the room is loaded anew is read again", func(t *testing.T) {
		f := bySync(t, `{"o":0}`)
		content := f.begin("a", "1")
		f.Forget()
		load(f.Room, []replica.Event{event("$0", `{"o":0}`)}, nil)
		f.Commit("", "$1", content, []string{"a"})
		require.True(t, f.Stale(""))
	})
}

func TestVanished(t *testing.T) {
	f := bySync(t, `{"a":1}`)
	f.Hold("")
	require.ErrorIs(t, f.Refresh(replica.Event{}, false), replica.ErrVanished)
	f.holds(`{"a":1}`)

	f = fixture{replica.New(wire.Layout{}), t}
	load(f.Room, nil, nil)
	f.begin("a", "1")
	f.Doubt("")
	f.Hold("")
	require.NoError(t, f.Refresh(replica.Event{}, false), "there never was one")
	require.False(t, f.Stale(""))
}

func TestOlderType(t *testing.T) {
	older := []replica.Event{event("$old", `{"a":1,"b":2}`)}
	t.Run("stands in and is copied", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		require.True(t, load(f.Room, nil, older))
		f.holds(`{"a":1,"b":2}`)
		require.Equal(t, []replica.Task{{Copy: true}}, f.Todo())
		base, changes, ok, err := f.Amend("")
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, changes)
		f.Commit("", "$1", base, nil)
		require.Empty(t, f.Todo())
	})
	t.Run("is no news where the present type is", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		require.False(t, load(f.Room, []replica.Event{event("$1", `{}`)}, older))
		f.holds(`{}`)
	})
	t.Run("gives way to what sync brings", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		load(f.Room, nil, older)
		f.Apply(event("$1", `{"c":3}`))
		f.holds(`{"c":3}`)
		_, _, ok, err := f.Amend("")
		require.NoError(t, err)
		require.False(t, ok)
	})
	t.Run("a writer that the copy met loses nothing, nor does the copy", func(t *testing.T) {
		f := fixture{replica.New(wire.Layout{}), t}
		load(f.Room, nil, older)
		base, _, _, _ := f.Amend("")
		f.Commit("", "$2", base, nil)
		f.Apply(event("$1", `{"c":3}`))
		f.Apply(event("$2", `{"a":1,"b":2}`))
		require.Equal(t, `{"a":1,"b":2,"c":3}`, f.restore("$3"))
	})
}

func TestWhatIsNoMemory(t *testing.T) {
	t.Run("another's event in the per-key layout is passed over", func(t *testing.T) {
		room := replica.New(wire.Layout{PerKey: true})
		load(room, []replica.Event{{ID: "$0", StateKey: "k", Content: json.RawMessage(`{"other":1}`)}}, nil)
		_, ok, err := room.Get("k")
		require.NoError(t, err)
		require.False(t, ok)
		keys, err := room.Keys()
		require.NoError(t, err)
		require.Empty(t, keys)
		_, err = room.Begin("k")
		require.ErrorIs(t, err, wire.ErrForeign, "it is left alone")
	})
	t.Run("malformed content is an error until it is mended", func(t *testing.T) {
		f := bySync(t, `[]`)
		_, _, err := f.Get("a")
		require.ErrorIs(t, err, wire.ErrMalformed)
		_, err = f.Keys()
		require.ErrorIs(t, err, wire.ErrMalformed)
		_, err = f.Begin("")
		require.ErrorIs(t, err, wire.ErrMalformed)
		f.Apply(event("$1", `{"a":1}`))
		f.holds(`{"a":1}`)
	})
	t.Run("another state key is another memory", func(t *testing.T) {
		f := bySync(t, `{"a":1}`)
		require.False(t, f.Apply(replica.Event{ID: "$1", StateKey: "else", Content: json.RawMessage(`{"a":2}`)}))
		f.holds(`{"a":1}`)
	})
}

func TestPoints(t *testing.T) {
	f := bySync(t, `{"a":{"encrypted_val":"$s"},"b":{"encrypted_val":"$s"}}`)
	f.write("$1", "a", "")
	require.True(t, f.Points("$s"))
	f.write("$2", "b", "")
	require.False(t, f.Points("$s"))
}

// What an encrypted event holds is kept for as long as the key points there.
func TestOpen(t *testing.T) {
	content := func(a, b string) json.RawMessage {
		return fmt.Appendf(nil, `{"a":{"encrypted_val":%q},"b":{"encrypted_val":%q}}`, a, b)
	}
	room := replica.New(wire.Layout{})
	room.Expect()
	room.Restore([]replica.Event{{ID: "$1", Content: content("$a", "$b")}}, nil)
	value := func(key string) string {
		entry, ok, err := room.Get(key)
		require.NoError(t, err)
		require.True(t, ok)
		return string(entry.Value)
	}
	require.Empty(t, value("a"))
	base, err := room.Begin("")
	require.NoError(t, err)
	room.Abort("")
	room.Open("a", "$a", []byte("A"))
	room.Open("b", "$b", []byte("B"))
	room.Open("b", "$elsewhere", []byte("C"))
	room.Open("missing", "$a", []byte("A"))
	require.Equal(t, "A", value("a"))
	require.Equal(t, "B", value("b"))
	require.Nil(t, base.Entries["a"].Value, "what a write builds upon stays as it is")

	room.Apply(replica.Event{ID: "$1", Content: content("$a", "$b")})
	require.Equal(t, "A", value("a"))
	room.Apply(replica.Event{ID: "$2", Content: content("$a", "$other")})
	require.Equal(t, "A", value("a"))
	require.Empty(t, value("b"))
}

// A read of the room's whole state shows that sync brought an older event last: the
// one that stands there is read again. What stands there already is left alone.
func TestCompareWithAnotherOrder(t *testing.T) {
	f := bySync(t, `{"a":1}`)
	f.Apply(event("$2", `{"a":1,"b":2}`))
	f.Apply(event("$1", `{"a":0}`)) // which $2 had replaced
	require.True(t, f.Compare([]replica.Event{event("$2", `{"a":1,"b":2}`)}))
	require.True(t, f.Stale(""), "nothing is written upon it")
	f.read("$2", `{"a":1,"b":2}`)
	require.False(t, f.Compare([]replica.Event{event("$2", `{"a":1,"b":2}`)}))
	require.False(t, f.Stale(""))
}
