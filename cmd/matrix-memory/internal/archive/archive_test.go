package archive

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
)

var held = place.Contents{Values: map[string][]byte{
	"tea": []byte(`"green"`), "list": []byte(`[1,{"b":1.50,"a":12345678901234567890}]`), "bytes": {0, 0xff}, "empty": {},
	"\xff key": []byte("1"), "": []byte("null"), "look": []byte(`{"dev.joe.bytes":"AA=="}`), "html": []byte(`"<&>"`), "pointer": []byte(`{"encrypted_val":"$a"}`),
}}

func encoded(t *testing.T) []byte {
	t.Helper()
	text, err := Encode("!room:example.org", time.Unix(1, 2), held)
	require.NoError(t, err)
	return text
}

func TestWhatGoesInComesOut(t *testing.T) {
	text := encoded(t)
	require.Equal(t, `{"format":"matrix-memory export","version":1,"room":"!room:example.org","time":"1970-01-01T00:00:01Z"}`, strings.Split(string(text), "\n")[0])
	back, err := Decode(bytes.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, held.Values, back.Values)

	text, err = Encode("!room:example.org", time.Unix(1, 2), place.Contents{})
	require.NoError(t, err)
	back, err = Decode(bytes.NewReader(text))
	require.NoError(t, err)
	require.Empty(t, back.Values)

	text, err = Encode("!room:example.org", time.Unix(1, 2), place.Contents{Unreadable: map[string]error{"lost": errUnread, "\xff": errUnread}})
	require.NoError(t, err)
	back, err = Decode(bytes.NewReader(text))
	require.NoError(t, err)
	require.Contains(t, back.Unreadable, "lost")
	require.Contains(t, back.Unreadable, "\xff")
}

// TestEachCutAndEachChangeIsNoticed cuts an export off after each of its bytes, leaves each of its lines out, and changes each byte.
func TestEachCutAndEachChangeIsNoticed(t *testing.T) {
	text := encoded(t)
	for n := range len(text) - 1 { // the last line end is no loss
		_, err := Decode(bytes.NewReader(text[:n]))
		require.Errorf(t, err, "cut off after %d of %d bytes", n, len(text))
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	for n := range lines {
		var without []byte
		for i, line := range lines {
			if i != n {
				without = append(without, line...)
			}
		}
		_, err := Decode(bytes.NewReader(without))
		require.Errorf(t, err, "without line %d", n+1)
	}
	last := len(text) - len(lines[len(lines)-1])
	for n := range last {
		changed := bytes.Clone(text)
		changed[n] ^= 1
		_, err := Decode(bytes.NewReader(changed))
		require.Errorf(t, err, "byte %d is another one", n)
	}
}

func TestFaultsAreNamed(t *testing.T) {
	const head = `{"format":"matrix-memory export","version":1,"room":"!r","time":"2026-01-01T00:00:00Z"}` + "\n"
	for text, says := range map[string]string{
		"":                                      "it is no export",
		"tea is green\n":                        "it is no export",
		`{"tea":"green"}`:                       "it is no export",
		strings.Replace(head, "1,", "2,", 1):    "version 2 of the format",
		head:                                    "cut off after line 1",
		head + `{"key":"tea","value":1}` + "\n": "cut off after line 2",
		head + `{"key":"tea","value":"secret` + "\n":                                  "line 2: it is damaged",
		head + `{"key":"tea","value":1}}` + "\n" + `{"keys":1}`:                       "line 2: it is damaged",
		head + `{"key":"tea"}` + "\n":                                                 "line 2: it is damaged",
		head + `{"key":"tea","value":1,"more":2}` + "\n":                              "line 2: it is damaged",
		head + `{"key":"tea","value":1}` + "\n" + `{"key":"tea","value":2}`:           `line 3: the key "tea" is there twice`,
		head + `{"key":"tea","value":{"dev.joe.bytes":"?"}}` + "\n":                   `line 2: the value of "tea"`,
		head + `{"key":"tea","value":{"encrypted_val":"$e"}}` + "\n":                  "stands in another event, $e",
		head + `{"key":"tea","value":1}` + "\n" + `{"keys":2}` + "\n":                 "has 1 keys, and its last line says that there are 2",
		head + `{"keys":0}` + "\n" + `{"key":"tea","value":1}` + "\n":                 "others follow",
		head + `{"key":"tea","value":1}` + "\n" + `{"keys":1,"sha256":"0000"}` + "\n": "says the sha256",
	} {
		_, err := Decode(strings.NewReader(text))
		require.ErrorContains(t, err, says, text)
		require.NotContains(t, err.Error(), "secret")
	}
	back, err := Decode(strings.NewReader(head + `{"key":"tea","value":1}` + "\n" + `{"keys":1}`))
	require.NoError(t, err, "one that was changed by hand")
	require.Equal(t, "1", string(back.Values["tea"]))
}
