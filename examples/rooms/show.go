package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/go-joe/matrix-memory/internal/homeserver"
)

// show starts a homeserver, the bot and two people, and lets them talk.
func show(ctx context.Context, once bool, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "matrix-memory-rooms-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := homeserver.Start(ctx, homeserver.Options{Dir: dir, Progress: stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()

	stage, err := build(ctx, server)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	bot, ended := newBot(ctx, stage.bot), make(chan error, 1)
	go func() {
		ended <- bot.Run()
		stop() // without a bot nobody answers
	}()

	err = stage.play(ctx, stdout)
	if err == nil {
		err = stage.states(ctx, stdout)
	}
	if err == nil && !once {
		stage.invite(stdout)
		<-ctx.Done()
	}
	stop()
	return errors.Join(err, <-ended)
}
