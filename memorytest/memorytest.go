// Package memorytest is a conformance suite for any joe.Memory.
//
// A memory passes if a bot that uses it cannot tell it from a plain map that
// survives restarts:
//
//   - Any Go string is a key and any byte slice is a value: the empty one, text,
//     JSON and bytes that are neither. A value that is nil reads back as an
//     empty one, and its key is there.
//   - Get returns what was last set. Keys returns exactly the keys that are
//     there, each once and as it was set. Delete tells whether the key was there.
//   - The slices that go in and come out belong to the caller. Changing one
//     changes nothing in the memory, and a later write changes none of them.
//   - A Set that returns an error has changed nothing, neither at once nor after
//     opening the memory again.
//   - What was acknowledged is there after closing the memory and opening it
//     again, and what was deleted is not.
//   - After Close an operation fails or does what it says. Nothing panics or
//     blocks, and Close may be called again.
//
// # Equal values
//
// A value has to come back byte for byte, with one exception for memories that
// keep JSON as JSON. A value that is JSON in UTF-8 without duplicate members
// and lone surrogates may come back with other white space, with other escapes
// in its strings and with its members in another order. Its number literals
// have to come back as they were, because a program can tell 1.0 from 1.
//
// # Concurrency
//
// A bot calls its memory through a joe.Storage, which runs one write at a time
// but any number of reads at once. The suite asks for just that: its concurrent
// part goes through a joe.Storage. Run it with the race detector. A memory that
// promises more than that has to test it by itself.
//
// # Size and time
//
// The suite makes about 150 writes and needs a dozen separate memories, which
// it opens about thirty times in all, so it can be run against a remote store.
// Keys have up to 4,096 bytes and values up to 20,000, and at no time does a
// memory have to hold more than 48 KiB. Three larger writes, of 1 MiB each, are
// offered to see what happens to a write that fails: a memory may accept or
// refuse them. If yours accepts them but can fail for other reasons, for example
// on a full disk, give it a limit below 1 MiB in open, and the suite sees how it
// fails: otherwise RefusedWrites proves nothing. The second example shows how.
package memorytest

import (
	"testing"

	"github.com/go-joe/joe"
)

// Run tests the memory that open opens. The suite consists of subtests that run
// one after another; each works on a memory of its own.
//
// The name of the t that open receives says which memory is meant. The first
// call with a name opens a memory that is empty. Every later call with the same
// name comes after the memory was closed, and has to open it again with the same
// data. Two memories with different names share nothing. The last element of
// the name, path.Base(t.Name()), is unique within a run and consists of letters
// only, so it is fit to be the name of a file, a bucket or a room. If a memory
// can't be opened, open ends the test with t.Fatal.
//
// Run closes all that it opens. A memory that does not outlive Close, such as
// the one that joe starts with, can be tested too: let open hand out the same
// memory again, and keep Close from it. Everything but persistence is proved
// then. The example shows how.
func Run(t *testing.T, open func(t *testing.T) joe.Memory) {
	tests := []struct {
		name string
		run  func(s *subject)
	}{
		{"Missing", testMissing},
		{"Set", testSet},
		{"Delete", testDelete},
		{"Values", testValues},
		{"Keys", testKeys},
		{"CallersSlices", testCallersSlices},
		{"ReturnedSlices", testReturnedSlices},
		{"RefusedWrites", testRefusedWrites},
		{"Reopen", testReopen},
		{"Close", testClose},
		{"Storage", testStorage},
		{"Concurrency", testConcurrency},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(newSubject(t, open))
		})
	}
}
