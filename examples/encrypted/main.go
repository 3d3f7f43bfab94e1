//go:build goolm

// Encrypted shows a memory in an encrypted room.
//
//	go run -tags goolm ./examples/encrypted
//
// It writes a value, prints what the homeserver sees of it, throws the bot's keys
// away, and reads the value again with nothing but the account's password and
// the recovery key. The program needs nothing but Go. It starts a homeserver for
// itself in a temporary folder (on first use it builds one, which takes some
// minutes) and leaves nothing behind.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/e2ee"
	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// The exit codes, as a shell knows them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	exitCode := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode)
}

// run is the program: what it shows goes to stdout, all else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	flags := flag.NewFlagSet("encrypted", flag.ContinueOnError)
	flags.SetOutput(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // Parse has said what is wrong
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "encrypted: unexpected argument %q; there are none\n", flags.Arg(0))
		return exitUsage
	}

	shown, err := perform(ctx, stdout, stderr)
	switch {
	case err != nil && ctx.Err() != nil && !shown:
		fmt.Fprintln(stderr, "interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "encrypted:", err)
		return exitFailed
	}
	return exitOK
}

// perform starts a homeserver and shows all on it. It reports whether it has,
// besides an error.
func perform(ctx context.Context, out, progress io.Writer) (shown bool, err error) {
	dir, err := os.MkdirTemp("", "matrix-memory-encrypted-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: filepath.Join(dir, "server"), Progress: progress})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	err = lose(ctx, out, server, filepath.Join(dir, "keys"))
	return err == nil, err
}

// lose has a bot remember something, throws its keys away and restores them.
func lose(ctx context.Context, out io.Writer, server *homeserver.Server, keys string) error {
	person, room, err := makeRoom(ctx, server)
	if err != nil {
		return err
	}
	conf := matrix.Config{
		Homeserver: server.URL(),
		UserID:     person.UserID.String(),
		Password:   password,
		Rooms:      map[string]string{"main": room.String()},
		StorePath:  keys,
		StoreKey:   "a passphrase from a safe place",
	}

	fmt.Fprintln(out, "1. A bot remembers something in an encrypted room.")
	if err := withMemory(ctx, conf, func(memory *matrix.Memory) error {
		return memory.Set("door code", []byte(`"4711"`))
	}); err != nil {
		return err
	}

	fmt.Fprintln(out, "\n2. What the homeserver sees: the key in the state, which refers to an event, when it was changed, and no value.")
	if err := show(ctx, out, person, room); err != nil {
		return err
	}

	fmt.Fprintln(out, "\n3. The bot's keys are thrown away. Only the recovery key was put aside.")
	recoveryKey, err := os.ReadFile(filepath.Join(conf.StorePath, "recovery_key"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(conf.StorePath); err != nil {
		return err
	}

	conf.RecoveryKey = strings.TrimSpace(string(recoveryKey))
	return withMemory(ctx, conf, func(memory *matrix.Memory) error {
		value, _, err := memory.Get("door code")
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n4. A new device with the recovery key reads it again: the door code is %s.\n", value)
		return nil
	})
}

const password = "correct horse battery staple"

// makeRoom makes an account and an encrypted room that belongs to it.
func makeRoom(ctx context.Context, server *homeserver.Server) (*mautrix.Client, id.RoomID, error) {
	account, err := server.Register(ctx, "bot", password)
	if err != nil {
		return nil, "", err
	}
	client, err := mautrix.NewClient(server.URL(), id.UserID(account.UserID), account.AccessToken)
	if err != nil {
		return nil, "", err
	}
	stateKey := ""
	room, err := client.CreateRoom(ctx, &mautrix.ReqCreateRoom{
		Preset: "private_chat",
		InitialState: []*event.Event{{
			Type:     event.StateEncryption,
			StateKey: &stateKey,
			Content:  event.Content{Parsed: &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}},
		}},
	})
	if err != nil {
		return nil, "", err
	}
	return client, room.RoomID, nil
}

// withMemory does something with an open memory and closes it.
func withMemory(ctx context.Context, conf matrix.Config, do func(*matrix.Memory) error) error {
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	memory := matrix.New(conf, matrix.WithLogger(log), e2ee.Enable())
	if err := memory.Open(ctx); err != nil {
		return err
	}
	return errors.Join(do(memory), memory.Close())
}

// show prints the room's memory as it stands on the homeserver.
func show(ctx context.Context, out io.Writer, client *mautrix.Client, room id.RoomID) error {
	memoryType := event.Type{Type: "dev.opsdroid.database", Class: event.StateEventType}
	var state map[string]json.RawMessage
	if err := client.StateEvent(ctx, room, memoryType, "", &state); err != nil {
		return err
	}
	text, err := json.MarshalIndent(state, "   ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   state event %s: %s\n", memoryType.Type, text)
	for _, raw := range state {
		var value struct {
			Pointer id.EventID `json:"encrypted_val"`
		}
		if err := json.Unmarshal(raw, &value); err != nil {
			return err
		}
		if value.Pointer == "" { // what says when the keys were changed
			continue
		}
		evt, err := client.GetEvent(ctx, room, value.Pointer)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "   event %s: %s\n   %s\n", value.Pointer, evt.Type.Type, evt.Content.VeryRaw)
	}
	return nil
}
