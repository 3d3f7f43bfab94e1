// Package e2ee keeps a bot's memory encrypted in encrypted rooms.
//
//	memory := matrix.New(conf, e2ee.Enable()) // build with -tags goolm
//
// In an encrypted room a value then goes out as a timeline event, which only
// members of the room can read, and the state refers to it. Keys of the memory
// stay readable in the state. A room that was encrypted once stays so for the bot, whatever
// the homeserver says after that.
//
// The keys of the bot's device are in a folder, Config.StorePath, which is
// locked with Config.StoreKey and used by one process at a time. Whoever loses it
// gets all values back with the recovery key: see Config.RecoveryKey. On an
// account that has no cross-signing and no key backup, the first start sets both
// up, and then writes the recovery key to the file recovery_key in that folder.
//
// The package needs the build tag goolm, which selects mautrix's cipher written
// in Go. It needs no C compiler and no libolm. Without the tag it compiles, and
// opening the memory fails.
package e2ee
