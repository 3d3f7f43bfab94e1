package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// What no waiting helps against, Open says at once, with what to do.
func TestOpenIsHopeless(t *testing.T) {
	rig.NoLeaks(t)
	bot := rig.Register(t)
	room := bot.NewRoom(t)
	plain := rig.Proxy(t)
	secure, trusting := overTLS(t, rig.Shared(t).URL())
	expired, knowing := expiredServer(t)
	lost := &http.Client{Transport: new(failing)}
	lost.Transport.(*failing).err.Store(&noSuchHost)
	nginx := rig.Proxy(t)
	nginx.Inject(homeserver.Fault{Do: homeserver.Page(http.StatusBadRequest)})
	const certificate = "the server needs a certificate for the name in homeserver"
	for name, test := range map[string]struct {
		homeserver string
		client     *http.Client
		want       []string
	}{
		"certificate of nobody":  {secure, &http.Client{}, []string{"unknown authority", certificate}},
		"certificate of another": {strings.Replace(secure, "127.0.0.1", "localhost", 1), trusting, []string{"not localhost", certificate}},
		"expired certificate":    {expired, knowing, []string{"expired", certificate}},
		"no such host":           {"https://nowhere.invalid", &http.Client{}, []string{"no such host", "is the name in homeserver right?"}},
		"no such server name":    {"nowhere.invalid", lost, []string{"no such host", "looking up the homeserver of nowhere.invalid"}},
		"https on a http port":   {strings.Replace(plain.URL(), "http:", "https:", 1), &http.Client{}, []string{"should it begin with http://?"}},
		"http on a https port":   {strings.Replace(secure, "https:", "http:", 1), &http.Client{}, []string{"HTTP 400", "should homeserver begin with https://?"}},
		"nginx says it":          {nginx.URL(), &http.Client{}, []string{"HTTP 400", "should homeserver begin with https://?"}},
	} {
		t.Run(name, func(t *testing.T) {
			conf := bot.Config(room)
			conf.Homeserver = test.homeserver
			memory := matrix.New(conf, matrix.WithHTTPClient(test.client), matrix.WithLogger(rig.Log(t)))
			rig.Within(t, slack, "the error", func() {
				err := memory.Open(t.Context())
				for _, want := range test.want {
					require.ErrorContains(t, err, want)
				}
			})
		})
	}
}

// expiredServer starts a server whose certificate has expired, and returns its URL and a
// client that trusts who issued it.
func expiredServer(t testing.TB) (string, *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	return server.URL, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
}

// noSuchHost is what a resolver says that works.
var noSuchHost error = &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}}

// A failing transport fails as long as it has an error.
type failing struct {
	http.RoundTripper
	err  atomic.Pointer[error]
	puts atomic.Int32 // that failed
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	err := f.err.Load()
	if err == nil {
		return f.RoundTripper.RoundTrip(r)
	}
	if r.Method == http.MethodPut {
		r.Body.Close()
		f.puts.Add(1)
	}
	return nil, *err
}

// Once the memory is open, the settings are known to be right, and the same failures are
// waited out: names vanish when the network goes, and certificates are renewed late.
func TestHopelessWhileRunning(t *testing.T) {
	bot := rig.Register(t)
	for name, err := range map[string]error{
		"no such host": noSuchHost,
		"certificate":  &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{}}},
		"scheme":       http.ErrSchemeMismatch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &failing{RoundTripper: &http.Transport{DisableKeepAlives: true}}
			r := behind(t, rig.Proxy(t), bot, 10*time.Second, matrix.OneStateKey, matrix.WithHTTPClient(&http.Client{Transport: transport}))
			transport.err.Store(&err)
			failed := r.Set("tea", []byte(`"secret"`))
			r.Failed(t, failed, "set", "tea")
			require.ErrorContains(t, failed, "gave up after")
			require.NotErrorIs(t, failed, matrix.ErrUnknownOutcome, "no request ever went out")

			before := transport.puts.Load()
			written := make(chan error, 1)
			go func() { written <- r.Set("tea", []byte(`"green"`)) }()
			eventually(t, func() bool { return transport.puts.Load() > before }, "it fails")
			transport.err.Store(nil)
			require.NoError(t, <-written)
			_, was := r.Delete("tea")
			require.NoError(t, was)
		})
	}
}
