package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/go-joe/matrix-memory/internal/wire"
)

// rawFlag has a command give and take values as bytes.
func rawFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "raw", Usage: usage, HideDefault: true}
}

// jsonFlag has a command write JSON, for programs.
func jsonFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: usage, HideDefault: true}
}

// printable gives a value as JSON on one line: as it is, or as it stands in a room if parse would not give it back.
func printable(value []byte) json.RawMessage { return compact(wire.Shown(value)) }

// compact gives JSON on one line.
func compact(text json.RawMessage) json.RawMessage {
	var line bytes.Buffer
	if json.Compact(&line, text) != nil {
		return text
	}
	return line.Bytes()
}

// parse is the reverse of printable.
func parse(text []byte) ([]byte, error) {
	if !json.Valid(text) {
		return nil, fmt.Errorf("the value is no JSON: a text needs quotes, as in '\"hello\"'; give -raw to store the bytes as they are")
	}
	if entry := wire.DecodeValue(text); entry.Err == nil && entry.Pointer == "" {
		return entry.Value, nil
	}
	return text, nil
}

// argument returns what an argument stands for: itself, or, for "-", what is read from standard input.
func argument(ctx context.Context, cmd *cli.Command, arg string) ([]byte, error) {
	if arg != "-" {
		return []byte(arg), nil
	}
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(cmd.Root().Reader)
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		if r.err != nil {
			return nil, fmt.Errorf("reading the value from standard input: %w", r.err)
		}
		return r.text, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// writeJSON writes a value as one line of JSON.
func writeJSON(cmd *cli.Command, value any) error {
	encoder := json.NewEncoder(cmd.Root().Writer)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
