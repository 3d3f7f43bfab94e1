package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/session"
)

// Send implements joe.Adapter: it says a text, in Markdown, in the room with
// this name, alias or ID. It returns when the homeserver has taken it, or
// Config.Timeout is over.
func (a *adapter) Send(text, channel string) error {
	err := a.busy(func(ctx context.Context) error {
		room, err := a.destination(ctx, channel)
		if err != nil {
			return err
		}
		encrypted, err := a.encrypts(ctx, room)
		if err != nil {
			return err
		}
		said := 0
		for content := range a.parts(text, room, a.answering.Load(), encrypted) {
			if err := a.say(ctx, room, content, encrypted); err != nil {
				if said > 0 {
					return fmt.Errorf("after %d parts that were sent: %w", said, err)
				}
				return err
			}
			said++
		}
		if said == 0 {
			return errors.New("the text is empty")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("matrix adapter: sending to %s: %w", channel, err)
	}
	return nil
}

// encrypts says whether a room is encrypted, and fails if the bot has no encryption
// then: nothing at all goes there.
func (a *adapter) encrypts(ctx context.Context, room id.RoomID) (bool, error) {
	encrypted, err := a.isEncrypted(ctx, room)
	if encrypted && a.client.Crypto == nil {
		return true, fmt.Errorf("%w, and the room is encrypted: enable it with package e2ee; nothing was sent in the clear", matrix.ErrNoEncryption)
	}
	return encrypted, err
}

// say sends one message.
func (a *adapter) say(ctx context.Context, room id.RoomID, message *event.MessageEventContent, encrypted bool) error {
	if !encrypted {
		return a.put(ctx, room, event.EventMessage, message)
	}
	ciphertext, err := a.encrypt(ctx, room, message)
	if err != nil {
		return err
	}
	return a.put(ctx, room, event.EventEncrypted, ciphertext)
}

// put sends an event. All attempts have one transaction ID, so that the
// homeserver takes it once. But not every homeserver knows transaction IDs still
// when it was restarted, so that after an attempt whose outcome is unknown it is
// asked first whether the event is there.
func (a *adapter) put(ctx context.Context, room id.RoomID, eventType event.Type, content any) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	transaction := a.client.TxnID()
	url := a.client.BuildClientURL("v3", "rooms", room, "send", eventType.Type, transaction)
	unknown := false
	_, err = a.session.TrySending(ctx, nil, room, session.Answer, func(ctx context.Context) error {
		if unknown {
			if there, err := a.isThere(ctx, room, eventType, transaction); there || err != nil {
				return err
			}
		}
		_, err := a.session.Put(ctx, url, raw)
		unknown = unknown || err != nil && !session.IsStatus(err, http.StatusTooManyRequests)
		return err
	})
	return err
}

// isThere says whether a room has the bot's event with a transaction ID, among
// the last of its type. Only a sync tells transaction IDs everywhere.
func (a *adapter) isThere(ctx context.Context, room id.RoomID, eventType event.Type, transaction string) (bool, error) {
	filter, err := json.Marshal(session.Unlike(mautrix.Filter{
		AccountData: session.NoEvents(),
		Presence:    session.NoEvents(),
		Room: &mautrix.RoomFilter{
			Rooms:       []id.RoomID{room},
			AccountData: session.NoEvents(),
			Ephemeral:   session.NoEvents(),
			State:       session.NoEvents(),
			Timeline:    &mautrix.FilterPart{Types: []event.Type{eventType}, Limit: timelineLimit, LazyLoadMembers: true},
		},
	}))
	if err != nil {
		return false, err
	}
	response, err := a.client.FullSyncRequest(ctx, mautrix.ReqSync{FilterID: string(filter), SetPresence: a.client.SyncPresence})
	if err != nil || response == nil || response.Rooms.Join[room] == nil {
		return false, err
	}
	return slices.ContainsFunc(response.Rooms.Join[room].Timeline.Events, func(evt *event.Event) bool {
		return evt.Sender == a.client.UserID && evt.Unsigned.TransactionID == transaction
	}), nil
}

// busy runs what Close waits for, within the memory's timeout.
func (a *adapter) busy(work func(context.Context) error) error {
	a.mu.Lock()
	switch {
	case a.closed:
		a.mu.Unlock()
		return matrix.ErrClosed
	case !a.session.IsOpen():
		a.mu.Unlock()
		return errors.New("the memory is not open: hand it to joe.New too")
	}
	a.sends.Add(1)
	a.mu.Unlock()
	defer a.sends.Done()
	ctx, cancel := context.WithTimeout(context.Background(), a.session.Timeout)
	defer cancel()
	if err := a.reach(ctx); err != nil {
		return err
	}
	err := work(ctx)
	if session.IsStatus(err, http.StatusForbidden) {
		return fmt.Errorf("%w: is the bot in the room, and may it write there? %w", matrix.ErrForbidden, err)
	}
	return err
}

// reach waits until the bot is connected. When it shuts down, there is nothing to wait for.
func (a *adapter) reach(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	return a.session.Reach(ctx)
}
