package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
)

// examineValues looks whether the encrypted values of rooms can be decrypted, and whether the bot can encrypt there.
func examineValues(ctx context.Context, cmd *cli.Command, conf matrix.Config, rooms []*roomStatus) {
	if conf.StorePath == "" && conf.RecoveryKey == "" {
		for _, room := range rooms {
			room.withoutKeys(conf)
		}
	}
	device, _ := chooseDevice(conf) // open tells the error
	rooms = slices.DeleteFunc(slices.Clone(rooms), func(room *roomStatus) bool {
		return room.Sealed == 0 && !(room.Encrypted && device == botsDevice) // to open the bot's keys shows whether it can
	})
	if len(rooms) == 0 {
		return
	}
	conf.Rooms, conf.DefaultRoom = nil, rooms[0].Room
	memory, err := open(ctx, cmd, conf, reading)
	if err != nil {
		for _, room := range rooms {
			room.notLooked(err)
		}
		return
	}
	defer memory.Close()
	for _, room := range rooms {
		if err := room.examineValues(memory.InRoom(room.Room).WithContext(ctx)); err != nil {
			room.notLooked(err)
		}
	}
}

// withoutKeys says that the bot can't write where it has to encrypt.
func (r *roomStatus) withoutKeys(conf matrix.Config) {
	if r.Encrypted && conf.ShouldEncrypt == matrix.On {
		r.add("the bot can't write: the room is encrypted, and the settings have neither a store_path nor a recovery_key",
			"set store_path, and have the bot use package e2ee, see docs/encryption.md; or switch should_encrypt off, and values stand in the clear")
	}
}

// notLooked says why it was not looked whether the values can be decrypted. It is a problem where the bot has it as well.
func (r *roomStatus) notLooked(err error) {
	r.Why = err.Error()
	if !errors.As(err, new(notHere)) {
		r.add("its memory can't be used: "+r.Why, "mend what it says: a bot with these settings may fail likewise")
	}
}

// examineValues reads every value, as a bot does.
func (r *roomStatus) examineValues(memory *matrix.Room) error {
	keys, err := memory.Keys()
	if err != nil {
		return err
	}
	var unreadable []error
	for _, key := range keys {
		_, err := memory.Get(key, nil)
		switch {
		case errors.Is(err, matrix.ErrUndecryptable), errors.Is(err, matrix.ErrNoEncryption):
			unreadable = append(unreadable, err)
		case err != nil:
			return err
		}
	}
	readable := r.Sealed - len(unreadable)
	r.Readable = &readable
	if len(unreadable) == 0 {
		return nil
	}
	advice := "set recovery_key, so that the keys come from the account's key backup; what no key is left of, set anew or delete"
	if errors.Is(unreadable[0], matrix.ErrNoEncryption) {
		advice = "set store_path and recovery_key, and install matrix-memory with -tags goolm"
	}
	r.add(fmt.Sprintf("%d of %d encrypted values can't be read; the first: %v", len(unreadable), r.Sealed, unreadable[0]), advice)
	return nil
}
