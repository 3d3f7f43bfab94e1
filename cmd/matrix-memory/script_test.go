package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix/id"

	matrix "github.com/go-joe/matrix-memory"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// The scripts in testdata/script run the tool as an operator does. Each has an account of its
// own, that of a bot, which has made the room $ROOM; and a configuration.yaml that names it,
// unless it brings one. The environment has what settings take: $HOMESERVER, $USER_ID,
// $PASSWORD, $TOKEN and $ROOM.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"alias":   alias,
			"bot":     bot,
			"bury":    bury,
			"exits":   exits,
			"large":   large,
			"room":    makeRoom,
			"put":     put,
			"devices": devices,
			"event":   changeEvent,
			"setfrom": setFrom,

			"redis":      startRedis,
			"bolt":       writeBolt,
			"takebolt":   takeBolt,
			"filememory": writeFile,
			"hugefile":   writeHuge,
			"front":      front,
			"slow":       slow,
			"limit":      limit,
			"seen":       seen,
			"atmost":     atMost,
			"manykeys":   manyKeys,
			"cut":        cut,
			"kept":       kept,
			"noevents":   noEvents,
		},
	})
}

// configuration is what a script has that brings none.
const configuration = `connectors:
  matrix:
    homeserver: $HOMESERVER
    mxid: $USER_ID
    access_token: $TOKEN
    rooms:
      main: $ROOM
databases:
  matrix:
    timeout: 15s
`

// A scene is what a script plays on.
type scene struct {
	testing.TB
	rig.Account
	bot   *matrix.Memory    // see bot
	front *homeserver.Proxy // see front
}

type sceneKey struct{}

func setUp(env *testscript.Env) error {
	t := env.T().(testing.TB)
	s := &scene{TB: t, Account: rig.Register(t)}
	env.Values[sceneKey{}] = s
	env.Setenv("HOMESERVER", s.HomeserverURL.String())
	env.Setenv("USER_ID", s.UserID.String())
	env.Setenv("PASSWORD", s.Password)
	env.Setenv("TOKEN", s.AccessToken)
	env.Setenv("ROOM", s.NewRoom(t).String())
	file := env.WorkDir + "/configuration.yaml"
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	return os.WriteFile(file, []byte(configuration), 0o600)
}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// roomKinds are what the script command room knows.
var roomKinds = map[string]rig.RoomOption{"encrypted": rig.Encrypted, "public": rig.Public, "writable": rig.Writable, "plain": rig.Plain}

// guestRooms are those that another account makes, with the bot as a member or not.
const (
	guest    = "guest"
	stranger = "stranger"
)

// makeRoom makes a room: room NAME [KIND…]. The environment variable NAME has its ID. A kind that is a room's ID
// says that the new room replaces that one.
func makeRoom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: room NAME [KIND…]")
	}
	s := sceneOf(ts)
	maker := s.Account
	var options []rig.RoomOption
	for _, kind := range args[1:] {
		option, known := roomKinds[kind]
		switch {
		case known:
			options = append(options, option)
		case strings.HasPrefix(kind, "!"):
			options = append(options, rig.Replacing(id.RoomID(kind)))
		case kind == guest:
			maker = rig.Register(s)
			options = append(options, s.Account)
		case kind == stranger:
			maker = rig.Register(s)
		default:
			ts.Fatalf("there is no kind %q of room", kind)
		}
	}
	ts.Setenv(args[0], maker.NewRoom(s, options...).String())
}

// bury has a room's tombstone name the one that replaces it: bury ROOM REPLACEMENT.
func bury(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bury ROOM REPLACEMENT")
	}
	s := sceneOf(ts)
	s.Bury(s, id.RoomID(args[0]), id.RoomID(args[1]))
}

// alias gives a room an alias: alias NAME ROOM. The environment variable NAME has it.
func alias(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: alias NAME ROOM")
	}
	s := sceneOf(ts)
	ts.Setenv(args[0], s.NewAlias(s, id.RoomID(args[1])).String())
}

// put stores a state event of the memory as another program does: put ROOM STATE_KEY CONTENT.
func put(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: put ROOM STATE_KEY CONTENT")
	}
	s := sceneOf(ts)
	_, err := s.SendStateEvent(s.Context(), id.RoomID(args[0]), rig.MemoryType, args[1], rawJSON(args[2]))
	require.NoError(s, err)
}

type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(strings.TrimSpace(string(r))), nil }

// exits runs a program that fails: exits CODE PROGRAM [ARG…].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG…]")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("it exits with %d:\n%s", code, ts.ReadFile("stderr"))
	}
}

// devices prints how many devices the account has.
func devices(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	list, err := s.GetDevicesInfo(s.Context())
	require.NoError(s, err)
	_, err = fmt.Fprintln(ts.Stdout(), len(list.Devices))
	ts.Check(err)
}

// large writes a text of so many bytes: large FILE BYTES.
func large(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: large FILE BYTES")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strconv.Quote(strings.Repeat("x", n))), 0o600))
}
