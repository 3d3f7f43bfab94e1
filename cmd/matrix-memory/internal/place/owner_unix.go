//go:build unix

package place

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a new file the owner and the group of the one that it replaces.
func keepOwner(made *os.File, former fs.FileInfo) error {
	is, err := made.Stat()
	if err != nil {
		return err
	}
	has, want := is.Sys().(*syscall.Stat_t), former.Sys().(*syscall.Stat_t)
	if has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	if err := made.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("it belongs to user %d and group %d, which a new one can't be given, so it stays as it is; run this as that user: %w", want.Uid, want.Gid, err)
	}
	return nil
}
