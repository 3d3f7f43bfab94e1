//go:build goolm

package e2ee

import (
	"context"
	"slices"

	"maunium.net/go/mautrix/id"
)

// fetchDevices asks for the devices of those users whose devices are not known
// or have changed.
func (c *crypt) fetchDevices(ctx context.Context, users []id.UserID) error {
	known, err := c.sessions.FilterTrackedUsers(ctx, users)
	if err != nil {
		return err
	}
	outdated, err := c.sessions.GetOutdatedTrackedUsers(ctx)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(users), func(user id.UserID) bool {
		return slices.Contains(known, user) && !slices.Contains(outdated, user)
	})
	if len(missing) == 0 {
		return nil
	}
	return c.try(ctx, func(ctx context.Context) error {
		_, err := c.queryDevices(ctx, missing)
		return err
	})
}

// fetchKeys asks the homeserver for the devices of users.
func (c *crypt) fetchKeys(ctx context.Context, users []id.UserID) (map[id.UserID]map[id.DeviceID]*id.Device, error) {
	if slices.Contains(users, c.client.UserID) {
		defer c.judge(ctx, true)()
	}
	return c.machine.FetchKeys(ctx, users, true)
}

// queryDevices asks for the devices of users. Who has others by the time that
// the answer is there stays noted as such.
func (c *crypt) queryDevices(ctx context.Context, users []id.UserID) (map[id.UserID]map[id.DeviceID]*id.Device, error) {
	before := c.sessions.outdatedCounts(users)
	devices, err := c.fetchKeys(ctx, users)
	if err != nil {
		return nil, err
	}
	after := c.sessions.outdatedCounts(users)
	var changed []id.UserID
	for i, user := range users {
		if before[i] != after[i] {
			changed = append(changed, user)
		}
	}
	if len(changed) == 0 {
		return devices, nil
	}
	return devices, c.sessions.MarkTrackedUsersOutdated(ctx, changed)
}
