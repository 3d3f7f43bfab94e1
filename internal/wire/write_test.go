package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const author = "@memory:localhost"

// signed returns a dictionary's content with a write, and the write.
func signed(t require.TestingT, entries map[string]string) (json.RawMessage, Write) {
	changes := make(map[string]json.RawMessage)
	stamps := map[string]Stamp{"deleted before": {Depth: 3, ID: "$event"}}
	for key, value := range entries {
		changes[key] = EncodeValue([]byte(value))
		stamps[key] = Stamp{Depth: 7}
	}
	write, content := Dictionary{}.With(changes).Sign(Write{Depth: 7, Floor: 2, Base: "$base", Keys: stamps}, [nonceSize]byte{1, 2, 3, 4}, author)
	return content, write
}

// What a memory signs is known as its own, in whatever way the homeserver writes it.
func TestAuthored(t *testing.T) {
	content, write := signed(t, map[string]string{"tea": `"gr\u00fcn"`, "milk": `{"b":[1,true],"a":null}`})
	id := `"` + write.ID + `"`
	for name, test := range map[string]struct {
		content string
		sender  string
		want    bool
	}{
		"as it was signed":    {string(content), author, true},
		"another sender":      {string(content), "@other:localhost", false},
		"escapes":             {strings.Replace(string(content), "ü", `\u00FC`, 1), author, true},
		"white space":         {strings.Replace(string(content), `"milk":`, "\n \"milk\" : ", 1), author, true},
		"another order":       {`{"tea":"grün",` + strings.Replace(strings.TrimPrefix(string(content), "{"), `,"tea":"grün"`, "", 1), author, true},
		"another value":       {strings.Replace(string(content), "grün", "gelb", 1), author, false},
		"one key less":        {strings.Replace(string(content), `,"tea":"grün"`, "", 1), author, false},
		"another number":      {strings.Replace(string(content), "[1,", "[1.0,", 1), author, false},
		"another depth":       {strings.Replace(string(content), `"depth":7`, `"depth":8`, 1), author, false},
		"another stamp":       {strings.Replace(string(content), `[3,"$event"]`, `[4,"$event"]`, 1), author, false},
		"another ID":          {strings.ReplaceAll(string(content), id, `"AQIDBAAAAAAAAAAA"`), author, false},
		"no write":            {`{"tea":"green"}`, author, false},
		"a write of no shape": {`{"dev.joe.write":{"id":"AQIDBAAAAAAAAAAA"}}`, author, false},
		"no object":           {`[]`, author, false},
		"no JSON":             {`{`, author, false},
	} {
		require.Equal(t, test.want, Authored(json.RawMessage(test.content), test.sender), name)
	}
}

func TestWritesAreReadAsTheyWereSigned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.MapOf(rapid.String(), rapid.SampledFrom([]string{`1`, `"x"`, `{"a":{}}`, "\x00", ""})).Draw(t, "entries")
		content, write := signed(t, entries)
		require.True(t, Authored(content, author))
		dict, err := Layout{}.Decode("", content)
		require.NoError(t, err)
		require.Equal(t, &write, dict.Write)
		require.Equal(t, string(content), string(Dictionary{Entries: dict.Entries, Write: &write}.Content()), "the content of what was signed here")
		require.Empty(t, dict.Rest)
		require.Len(t, dict.Entries, len(entries))
		for key, value := range entries {
			require.Equal(t, value, string(dict.Entries[key].Value))
			require.Equal(t, Stamp{Depth: 7, ID: write.ID}, dict.Write.Keys[key])
		}
		require.Equal(t, CanonicalSize(content), len(content))
		require.LessOrEqual(t, len(content)-len(Dictionary{Entries: dict.Entries}.Content()), write.Size())
	})
}

// The write is no key, and a key of its name is none of it.
func TestTheWriteIsNoKey(t *testing.T) {
	content, _ := signed(t, map[string]string{"dev.joe.write": `1`})
	dict, err := Layout{}.Decode("", content)
	require.NoError(t, err)
	require.Contains(t, string(content), `"dev.joe.key:ZGV2LmpvZS53cml0ZQ==":1`)
	require.Equal(t, `1`, string(dict.Entries["dev.joe.write"].Value))
	require.Equal(t, `{"dev.joe.key:ZGV2LmpvZS53cml0ZQ==":1,"tea":2}`, string(dict.With(map[string]json.RawMessage{"tea": json.RawMessage(`2`)}).Content()))

	_, err = Layout{PerKey: true}.Decode("tea", json.RawMessage(`{"dev.joe.write":{},"tea":1}`))
	require.ErrorIs(t, err, ErrForeign)
}

// A write of another shape counts as none, and the keys beside it count.
func TestWritesOfNoShape(t *testing.T) {
	content, write := signed(t, map[string]string{"tea": `1`})
	for _, broken := range []string{
		`null`, `[]`, `"x"`, `{}`,
		strings.Replace(string(write.encode(write.ID)), `"depth":7`, `"depth":0`, 1),
		strings.Replace(string(write.encode(write.ID)), `"depth":7`, `"depth":7.5`, 1),
		strings.Replace(string(write.encode(write.ID)), `"depth":7`, `"depth":"7"`, 1),
		strings.Replace(string(write.encode(write.ID)), `"floor":2`, `"floor":8`, 1),
		strings.Replace(string(write.encode(write.ID)), write.ID, "short", 1),
		strings.Replace(string(write.encode(write.ID)), `[3,"$event"]`, `[3]`, 1),
		strings.Replace(string(write.encode(write.ID)), `[3,"$event"]`, `[8,"$event"]`, 1),
		strings.Replace(string(write.encode(write.ID)), `[3,"$event"]`, `[3,""]`, 1),
	} {
		require.NotEqual(t, string(write.encode(write.ID)), broken)
		with := strings.Replace(string(content), string(write.encode(write.ID)), broken, 1)
		dict, err := Layout{}.Decode("", json.RawMessage(with))
		require.NoError(t, err, broken)
		require.Nil(t, dict.Write, broken)
		require.Equal(t, `1`, string(dict.Entries["tea"].Value))
		require.False(t, Authored(json.RawMessage(with), author))
	}
}

func FuzzAuthored(f *testing.F) {
	f.Add([]byte(`{"tea":"green"}`))
	f.Add([]byte(`{"dev.joe.write":{"base":"","depth":1,"floor":0,"id":"AQIDBAAAAAAAAAAA","keys":{"tea":[1,"AQIDBAAAAAAAAAAA"]}},"tea":1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if Authored(content, author) {
			dict, err := Layout{}.Decode("", content)
			require.NoError(t, err)
			require.NotNil(t, dict.Write)
			require.False(t, Authored(content, author+"x"))
		}
	})
}
