package homeserver

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Hold returns when no change is under way, and none begins before it is released.
func TestHold(t *testing.T) {
	var seen atomic.Int32
	reached, answered := make(chan struct{}), make(chan struct{})
	p := proxyTo(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && seen.Add(1) == 1 {
			close(reached)
			<-answered
		}
	})
	done := make(chan struct{}, 2)
	change := func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.URL(), nil)
		if err == nil {
			var answer *http.Response
			if answer, err = http.DefaultClient.Do(r); err == nil {
				answer.Body.Close()
			}
		}
		if err != nil {
			t.Error(err)
		}
		done <- struct{}{}
	}
	go change()
	<-reached
	held := make(chan func())
	go func() { held <- p.Hold() }()
	select {
	case <-held:
		t.Fatal("a change is under way")
	default:
	}
	close(answered)
	release := <-held
	<-done
	go change()
	read, err := http.Get(p.URL())
	require.NoError(t, err)
	read.Body.Close()
	require.Equal(t, int32(1), seen.Load(), "what only reads passes, and no change")
	release()
	<-done
	require.Equal(t, int32(2), seen.Load())
}

// What the server has begun is finished although the client has gone, and Hold waits for it.
func TestFinish(t *testing.T) {
	begun, goOn, finished := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	p := proxyTo(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-goOn:
			finished <- true
		case <-r.Context().Done():
			finished <- false
		}
	})
	p.Inject(Fault{Do: Finish()})
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, p.URL(), nil)
		if err == nil {
			_, err = client.Do(request)
		}
		gone <- err
	}()
	<-begun
	giveUp()
	require.ErrorIs(t, <-gone, context.Canceled)
	held := make(chan func())
	go func() { held <- p.Hold() }()
	select {
	case <-held:
		t.Fatal("Hold has not waited")
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	(<-held)()
	require.True(t, <-finished)
}
