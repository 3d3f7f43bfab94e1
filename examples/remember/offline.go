package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/go-joe/joe"

	matrix "github.com/go-joe/matrix-memory"
)

// script is what -offline says to the bot.
const script = `remember tea is green
stop the homeserver
what is tea
remember coffee is black
remember milk is cold
forget tea
show keys
start the homeserver
show room`

// offline returns the input of -offline, and what makes it a show: the bot repeats each line
// before it answers, and stops and starts its own homeserver when it is told to.
func (h *home) offline(stdout io.Writer) (stdin io.Reader, setUp func(*joe.Bot, *matrix.Memory)) {
	return strings.NewReader(script), func(bot *joe.Bot, memory *matrix.Memory) {
		bot.Brain.RegisterHandler(func(said joe.ReceiveMessageEvent) {
			fmt.Fprintln(stdout, "> "+said.Text)
		})

		bot.Respond(`stop the homeserver`, func(msg joe.Message) error {
			if err := memory.Flush(msg.Context); err != nil { // else it may lack what was said before
				return sorry(msg, err)
			}
			if err := h.server.Stop(); err != nil {
				return sorry(msg, err)
			}
			return msg.RespondE("It is stopped. What I remember now is in the journal, " + h.conf.Journal + ".")
		})

		bot.Respond(`start the homeserver`, func(msg joe.Message) error {
			pending := memory.Pending()
			if err := h.server.Restart(msg.Context); err != nil {
				return sorry(msg, err)
			}
			if err := memory.Flush(msg.Context); err != nil {
				return sorry(msg, err)
			}
			return msg.RespondE("It runs again, and has the %d changes that were made without it.", pending.Changes)
		})
	}
}
