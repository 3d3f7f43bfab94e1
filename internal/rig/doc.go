// Package rig is the one harness of this module's tests: a homeserver for a
// package's tests, accounts and rooms on it, memories with and without a proxy in
// front, bots, what stands in a room, and waiting for what must come.
//
// A package's TestMain calls [Run], which starts the homeserver that its tests
// share. Each test takes accounts and rooms of its own ([Register],
// [Account.NewRoom]), so that none sees what another does. A test that stops or
// kills a homeserver takes one of its own ([Own]).
//
// The functions fail the test that they are handed if something goes wrong that
// is not its subject, and clean up when it ends. Examples, which have no
// testing.TB, hand over that of [Example].
package rig
