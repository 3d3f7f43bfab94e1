package benchmarks

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-joe/joe"
	"go.uber.org/zap"
	"maunium.net/go/mautrix/id"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func BenchmarkSet(b *testing.B) {
	each(b, func(b *testing.B, memory joe.Memory) {
		b.ReportAllocs()
		n := keys // so that no value is there already
		for b.Loop() {
			check(b, memory.Set(key(n), value(n)))
			n++
		}
	})
}

// BenchmarkSetBesidePut compares Set through a bot's Store with the same request
// made with net/http alone. The two take turns, in rooms of the same account, so
// that both set off the same work in the server and in the sync loop.
func BenchmarkSetBesidePut(b *testing.B) {
	memory, bot, _ := openFilled(b, rig.Shared(b).URL())
	store := storage(memory)
	bare := newPutter(b, bot, bot.NewRoom(b))
	check(b, bare.put("", dictionary(keys-1)))

	var pairs interleaved
	n := keys - 1 // the last one that is there
	for b.Loop() {
		n++
		content := dictionary(n)
		pairs.add(
			func() { check(b, store.Set(key(n), text(n))) },
			func() { check(b, bare.put("", content)) },
		)
	}
	b.ReportMetric(pairs.ratio(), "x-bare-put")
	b.ReportMetric(0, "ns/op") // of the pairs: it says nothing
	found.compare("Set through bot.Store: time, to the same PUT with net/http alone", pairs.ratio(), "1.10")
}

// BenchmarkSetRequests counts the requests of a Set through a bot's Store, of a
// value that is new and of one that is there already.
func BenchmarkSetRequests(b *testing.B) {
	for _, test := range []struct {
		name string
		step int
		most string
	}{
		{"new", 1, "1"},
		{"equal", 0, "1"},
	} {
		b.Run(test.name, func(b *testing.B) {
			url, requests := counter(b)
			memory, _, _ := openFilled(b, url)
			store := storage(memory)
			n := 0
			before, sets := requests(), 0
			for b.Loop() {
				n += test.step
				sets++
				check(b, store.Set(key(0), text(n)))
			}
			perSet := float64(requests()-before) / float64(sets)
			b.ReportMetric(perSet, "requests")
			found.compare("Set through bot.Store, "+test.name+" value: requests", perSet, test.most)
		})
	}
}

// BenchmarkConcurrentSets counts the requests that 200 writers to one dictionary
// take, all at once, each on a handle of its own.
func BenchmarkConcurrentSets(b *testing.B) {
	const writers = 200
	url, requests := counter(b)
	memory, _, home := openFilled(b, url)
	most, n := 0, 0
	for b.Loop() {
		n++
		before := requests()
		var all sync.WaitGroup
		for i := range writers {
			room := memory.InRoom(home.String())
			all.Go(func() {
				if err := room.Set(fmt.Sprint("key", i), text(n)); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		most = max(most, requests()-before)
	}
	b.ReportMetric(float64(most), "puts")
	found.compare("200 concurrent Sets into one dictionary: requests, at most", float64(most), "12")
}

// storage returns a bot's Store on a memory.
func storage(memory joe.Memory) *joe.Storage {
	store := joe.NewStorage(zap.NewNop())
	store.SetMemory(memory)
	return store
}

// text is what a bot's Store encodes as value(n).
func text(n int) string { return strings.Trim(string(value(n)), `"`) }

// dictionary returns the content that the memory's state event has when key(i)
// was set to value(i) for every i up to n.
func dictionary(n int) []byte {
	content := []byte{'{'}
	for i := n - keys + 1; i <= n; i++ {
		content = fmt.Appendf(content, `%q:%s,`, key(i), value(i))
	}
	content[len(content)-1] = '}'
	return content
}

// A putter stores state events of the memory's type with net/http alone.
type putter struct {
	client *http.Client
	url    string
	token  string
}

func newPutter(b *testing.B, bot rig.Account, room id.RoomID) putter {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	b.Cleanup(transport.CloseIdleConnections)
	return putter{&http.Client{Transport: transport, Timeout: time.Minute},
		rig.Shared(b).URL() + "/_matrix/client/v3/rooms/" + room.String() + "/state/dev.opsdroid.database/", bot.AccessToken}
}

func (p putter) put(stateKey string, content []byte) error {
	request, err := http.NewRequest(http.MethodPut, p.url+stateKey, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+p.token)
	request.Header.Set("Content-Type", "application/json")
	_, err = fetch(p.client, request)
	return err
}

// fetch makes a request and reads the whole answer.
func fetch(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, answer)
	}
	return answer, err
}
