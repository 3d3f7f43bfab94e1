package settings_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-joe/matrix-memory/internal/settings"
)

const rooms = `databases:
  matrix: {default_room: ops}
connectors:
  matrix:
    mxid: bot
    rooms:
      ops: "#ops:example.org"
`

// addSome adds a fault of a field that the file sets, of one that it does not, of
// a room in it and of another.
func addSome(faults *settings.Faults) {
	faults.AddMember("Rooms", "dev", "is %d", 1)
	faults.AddMember("Rooms", "ops", "is %d", 2)
	faults.Add("UserID", "is not %s", faults.Name("DeviceID"))
	faults.Add("StoreKey", "is short")
	faults.Add("DefaultRoom", "is no room")
}

func TestFaultsOfWhatWasWrittenInGo(t *testing.T) {
	faults := settings.FaultsOf(bot{})
	require.NoError(t, faults.Err())
	addSome(faults)
	require.EqualError(t, faults.Err(), `matrix: the configuration has 5 faults:
	bot.Rooms["dev"]: is 1
	bot.Rooms["ops"]: is 2
	bot.UserID: is not DeviceID
	bot.StoreKey: is short
	bot.DefaultRoom: is no room`)
}

func TestFaultsOfWhatWasRead(t *testing.T) {
	const want = `matrix: the configuration has 5 faults:
	bot.Rooms["dev"]: is 1
	bot.yaml: store_key: is short
	bot.yaml:2: default_room: is no room
	bot.yaml:5: mxid: is not device_id
	bot.yaml:7: rooms: "ops": is 2`
	conf, file, faults := read(rooms)
	require.NoError(t, faults.Err())
	addSome(faults)
	require.EqualError(t, faults.Err(), want, "among the faults of reading")

	faults = file.FaultsOf(conf, conf)
	addSome(faults)
	require.EqualError(t, faults.Err(), want)

	// What was set in Go since is not the file's.
	now := conf
	now.UserID, now.StoreKey = "@bot:example.org", "key"
	now.Rooms = map[string]string{"ops": "!ops:example.org", "dev": ""}
	faults = file.FaultsOf(now, conf)
	addSome(faults)
	require.EqualError(t, faults.Err(), `matrix: the configuration has 5 faults:
	bot.Rooms["dev"]: is 1
	bot.Rooms["ops"]: is 2
	bot.UserID: is not device_id
	bot.StoreKey: is short
	bot.yaml:2: default_room: is no room`)
}

func TestComplete(t *testing.T) {
	conf, file, faults := read("connectors: {matrix: {mxid: '', password: 1, device_id: a, rooms: {ops: 1}}}\n")
	require.Error(t, faults.Err())
	file.Complete(&conf, bot{UserID: "stand-in", Password: "stand-in", DeviceID: "stand-in", StoreKey: "stand-in"})
	require.Equal(t, bot{
		Password: "stand-in", // which can't be read
		DeviceID: "a",
		Rooms:    map[string]string{"ops": someRoom},
		StoreKey: "stand-in", // which is missing
	}, conf)
}
