//go:build !goolm

package e2ee

import (
	"context"
	"encoding/json"
	"errors"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/bridge"
)

// Enable makes opening the memory fail: this program was built without the
// tag goolm.
func Enable() matrix.Option {
	return func(m *matrix.Memory) { bridge.Encrypt(m, untagged{}) }
}

var errUntagged = errors.New("encryption: this program was built without a cipher; build it with -tags goolm")

// untagged stands in for the real thing, and only says how to get it.
type untagged struct{}

func (untagged) Open(bridge.CryptoOptions) (id.DeviceID, error) { return "", errUntagged }
func (untagged) Load(id.UserID, bool) error                     { return errUntagged }
func (untagged) Start(context.Context) error                    { return errUntagged }
func (untagged) LoggedInAgain()                                 {}
func (untagged) Close() error                                   { return nil }

func (untagged) Encrypted(id.RoomID, bool) (bool, error) { return true, errUntagged }

func (untagged) Encrypt(context.Context, id.RoomID, event.Type, json.RawMessage) (json.RawMessage, error) {
	return nil, errUntagged
}

func (untagged) Decrypt(context.Context, *event.Event) (string, json.RawMessage, error) {
	return "", nil, errUntagged
}
