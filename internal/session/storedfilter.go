package session

import (
	"context"
	"net/http"
	"time"

	"maunium.net/go/mautrix"
)

// A storedFilter is a filter that is sent with sync after sync. Synapse checks one that stands in
// the request each time, which takes it longer than the rest of a sync that brings an event; so
// after some syncs the homeserver is asked to keep it, and from then on its ID is sent. Who syncs
// seldom asks for nothing.
type storedFilter struct {
	text string // the filter itself
	id   string // "": the homeserver does not keep it, as far as is known
	sent int    // how often the text was sent since the last failure
}

// wholeFilters is how many syncs are sent the filter itself.
const wholeFilters = 3

// storing is how long the homeserver may take to keep a filter.
const storing = 5 * time.Second

// forget sends the filter itself again. Whenever sync has failed that is done: a homeserver that
// was restored from a backup may not know the ID, or mean another filter of the account by it.
func (f *storedFilter) forget() { f.id, f.sent = "", 0 }

// filter returns what the next sync is to send as its filter.
func (f *follower) filter(ctx context.Context) string {
	if f.next.id == "" && f.next.sent == wholeFilters { // once: a homeserver that keeps none gets the text for good
		f.next.id = f.store(ctx)
	}
	if f.next.id != "" {
		return f.next.id
	}
	f.next.sent++
	return f.next.text
}

// store asks the homeserver to keep the filter, and returns its ID there; "": it does not.
func (f *follower) store(ctx context.Context) (id string) {
	ctx, cancel := context.WithTimeout(ctx, min(storing, f.Timeout/2)) // sync waits for it
	defer cancel()
	var kept mautrix.RespCreateFilter
	if _, err := f.client.MakeFullRequest(ctx, mautrix.FullRequest{
		Method:       http.MethodPost,
		URL:          f.client.BuildClientURL("v3", "user", f.client.UserID, "filter"),
		RequestBytes: []byte(f.next.text),
		ResponseJSON: &kept,
		MaxAttempts:  1,
	}); err != nil {
		f.Log.WithError(anonymous(err)).Debug("The homeserver does not keep the filter of sync; each sync is sent it")
		return ""
	}
	return kept.FilterID
}
