package homeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// client talks to the server on behalf of this package. It keeps no connections,
// so that nothing is left when a server stops, and knows no proxy of the
// environment.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Account is a user of the server, logged in.
type Account struct {
	UserID, AccessToken, DeviceID, Password string
}

// Register makes the account username with password, or logs it in when there is
// one with that password. Each call makes a new device and access token.
func (s *Server) Register(ctx context.Context, username, password string) (Account, error) {
	account, errcode, err := s.login(ctx, "/_matrix/client/v3/register", map[string]any{
		"username": username,
		"password": password,
		"auth":     map[string]string{"type": "m.login.dummy"},
	})
	if errcode == "M_USER_IN_USE" {
		account, _, err = s.login(ctx, "/_matrix/client/v3/login", map[string]any{
			"type":       "m.login.password",
			"identifier": map[string]string{"type": "m.id.user", "user": username},
			"password":   password,
		})
	}
	if err != nil {
		return Account{}, fmt.Errorf("register %q on the homeserver: %w", username, err)
	}
	account.Password = password
	return account, nil
}

// login posts a request that is answered with a new device. If the server
// refuses, its error code is returned besides the error.
func (s *Server) login(ctx context.Context, path string, request any) (Account, string, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Account{}, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+path, bytes.NewReader(body))
	if err != nil {
		return Account{}, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Account{}, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Account{}, "", fmt.Errorf("%s: %w", path, err)
	}
	var answer struct {
		UserID      string `json:"user_id"`
		AccessToken string `json:"access_token"`
		DeviceID    string `json:"device_id"`
		Code        string `json:"errcode"`
		Message     string `json:"error"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return Account{}, "", fmt.Errorf("%s answered %s with something that is not JSON: %w", path, resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		return Account{}, answer.Code, fmt.Errorf("%s answered %s: %s %s", path, resp.Status, answer.Code, answer.Message)
	}
	return Account{UserID: answer.UserID, AccessToken: answer.AccessToken, DeviceID: answer.DeviceID}, "", nil
}
