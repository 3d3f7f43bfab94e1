package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A homeserver that redirects to another host gets neither the password nor the token there.
func TestRedirectToAnotherHost(t *testing.T) {
	reached := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		reached <- r.URL.Path + " " + r.Header.Get("Authorization") + " " + string(body)
	}))
	t.Cleanup(other.Close)
	redirecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/versions") {
			_, _ = io.WriteString(w, `{"versions":["v1.11"]}`)
			return
		}
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusPermanentRedirect)
	}))
	t.Cleanup(redirecting.Close)

	for name, login := range map[string]string{"password": "password: secret", "token": "access_token: secret"} {
		file := filepath.Join(t.TempDir(), "configuration.yaml")
		text := strings.NewReplacer("$HOMESERVER", redirecting.URL, "$USER_ID", `"@bot:example.org"`, "access_token: $TOKEN", login, "$ROOM", `"!room:example.org"`).Replace(configuration)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		for _, command := range []string{"status", "show", "ls"} {
			t.Run(name+" "+command, func(t *testing.T) {
				output, err := exec.Command("matrix-memory", "-config", file, command).CombinedOutput()
				require.Error(t, err)
				require.Empty(t, reached, "%s", output)
				require.Contains(t, string(output), "redirects to "+other.URL+": if that is the homeserver, put it into homeserver")
			})
		}
	}
}
