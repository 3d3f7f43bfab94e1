package homeserver

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Proxy stands in front of a server. It hands every request on as it is, keeps a
// record of it, and fails where a [Fault] says so. It goes on when the server
// stops or restarts; meanwhile it answers 502. Its methods may be called by
// several goroutines at once.
type Proxy struct {
	url    string
	server *http.Server
	cancel context.CancelFunc // ends all requests under way
	real   http.Handler       // hands a request on to the real server
	gate   sync.RWMutex       // held for reading while the server has a change, for writing by Hold

	mu       sync.Mutex // guards what follows
	closed   bool
	faults   []*Fault
	requests []*Request
	running  sync.WaitGroup // the listener's goroutine and the requests under way
}

// open is the key under which a request's context holds the proxy's, which ends when the
// proxy is closed.
type open struct{}

// Fault is something that goes wrong with some requests.
type Fault struct {
	Match func(*http.Request) bool // which requests; nil: all. It must not read the body
	Times int                      // how often it strikes; 0: until it is removed
	Do    Action                   // what happens instead of handing the request on
}

// Request is a request that a proxy has seen.
type Request struct {
	Method string
	Path   string    // escaped, with the query if there is one
	Time   time.Time // of its arrival
	Status int       // what the client was answered; 0: nothing, or nothing yet
	Size   int       // of the answer's body in bytes, as far as it was sent
}

// Proxy starts a proxy in front of the server, on a loopback port of its own.
// Whoever starts it closes it; Stop and Kill do not.
func (s *Server) Proxy() (*Proxy, error) {
	target, err := url.Parse(s.URL())
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{url: "http://" + listener.Addr().String(), cancel: cancel}
	p.real = p.gated(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came, well-formed or not
			r.Out.Host = ""
		},
		// A connection for each request: one that is kept would be broken,
		// for the next request to find out, once the server has restarted.
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // broken connections are its business
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler) // nobody waits for an answer any more
			}
			answer(w, http.StatusBadGateway, nil, matrixError("M_UNKNOWN", "the homeserver does not answer: "+err.Error()))
		},
	})
	p.server = &http.Server{
		Handler:     http.HandlerFunc(p.serve),
		BaseContext: func(net.Listener) context.Context { return context.WithValue(ctx, open{}, ctx) },
	}
	p.running.Go(func() { _ = p.server.Serve(listener) }) // ends by Close only
	return p, nil
}

// URL is the base URL of the proxy, for clients to use in place of the server's.
func (p *Proxy) URL() string { return p.url }

// Close ends the requests under way, hanging ones too, and waits until nothing
// of the proxy is left.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	err := p.server.Close()
	p.running.Wait()
	return err
}

// Inject makes requests fail from now on. Where several faults match a request,
// the one that was injected first strikes. The function that is returned takes
// the fault away again; it does no harm if the fault has run out by then.
func (p *Proxy) Inject(f Fault) (remove func()) {
	fault := &f
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fault)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.drop(fault)
	}
}

// drop takes fault out of p.faults. It is called with p.mu held.
func (p *Proxy) drop(fault *Fault) {
	p.faults = slices.DeleteFunc(p.faults, func(f *Fault) bool { return f == fault })
}

// Requests returns all requests seen since the start or the last Reset, in the
// order of their arrival.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := make([]Request, len(p.requests))
	for i, r := range p.requests {
		requests[i] = *r
	}
	return requests
}

// Count returns how many of the requests seen match. See [Seen] for the matchers
// of faults.
func (p *Proxy) Count(match func(Request) bool) int {
	count := 0
	for _, r := range p.Requests() {
		if match(r) {
			count++
		}
	}
	return count
}

// Reset forgets the requests seen. Faults stay.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

// serve handles one request.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	seen, fault := p.arrive(r)
	if seen == nil {
		panic(http.ErrAbortHandler) // the proxy is closed
	}
	defer p.running.Done()
	w = &noter{ResponseWriter: w, note: func(status, size int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		seen.Status = cmp.Or(seen.Status, status)
		seen.Size += size
	}}
	if fault == nil {
		p.real.ServeHTTP(w, r)
		return
	}
	// The server of net/http notices that a client has gone only when the body
	// has been read, so it is read before something waits for that.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	fault.Do(w, r, p.real)
}

// arrive records a request and finds the fault that strikes it, if any. It
// returns nil for the request if the proxy is closed.
func (p *Proxy) arrive(r *http.Request) (*Request, *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil
	}
	p.running.Add(1)
	seen := &Request{Method: r.Method, Path: r.URL.RequestURI(), Time: time.Now()}
	p.requests = append(p.requests, seen)
	for _, f := range p.faults {
		if f.Match != nil && !f.Match(r) {
			continue
		}
		if f.Times == 1 {
			p.drop(f)
		} else if f.Times > 1 {
			f.Times--
		}
		return seen, f
	}
	return seen, nil
}

// noter notes the status and the size of an answer.
type noter struct {
	http.ResponseWriter
	note func(status, size int)
}

func (w *noter) WriteHeader(status int) {
	if status >= 200 {
		w.note(status, 0)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *noter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.note(http.StatusOK, n)
	return n, err
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *noter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
