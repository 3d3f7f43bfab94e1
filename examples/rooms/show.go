package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// show starts a homeserver, the bot and two people, and lets them talk. It
// reports whether they did, besides an error.
func show(ctx context.Context, once bool, stdout, stderr io.Writer) (talked bool, err error) {
	dir, err := os.MkdirTemp("", "matrix-memory-rooms-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: dir, Progress: stderr})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		<-server.Ended()
		stop(errors.New("the homeserver has ended")) // Stop says why
	}()
	stage, err := build(ctx, server)
	if err != nil {
		return false, err
	}
	bot, ended := newBot(ctx, stage.bot), make(chan error, 1)
	go func() {
		ended <- bot.Run()
		stop(nil) // without a bot nobody answers
	}()

	err = stage.play(ctx, stdout)
	if err == nil {
		err = stage.states(ctx, stdout)
	}
	talked = err == nil
	if talked && !once {
		stage.invite(stdout)
		<-ctx.Done()
	}
	stop(nil)
	return talked, errors.Join(err, <-ended)
}
