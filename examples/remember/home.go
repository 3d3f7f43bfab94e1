package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// The bot's account and room on the program's own homeserver. The password guards
// nothing: only this machine reaches the server, and anyone there may register.
const (
	username  = "joe"
	password  = "remember"
	roomAlias = "memory" // without the server's name
)

// A home is a homeserver of the program's own, and the settings of a bot that
// has its memory there.
type home struct {
	server *homeserver.Server
	conf   matrix.Config
}

// journalIn is where -offline keeps its journal, beside the homeserver's data.
func journalIn(dir string) string { return filepath.Join(dir, "journal.db") }

// startHome starts the homeserver that keeps its data in dir, with an account and
// a room for the bot. With fresh, the room is a new one, of which no journal knows.
func startHome(ctx context.Context, dir string, fresh bool, progress io.Writer) (_ *home, err error) {
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: filepath.Join(dir, "homeserver"), Progress: progress})
	switch {
	case errors.Is(err, homeserver.ErrFolderInUse):
		return nil, fmt.Errorf("this program runs already, with its data in %s; use that one, or name another folder with -data", dir)
	case err != nil:
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Stop())
		}
	}()
	account, err := server.Register(ctx, username, password)
	if err != nil {
		return nil, err
	}
	client, err := mautrix.NewClient(server.URL(), id.UserID(account.UserID), account.AccessToken)
	if err != nil {
		return nil, err
	}
	defer client.Client.CloseIdleConnections()
	alias := id.NewRoomAlias(roomAlias, server.Name())
	if err := makeRoom(ctx, client, alias, fresh); err != nil {
		return nil, fmt.Errorf("make the room %s: %w", alias, err)
	}
	if fresh {
		if err := os.Remove(journalIn(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	// The memory logs in by itself.
	if _, err := client.Logout(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "the memory is in the room %s; its data lies in %s\n", alias, server.Dir())
	return &home{server, matrix.Config{
		Homeserver: server.URL(),
		UserID:     account.UserID,
		Password:   password,
		Rooms:      map[string]string{"main": alias.String()},
	}}, nil
}

// makeRoom makes the room with this alias unless there is one. With fresh, the
// room that has the alias is left to itself.
func makeRoom(ctx context.Context, client *mautrix.Client, alias id.RoomAlias, fresh bool) error {
	if fresh {
		if _, err := client.DeleteAlias(ctx, alias); err != nil && !errors.Is(err, mautrix.MNotFound) {
			return err
		}
	}
	_, err := client.CreateRoom(ctx, &mautrix.ReqCreateRoom{
		Preset:        "private_chat",
		Name:          "The memory of a bot",
		RoomAliasName: roomAlias,
	})
	if errors.Is(err, mautrix.MRoomInUse) {
		return nil
	}
	return err
}
