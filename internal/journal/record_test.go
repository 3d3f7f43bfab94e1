package journal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRecords(t *testing.T) {
	anything := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) })
	rapid.Check(t, func(t *rapid.T) {
		c := Change{
			Key: anything.Draw(t, "key"), Over: anything.Draw(t, "over"), Depth: rapid.Int64().Draw(t, "depth"),
			Delete: rapid.Bool().Draw(t, "delete"), Seq: rapid.Uint64().Draw(t, "seq"),
			Since: time.Unix(0, rapid.Int64().Draw(t, "since")), Refused: anything.Draw(t, "refused"),
		}
		if c.Delete {
			c.Forced = rapid.Bool().Draw(t, "forced")
		} else {
			c.Value = []byte(anything.Draw(t, "value"))
		}
		if rapid.Bool().Draw(t, "attempted") {
			c.Attempt = &Attempt{Depth: rapid.Int64().Draw(t, "attempted depth"), ID: anything.Draw(t, "id"), Was: anything.Draw(t, "was")}
		}
		where := anything.Draw(t, "room")
		record := encodeChange(where, &c)
		room, got, err := decodeChange(record)
		require.NoError(t, err)
		require.Equal(t, where, room)
		require.Equal(t, c, *got)
		for i := range record {
			_, _, err := decodeChange(record[:i])
			require.Error(t, err, "it is cut off")
		}
		_, _, err = decodeChange(append(record, 0))
		require.Error(t, err)

		h := head{id: where, generation: c.Depth, seq: c.Seq, entries: 1, sum: rapid.Uint64().Draw(t, "sum")}
		again, err := decodeHead(h.encode())
		require.NoError(t, err)
		require.Equal(t, h, again)
	})
}

// Whatever stands in a file, it is a record or an error; and what is a record is written in one way.
func FuzzRecords(f *testing.F) {
	c := &Change{Key: "tea", Value: []byte("1"), Over: "0", Seq: 1, Since: time.Unix(1, 2), Attempt: &Attempt{1, "id", "was"}, Refused: "why"}
	h := header{account: account, salt: make([]byte, saltSize)}
	for _, record := range [][]byte{encodeChange(room, c), encodeChange(room, &Change{Delete: true, Forced: true}), head{id: "id"}.encode(), h.encode(), encodeNumber(-1), {}} {
		f.Add(record)
		f.Add(append(record, checksum(record)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if room, c, err := decodeChange(raw); err == nil {
			room2, again, err := decodeChange(encodeChange(room, c))
			require.NoError(t, err)
			require.Equal(t, room, room2)
			require.Equal(t, c, again)
			require.False(t, c.Delete && c.Value != nil || !c.Delete && c.Value == nil || c.Forced && !c.Delete)
		}
		if h, err := decodeHead(raw); err == nil {
			again, err := decodeHead(h.encode())
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
		if h, err := decodeHeader(raw); err == nil {
			require.Len(t, h.salt, saltSize)
		}
		_, _ = decodeHeader(append(raw[:len(raw):len(raw)], checksum(raw)...))
		_, _ = decodeNumber(raw)
		for _, b := range boxes {
			record, err := b.open(inChanges, []byte("key"), raw)
			require.False(t, err == nil && b.aead != nil, "nobody can make what is sealed without the passphrase")
			require.Equal(t, err == nil, record != nil)
		}
	})
}

var boxes = []*box{must(newBox(make([]byte, saltSize), "")), must(newBox(make([]byte, saltSize), passphrase))}

func TestBox(t *testing.T) {
	key := []byte("key")
	for _, b := range boxes {
		for _, record := range []string{"", "1", "a record"} {
			raw := b.seal(inChanges, key, []byte(record))
			got, err := b.open(inChanges, key, raw)
			require.NoError(t, err)
			require.Equal(t, record, string(got))
			require.NotNil(t, got)
			_, err = b.open(inRooms, key, raw)
			require.Error(t, err, "another bucket")
			_, err = b.open(inChanges, []byte("kez"), raw)
			require.Error(t, err, "another key")
			_, err = b.open(inChanges+"k", key[1:], raw)
			require.Error(t, err, "where one ends and the other begins")
			other := *b
			other.salt = []byte("another file's  ")
			_, err = other.open(inChanges, key, raw)
			require.Error(t, err, "another file")
			for i := range raw {
				raw[i] ^= 1
				_, err := b.open(inChanges, key, raw)
				require.Error(t, err)
				raw[i] ^= 1
			}
			if b.aead != nil {
				require.NotEqual(t, raw, b.seal(inChanges, key, []byte(record)), "no nonce is used twice")
			}
		}
		require.NotEqual(t, b.name(name{"ab", "c"}), b.name(name{"a", "bc"}))
	}
	require.NotEqual(t, boxes[0].name(name{"a", "b"}), boxes[1].name(name{"a", "b"}), "a name can't be tried without the passphrase")
}
