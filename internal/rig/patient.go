package rig

import (
	"net/http"
	"time"
)

// A patient transport asks again what a homeserver could not read just then: Dendrite 0.13.8 says
// at times that a database is locked.
type patient struct{ *http.Transport }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for tries := 1; ; tries++ {
		answer, err := p.Transport.RoundTrip(r)
		if err != nil || r.Method != http.MethodGet || answer.StatusCode != http.StatusInternalServerError || tries == 5 {
			return answer, err
		}
		_ = answer.Body.Close()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}
