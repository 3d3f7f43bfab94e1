package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
	"github.com/go-joe/matrix-memory/internal/bridge"
	"github.com/go-joe/matrix-memory/internal/journal"
)

// readJournal returns what a journal says that a room holds: what the room was last known to hold, with what is not delivered
// yet. It has a memory answer from copies of the journal and of the keys, with no homeserver. So the bot may be running, and
// nothing that it has is changed.
func readJournal(ctx context.Context, cmd *cli.Command, named string) (held place.Contents, err error) {
	file, room, _ := strings.Cut(named, "?room=")
	conf, err := settingsOf(cmd, room)
	if err != nil {
		return held, err
	}
	folder, err := os.MkdirTemp("", "matrix-memory-")
	if err != nil {
		return held, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if conf, err = offline(conf, folder, file); err != nil {
		return held, err
	}
	options := []matrix.Option{matrix.WithLogger(quiet()), matrix.WithEncoder(verbatim{}), matrix.WithHTTPClient(&http.Client{Transport: nobody{}})}
	if conf.StorePath != "" {
		options = append(options, encryption())
	}
	memory := matrix.New(conf, options...)
	bridge.Trust(memory)
	if err := memory.Open(ctx); err != nil {
		return held, fmt.Errorf("the journal %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	c := &connection{Memory: memory, conf: conf, room: memory.InRoom(conf.DefaultRoom).WithContext(ctx)}
	// What was sent encrypted and is not in the journal would be asked for, and nobody answers.
	return roomPlace{c}.contents(ctx, func(err error) bool { return !errors.Is(err, matrix.ErrClosed) })
}

// offline has settings use a copy of a journal, and of the keys, in a folder.
func offline(conf matrix.Config, folder, file string) (matrix.Config, error) {
	conf.Journal = filepath.Join(folder, "journal")
	if err := journal.Copy(file, conf.Journal); err != nil {
		return conf, err
	}
	account, rooms, aliases, err := knownTo(file, conf.StoreKey)
	if err != nil {
		return conf, err
	}
	target := conf.DefaultRoom
	if named, ok := conf.Rooms[target]; ok {
		target = named
	}
	if id, ok := aliases[target]; ok {
		target = id
	}
	if !slices.Contains(rooms, target) {
		return conf, fmt.Errorf("the journal %s knows nothing of the room %s: it knows %s; name one with ?room=…", file, target, strings.Join(rooms, ", "))
	}
	conf.UserID, conf.Rooms, conf.DefaultRoom = account, nil, target
	if conf.AccessToken == "" && conf.Password == "" {
		conf.AccessToken = "none"
	}
	if conf.StorePath != "" && encryption != nil {
		return conf, copyKeys(&conf, filepath.Join(folder, "keys"))
	}
	conf.StorePath = ""
	return conf, nil
}

// knownTo returns whose a journal is, and which rooms it knows.
func knownTo(file, key string) (account string, rooms []string, aliases map[string]string, err error) {
	j, err := journal.OpenCopy(file, journal.Options{Key: key, Log: quiet()})
	if err != nil {
		return "", nil, nil, err
	}
	defer j.Close()
	if account, err = j.Note("connected"); err == nil && account == "" {
		err = fmt.Errorf("the journal %s: no bot has used it so far", file)
	}
	if err == nil {
		rooms, err = j.KnownRooms()
	}
	if err == nil {
		aliases, err = j.Aliases()
	}
	return account, rooms, aliases, err
}

// copyKeys copies the key store, which the bot may be using, to a folder, and has settings use that.
func copyKeys(conf *matrix.Config, to string) error {
	if _, err := os.Stat(filepath.Join(conf.StorePath, "keys.db")); errors.Is(err, os.ErrNotExist) {
		conf.StorePath = ""
		return nil
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"keys.db", "keys.db-wal"} {
		content, err := os.ReadFile(filepath.Join(conf.StorePath, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), content, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copying the key store: %w", err)
		}
	}
	conf.StorePath = to
	return nil
}

// quiet returns a log that nobody reads: a memory without its homeserver says much of that.
func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// nobody answers no request.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("a journal is read without the homeserver")
}
