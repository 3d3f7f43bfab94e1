package main

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/urfave/cli/v3"
	"maunium.net/go/mautrix"

	matrix "github.com/go-joe/matrix-memory"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "look whether all is well, and say what to do where it is not",
		Description: "It looks at the homeserver, the login, the journal and each room of the settings, or at that of -room\n" +
			"alone, and changes nothing. The exit code is 1 if something is wrong.",
		Flags: []cli.Flag{jsonFlag("print what was found as JSON")},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if _, err := arguments(cmd, 0, 0); err != nil {
				return err
			}
			conf, err := matrix.LoadConfig(cmd.String("config"))
			if err != nil {
				return err
			}
			rooms := namesOf(conf)
			if room := cmd.String("room"); room != "" {
				rooms = []string{room}
			}
			found := examine(ctx, cmd, conf, rooms)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case cmd.Bool("json"):
				err = writeJSON(cmd, found)
			default:
				err = found.print(cmd.Root().Writer)
			}
			if err == nil && !found.OK {
				err = errSilent
			}
			return err
		},
	}
}

// namesOf returns how the rooms of the settings are called, the default room first.
func namesOf(conf matrix.Config) []string {
	first := home(conf)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(conf.Rooms)), func(name string) bool { return name == first })
	return append([]string{first}, names...)
}

// A status is what was found.
type status struct {
	OK         bool             `json:"ok"`
	Homeserver homeserverStatus `json:"homeserver"`
	Login      *loginStatus     `json:"login,omitempty"`   // nil: the homeserver does not answer
	Journal    *journalStatus   `json:"journal,omitempty"` // nil: the settings name none
	Rooms      []*roomStatus    `json:"rooms,omitempty"`   // none: there is no login
}

// A problem is what is wrong, and what to do.
type problem struct {
	Problem string `json:"problem"`
	Advice  string `json:"advice"`
}

// problems are those of one thing.
type problems struct {
	Problems []problem `json:"problems,omitempty"`
}

func (p *problems) add(what, advice string) { p.Problems = append(p.Problems, problem{what, advice}) }

// A loginStatus says as whom the bot is logged in.
type loginStatus struct {
	User   string `json:"user,omitempty"`
	Device string `json:"device,omitempty"` // the bot's; "": the tool has made one of its own
	problems
}

// examine looks at everything.
func examine(ctx context.Context, cmd *cli.Command, conf matrix.Config, rooms []string) status {
	found := status{Homeserver: examineHomeserver(ctx, conf), Journal: examineJournal(conf, logger(cmd))}
	if len(found.Homeserver.Problems) > 0 {
		return found
	}
	found.Login = &loginStatus{}
	in, err := logIn(ctx, conf, conf.AccessToken == "", reading)
	if err != nil {
		found.Login.add(err.Error(), adviceLogin(err))
		return found
	}
	defer in.out(cmd)
	found.Login.User = in.UserID.String()
	if !in.own {
		found.Login.Device = in.DeviceID.String()
	}
	for _, room := range rooms {
		found.Rooms = append(found.Rooms, examineRoom(ctx, in, conf, room))
	}
	examineValues(ctx, cmd, conf, found.Rooms)
	found.OK = (found.Journal == nil || len(found.Journal.Problems) == 0) &&
		!slices.ContainsFunc(found.Rooms, func(room *roomStatus) bool { return len(room.Problems) > 0 })
	return found
}

// adviceLogin says what lets a login succeed that failed.
func adviceLogin(err error) string {
	switch {
	case errors.Is(err, mautrix.MUnknownToken), errors.Is(err, mautrix.MMissingToken):
		return "make a new access token by logging in, and put it into access_token"
	case errors.Is(err, mautrix.MForbidden):
		return "check mxid and password in the settings"
	case errors.Is(err, mautrix.MLimitExceeded):
		return "there were too many logins: wait some minutes, or use an access_token"
	case errors.Is(err, mautrix.MUserDeactivated):
		return "the account was deactivated: use another one"
	}
	return "check mxid, password, access_token and homeserver in the settings"
}
