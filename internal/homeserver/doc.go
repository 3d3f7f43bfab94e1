// Package homeserver starts a real Matrix homeserver for the examples and tests
// of this repository, and puts a proxy in front of it that fails on demand.
//
// The server is [Dendrite] or, for whoever asks for it, [Synapse]. Both are pinned
// with all that they need, are made by the first [Start] on a machine and then kept
// in the user's cache folder ([os.UserCacheDir], in matrix-memory).
//
// Dendrite is pinned by the module in the dendrite folder beside this file, so that
// programs that use the library never download or build it. It is built with the
// go command, which must be in the PATH; that takes some minutes, and later starts
// take less than a second. The sources of this repository must still be where the
// importing program was compiled from: Dendrite is of no use to a program built
// with -trimpath or copied to another machine.
//
// Synapse is pinned by synapse/requirements.txt. It is installed from PyPI with
// Python 3.11 or 3.12, which must be in the PATH with its module venv; that takes
// half a minute, and later starts take one or two seconds. The tests of this
// repository run on it when the environment variable MATRIX_MEMORY_HOMESERVER is
// "synapse": see [FromEnvironment].
//
// Everything listens on the loopback address only. Anyone who reaches it may
// register an account, and nothing is rate limited unless [Options] say so: it is
// for nothing else.
//
// A server runs in a process group of its own: a Ctrl-C in the terminal reaches
// the program, which may then close its clients before it stops the server. On
// Linux the kernel kills the server when the program that started it dies
// without stopping it; elsewhere it stays, and [Start] refuses the folder until
// it has gone.
package homeserver
