//go:build goolm

package e2ee

import (
	"context"
	"encoding/json"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// helper is what the memory's client encrypts by, so that whoever shares it, as
// package adapter does, can write and read in encrypted rooms.
type helper struct{ *crypt }

var _ mautrix.CryptoHelper = helper{}

func (h helper) Init(context.Context) error { return nil }

func (h helper) Encrypt(ctx context.Context, room id.RoomID, eventType event.Type, content any) (*event.EncryptedEventContent, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	encrypted, err := h.encrypt(ctx, room, eventType, raw)
	if err != nil {
		return nil, err
	}
	// What an event answers to stands in the clear, for the homeserver to use:
	// https://spec.matrix.org/v1.16/client-server-api/#encryption
	if wrapper, ok := content.(*event.Content); ok {
		content = wrapper.Parsed
	}
	if related, ok := content.(event.Relatable); ok {
		encrypted.RelatesTo = related.OptionalGetRelatesTo()
	}
	return encrypted, nil
}

func (h helper) Decrypt(ctx context.Context, evt *event.Event) (*event.Event, error) {
	return h.decrypt(ctx, evt, true)
}

func (h helper) WaitForSession(ctx context.Context, room id.RoomID, _ id.SenderKey, sessionID id.SessionID, timeout time.Duration) bool {
	return h.waitForSession(ctx, room, sessionID, timeout)
}

func (h helper) RequestSession(_ context.Context, room id.RoomID, _ id.SenderKey, sessionID id.SessionID, _ id.UserID, _ id.DeviceID) {
	h.ask(room, sessionID)
}
