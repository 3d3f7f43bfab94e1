package homeserver

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// Edit hands on what the server answers with some of it changed: for what a real
// server can say, and the one of the tests does not. The answer comes as package json
// decodes it, with numbers as json.Number. An answer that is no JSON passes as it is.
func Edit(edit func(answer any)) Action {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		r.Header.Del("Accept-Encoding") // or it could not be read
		recorder := act(r, server)
		text, header := recorder.Body.Bytes(), recorder.Header()
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var decoded any
		if decoder.Decode(&decoded) == nil {
			edit(decoded)
			edited, err := json.Marshal(decoded)
			if err != nil {
				panic(err) // what was decoded can be encoded
			}
			text = edited
			header.Del("Content-Length")
		}
		answer(w, recorder.Code, header, string(text))
	}
}
