//go:build goolm

package e2ee

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A fault with one of the events that a sync brings for the bot's device takes no other with it,
// nor what else the sync brings.
func TestFaultWithOneEvent(t *testing.T) {
	c, said := detached(t)
	p := newCorrespondent(t, c)
	first, faulty := p.shares(t)
	second, fine := p.shares(t)
	c.machine.SessionReceived = func(_ context.Context, _ id.RoomID, sessionID id.SessionID, _ uint32) {
		if sessionID == faulty {
			panic("a secret")
		}
	}
	var response mautrix.RespSync
	response.DeviceOTKCount.SignedCurve25519 = enoughKeys
	response.ToDevice.Events = []*event.Event{first, second}
	c.process(t.Context(), &response, "")
	stored, err := c.sessions.GetGroupSession(t.Context(), fuzzRoom, fine)
	require.NoError(t, err)
	require.NotNil(t, stored)
	require.Len(t, said.AllEntries(), 1)
	require.Contains(t, said.LastEntry().Message, "fault in this program")
	require.Equal(t, fuzzPeer.String(), said.LastEntry().Data["sender"])
	require.NotContains(t, said.LastEntry().Message, "a secret")
}

// waiting has a request wait until its context ends.
type waiting struct{ asked, ended chan struct{} }

func (w waiting) RoundTrip(r *http.Request) (*http.Response, error) {
	close(w.asked)
	<-r.Context().Done()
	close(w.ended)
	return nil, r.Context().Err()
}

// What the machine does of its own accord for an Olm session that is broken, Close waits for.
func TestUnwedgingIsWaitedFor(t *testing.T) {
	c, _ := detached(t)
	p := newCorrespondent(t, c)
	asked, ended := make(chan struct{}), make(chan struct{})
	c.machine.Client.Client.Transport = waiting{asked, ended}
	var response mautrix.RespSync
	response.DeviceOTKCount.SignedCurve25519 = enoughKeys
	response.ToDevice.Events = []*event.Event{p.sends(1, "AwoA")}
	c.process(t.Context(), &response, "")
	<-asked // for the device's keys
	c.cancel()
	c.tasks.Wait()
	select {
	case <-ended:
	default:
		t.Fatal("it still runs")
	}
}
