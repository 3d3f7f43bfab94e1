package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
)

// A purpose says what a connection is for.
type purpose bool

const (
	reading purpose = false // nothing is changed in any room, and none is joined
	writing purpose = true
)

// A connection is an open memory.
type connection struct {
	*matrix.Memory
	conf matrix.Config
	room *matrix.Room // the room of -room
	end  []func()     // what is to be done once the memory is closed, the last first
}

// connect opens the memory of the room that -room names, or of the bot's default room.
// Whoever calls it closes the connection. Values are []byte, as they were set.
//
// A bot that runs at the same time with the same settings is not disturbed: its journal stays
// closed, a login by password makes a device of its own, and no rooms but that one are touched.
func connect(ctx context.Context, cmd *cli.Command, p purpose) (*connection, error) {
	conf, err := settings(cmd)
	if err != nil {
		return nil, err
	}
	return open(ctx, cmd, conf, p)
}

// inRoom returns the action of a command that works on the room of -room, and takes so many arguments: see [arguments].
func inRoom(least, most int, p purpose, do func(context.Context, *cli.Command, *connection, []string) error) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		args, err := arguments(cmd, least, most)
		if err != nil {
			return err
		}
		memory, err := connect(ctx, cmd, p)
		if err != nil {
			return err
		}
		defer memory.Close()
		return do(ctx, cmd, memory, args)
	}
}

// settings reads the bot's settings, and leaves those of the one room.
func settings(cmd *cli.Command) (matrix.Config, error) { return settingsOf(cmd, cmd.String("room")) }

// settingsOf is settings for a room; "": the default room.
func settingsOf(cmd *cli.Command, room string) (matrix.Config, error) {
	conf, err := matrix.LoadConfig(cmd.String("config"))
	if err != nil {
		return conf, err
	}
	if room != "" {
		conf.DefaultRoom = room
	}
	return conf, only(&conf)
}

// only leaves the default room in the settings' rooms, as a memory joins them all.
func only(conf *matrix.Config) error {
	conf.DefaultRoom = home(*conf)
	name := conf.DefaultRoom
	target, named := conf.Rooms[name]
	switch {
	case named:
		conf.Rooms = map[string]string{name: target}
	case strings.HasPrefix(name, "!"), strings.HasPrefix(name, "#"):
		conf.Rooms = nil
	default:
		known := strings.Join(slices.Sorted(maps.Keys(conf.Rooms)), ", ")
		if known == "" {
			known = "none"
		}
		return fmt.Errorf("the settings have no room %q (they have: %s): give one of these names, an alias or a room ID", name, known)
	}
	return nil
}

// home returns how the bot's default room is called.
func home(conf matrix.Config) string { return cmp.Or(conf.DefaultRoom, "main") }

// open opens a memory with settings that were read from a file.
func open(ctx context.Context, cmd *cli.Command, conf matrix.Config, p purpose) (_ *connection, err error) {
	device, err := chooseDevice(conf)
	if err != nil {
		return nil, err
	}
	c := &connection{conf: conf}
	defer func() {
		if err != nil {
			c.finish()
		}
	}()
	if err := c.take(ctx, cmd, device, p); err != nil {
		return nil, err
	}
	c.conf.Journal = ""
	c.conf.DeviceName = "matrix-memory"
	client := &http.Client{Transport: &guard{transport(), p, device == ownEncrypted}}
	c.end = append(c.end, client.CloseIdleConnections)
	options := []matrix.Option{matrix.WithLogger(logger(cmd)), matrix.WithEncoder(verbatim{}), matrix.WithHTTPClient(client)}
	if device == ownEncrypted || device == botsDevice {
		options = append(options, encryption())
	}
	c.Memory = matrix.New(c.conf, options...)
	if err := c.Open(ctx); err != nil {
		if device == botsDevice {
			err = inUse(conf, err)
		}
		return nil, err
	}
	c.room = c.InRoom(conf.DefaultRoom).WithContext(ctx)
	return c, nil
}

// take makes the settings those of a device, which is logged in unless it is the bot's.
func (c *connection) take(ctx context.Context, cmd *cli.Command, device device, p purpose) error {
	if device == botsDevice {
		return nil
	}
	in, err := logIn(ctx, c.conf, device.own(), p)
	if err != nil {
		return err
	}
	c.end = append(c.end, func() { in.out(cmd) })
	c.conf.AccessToken, c.conf.Password, c.conf.DeviceID = in.AccessToken, "", ""
	if device != ownEncrypted {
		return nil
	}
	remove, err := temporaryKeys(&c.conf)
	if err == nil {
		c.end = append(c.end, remove)
	}
	return err
}

// Close ends the connection.
func (c *connection) Close() {
	_ = c.Memory.Close() // says in the log what it could not do
	c.finish()
}

func (c *connection) finish() {
	for _, end := range slices.Backward(c.end) {
		end()
	}
}

// verbatim hands values over as they are.
type verbatim struct{}

func (verbatim) Encode(value any) ([]byte, error)     { return value.([]byte), nil }
func (verbatim) Decode(data []byte, target any) error { *target.(*[]byte) = data; return nil }

// where names the room of -room, for messages.
func (c *connection) where() string {
	if target, named := c.conf.Rooms[c.conf.DefaultRoom]; named && c.conf.DefaultRoom != target {
		return c.conf.DefaultRoom + " (" + target + ")"
	}
	return c.conf.DefaultRoom
}
