package adapter

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-joe/joe"
	"github.com/go-joe/joe/reactions"
	"go.mau.fi/util/variationselector"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// In Matrix an emoji of a reaction has a variation selector wherever it may have
// one, so that clients count the same reactions together (Matrix spec,
// "m.reaction"). Joe writes its reactions without, but for these.
var joesOwn = spelled(
	reactions.Email, reactions.Phone, reactions.Boat, reactions.Hash,
	reactions.Zero, reactions.One, reactions.Two, reactions.Three, reactions.Four,
	reactions.Five, reactions.Six, reactions.Seven, reactions.Eight, reactions.Nine,
)

func spelled(all ...reactions.Reaction) map[string]string {
	raw := make(map[string]string)
	for _, reaction := range all {
		raw[variationselector.Remove(reaction.Raw)] = reaction.Raw
	}
	return raw
}

// asJoe returns a reaction of Matrix as Joe writes it.
func asJoe(key string) reactions.Reaction {
	bare := variationselector.Remove(key)
	if raw, ok := joesOwn[bare]; ok {
		return reactions.Reaction{Raw: raw}
	}
	return reactions.Reaction{Raw: bare}
}

// React implements joe.ReactionAwareAdapter. The reaction needs a Unicode form,
// which a few of joe's have not. It goes in the clear in encrypted rooms too, as every
// client's does: the homeserver counts reactions by what they say.
func (a *adapter) React(reaction reactions.Reaction, msg joe.Message) error {
	err := a.busy(func(ctx context.Context) error {
		if reaction.Raw == "" {
			return fmt.Errorf("the reaction %q has no Unicode form", reaction.Shortcode)
		}
		room, err := a.session.Resolve(ctx, msg.Channel)
		if err != nil {
			return err
		}
		if _, err := a.encrypts(ctx, room); err != nil {
			return err
		}
		content := &event.ReactionEventContent{}
		content.RelatesTo.SetAnnotation(id.EventID(msg.ID), variationselector.Add(reaction.Raw))
		err = a.put(ctx, room, event.EventReaction, content)
		var refusal mautrix.RespError
		if errors.As(err, &refusal) && refusal.ErrCode == "M_DUPLICATE_ANNOTATION" {
			return nil // the bot has reacted so before
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("matrix adapter: reacting to %s in %s: %w", msg.ID, msg.Channel, err)
	}
	return nil
}
