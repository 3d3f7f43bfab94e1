// Package peers tests a memory beside the programs that it shares rooms with: the real
// opsdroid and the real matrix-js-sdk. Its tests need the tags goolm and peers.
package peers
