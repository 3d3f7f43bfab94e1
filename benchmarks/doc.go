// Package benchmarks compares the memory with joe's others, and with requests
// made with net/http alone, on a real homeserver. Run it in this folder:
//
//	go test -bench . -benchtime 5s -timeout 1h
//
// It ends with the figures that have a bound, as Markdown. Times are compared within
// one run, and only reported: no test depends on them. The counts of requests
// that the memory promises are tested in the module itself. The script run writes
// what the page docs/performance.md is made from.
//
// Bolt and Redis are used with the calls that joe's memories for them make. A
// redis-server must be in the PATH; it is started on a free port and in a folder
// of its own, and does not write to the disk. Bolt waits for the disk in every
// Set, and so does the memory with a journal; the file is written whole in every
// Set, but not waited for. The homeserver's SQLite does not wait for the disk either.
// opsdroid is the real one; it is installed on first use, which takes Python 3.11 or newer.
package benchmarks
