package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	file "github.com/go-joe/file-memory"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/archive"
	"github.com/go-joe/matrix-memory/cmd/matrix-memory/internal/place"
	"github.com/go-joe/matrix-memory/internal/homeserver"
	"github.com/go-joe/matrix-memory/internal/journal"
	"github.com/go-joe/matrix-memory/internal/rig"
)

// startRedis starts a Redis: redis [KEY VALUE]…, which stand there as joe's memory writes them. $REDIS is its address.
func startRedis(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	server := miniredis.RunT(s)
	for key, value := range pairs(ts, neg, args) {
		server.HSet("joe-bot", key, value)
	}
	ts.Setenv("REDIS", server.Addr())
}

// writeBolt makes the file of a joe memory for Bolt, with the calls that it makes: bolt FILE [KEY VALUE]…
func writeBolt(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	db, err := bbolt.Open(ts.MkAbs(args[0]), 0o666, nil)
	require.NoError(s, err)
	for key, value := range pairs(ts, neg, args[1:]) {
		bucket, name := "_joe", key
		if i := strings.LastIndex(key, "/"); i >= 0 {
			bucket, name = key[:i+1], key[i+1:]
		}
		require.NoError(s, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(name), []byte(value))
		}))
	}
	require.NoError(s, db.Close())
}

// writeFile has joe's file memory make its file: filememory FILE [KEY VALUE]…
func writeFile(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	memory, err := file.NewMemory(ts.MkAbs(args[0]))
	require.NoError(s, err)
	for key, value := range pairs(ts, neg, args[1:]) {
		require.NoError(s, memory.Set(key, []byte(value)))
	}
}

// writeHuge makes a file with a value that fits in no event, huge, and with one that does, small: hugefile FILE
func writeHuge(ts *testscript.TestScript, neg bool, args []string) {
	writeFile(ts, neg, []string{args[0], "huge", `"` + strings.Repeat("x", 70_000) + `"`, "small", "2"})
}

// takeBolt opens a Bolt file as a bot does, until the script ends: takebolt FILE
func takeBolt(ts *testscript.TestScript, neg bool, args []string) {
	db, err := bbolt.Open(ts.MkAbs(args[0]), 0o666, nil)
	ts.Check(err)
	ts.Defer(func() { db.Close() })
}

func pairs(ts *testscript.TestScript, neg bool, args []string) map[string]string {
	if neg || len(args)%2 != 0 {
		ts.Fatalf("keys and values are missing")
	}
	all := make(map[string]string)
	for i := 0; i < len(args); i += 2 {
		all[args[i]] = args[i+1]
	}
	return all
}

// front makes a way to the homeserver that can be cut: $FRONT is its URL.
func front(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	s.front = rig.Proxy(s)
	ts.Setenv("FRONT", s.front.URL())
}

// slow has each state event take half a second that goes by $FRONT.
func slow(ts *testscript.TestScript, neg bool, args []string) {
	sceneOf(ts).front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Delay(500 * time.Millisecond)})
}

// limit has one state event a second pass that goes by $FRONT.
func limit(ts *testscript.TestScript, neg bool, args []string) {
	sceneOf(ts).front.Inject(homeserver.Fault{Match: homeserver.StateWrite, Do: homeserver.Limit(1, time.Second)})
}

// seen waits until so many state events have gone by $FRONT: seen N
func seen(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	rig.Eventually(bound)(s, func() bool { return s.front.Count(homeserver.Seen(homeserver.StateWrite)) >= n }, "%d state events", n)
}

// manyKeys makes an export: manykeys FILE N
func manyKeys(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	held := place.Contents{Values: make(map[string][]byte)}
	for i := range n {
		held.Values[fmt.Sprint("key", i)] = []byte(strconv.Itoa(i))
	}
	text, err := archive.Encode("main", time.Now(), held)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

// atMost says whether no more state events have gone by $FRONT: atmost N
func atMost(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	require.LessOrEqual(s, s.front.Count(homeserver.Seen(homeserver.StateWrite)), n)
}

// cut has nothing come through any more that goes by $FRONT.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	sceneOf(ts).front.Inject(homeserver.Fault{Do: homeserver.Status(http.StatusBadGateway, nil, "")})
}

// noEvents has the homeserver give no single event to who asks for it by $FRONT.
func noEvents(ts *testscript.TestScript, neg bool, args []string) {
	single := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/rooms/") && strings.Contains(r.URL.Path, "/event/")
	}
	sceneOf(ts).front.Inject(homeserver.Fault{Match: single, Do: homeserver.Status(http.StatusBadGateway, nil, "")})
}

// kept waits until the bot has delivered all, and its journal says what its room holds: kept JOURNAL [STORE_KEY]
func kept(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	rig.Flush(s, s.bot, bound)
	rig.Eventually(bound)(s, func() bool {
		j, err := journal.OpenCopy(ts.MkAbs(args[0]), journal.Options{Key: strings.Join(args[1:], ""), Log: rig.Log(s)})
		require.NoError(s, err)
		defer j.Close()
		state, err := j.Load(ts.Getenv("ROOM"))
		require.NoError(s, err)
		return state != nil
	}, "the journal's file says what the room holds")
}
