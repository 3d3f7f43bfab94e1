package homeserver

import "net/http"

// Page answers as a web server does in the homeserver's place, with a page that no
// homeserver sends; the server does not see the request.
func Page(code int) Action {
	const html = "<html>A web server's words, and not the homeserver's</html>"
	return Status(code, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, html)
}

// Redirect answers that the request is to be made at another base URL. The server does
// not see the request.
func Redirect(code int, base string) Action {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Location", base+r.URL.RequestURI())
		answer(w, code, http.Header{"Content-Type": {"text/html"}}, "")
	}
}
