package main

import (
	"context"
	"net/http"

	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
)

// A homeserverStatus says what answers at the homeserver's address.
type homeserverStatus struct {
	URL     string `json:"url,omitempty"`
	Version string `json:"version,omitempty"` // of the software, if it says so
	Matrix  string `json:"matrix,omitempty"`  // the latest version of Matrix that it speaks
	problems
}

func examineHomeserver(ctx context.Context, conf matrix.Config) (found homeserverStatus) {
	const advice = "check homeserver in the settings, and whether the homeserver runs and can be reached from here"
	client, err := newClient(ctx, conf, transport())
	if err != nil {
		found.add(err.Error(), advice)
		return found
	}
	defer client.Client.CloseIdleConnections()
	found.URL = client.HomeserverURL.String()
	versions, err := client.Versions(mautrix.WithMaxRetries(ctx, 0))
	switch {
	case err != nil:
		found.add("it does not answer: "+err.Error(), advice)
		return found
	case len(versions.Versions) == 0:
		found.add("what answers is no homeserver: it names no version of Matrix", advice)
		return found
	}
	found.Matrix = versions.GetLatest().String()
	var said struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"server"`
	}
	// Not every homeserver lets clients ask this: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1version
	url := client.BuildURL(mautrix.BaseURLPath{"_matrix", "federation", "v1", "version"})
	if _, err := client.MakeRequest(mautrix.WithMaxRetries(ctx, 0), http.MethodGet, url, nil, &said); err == nil && said.Server.Name != "" {
		found.Version = said.Server.Name + " " + said.Server.Version
	}
	return found
}
