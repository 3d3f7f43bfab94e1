// Package homeserver starts a real Matrix homeserver for the examples and tests
// of this repository, and puts a proxy in front of it that fails on demand.
//
// The server is Dendrite. Its version is pinned by the module in the dendrite
// folder beside this file, so that programs that use the library never download
// or build it. The first [Start] on a machine builds it with the go command,
// which takes some minutes; the program is then kept in the user's cache folder
// ([os.UserCacheDir], in matrix-memory) and later starts take about a second.
// The go command must be in the PATH, and the sources of this repository must
// still be where the importing program was compiled from: the package is of no
// use to a program built with -trimpath or copied to another machine.
//
// Everything listens on the loopback address only. Anyone who reaches it may
// register an account and nothing is rate limited, so it is for nothing else.
//
// A server runs in a process group of its own: a Ctrl-C in the terminal reaches
// the program, which may then close its clients before it stops the server. On
// Linux the kernel kills the server when the program that started it dies
// without stopping it; elsewhere it stays, and [Start] refuses the folder until
// it has gone.
package homeserver
