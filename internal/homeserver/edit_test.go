package homeserver

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// An answer is edited, and what is not touched of it stays, numbers too. What is no JSON
// passes as it is.
func TestEdit(t *testing.T) {
	for says, want := range map[string]string{
		`{"n":1,"large":12345678901234567890}`: `{"n":2,"large":12345678901234567890}`,
		"<html>":                               "<html>",
	} {
		p := proxyTo(t, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusTeapot, http.Header{"X-Test": {"yes"}}, says)
		})
		p.Inject(Fault{Do: Edit(func(answer any) {
			object := answer.(map[string]any)
			require.Equal(t, json.Number("1"), object["n"])
			object["n"] = 2
		})})
		status, text := put(t, p, "")
		require.Equal(t, http.StatusTeapot, status)
		if says[0] == '{' {
			require.JSONEq(t, want, text)
			require.Contains(t, text, "12345678901234567890")
		} else {
			require.Equal(t, want, text)
		}
		require.Equal(t, len(text), p.Requests()[0].Size)
	}
}
