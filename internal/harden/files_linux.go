package harden

import (
	"errors"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// What may be done with files and folders that are left to be read, and to be written:
// none of it is to execute, or to make what is no file and no folder. A file is renamed from
// one folder into another, which is what refer allows.
const (
	readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readDir   = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeFile = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	writeDir  = readDir | writeFile | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// truncates is the first version of Landlock's ABI that can keep files from being
// truncated, Linux 6.2's.
const truncates = 3

// Files leaves to this process, and to those that it starts, the files below read to be
// read, and those below write to be read, written, made and removed. Nothing elsewhere can be
// opened any more, nothing executed, and no right comes back. What is open stays open, and
// sockets can be connected to. Names of what is not there are passed over; links are followed
// now, and not again.
//
// It is Landlock's doing (https://docs.kernel.org/userspace-api/landlock.html), and
// [errors.ErrUnsupported] where the kernel has none, or an older one than Linux 6.2.
func Files(read, write []string) error {
	if abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || abi < truncates {
		return errors.ErrUnsupported
	}
	var rules []landlock.Rule
	allow := func(names []string, file, dir landlock.AccessFSSet) {
		for _, name := range names {
			info, err := os.Stat(name)
			switch {
			case err != nil:
			case info.IsDir():
				rules = append(rules, landlock.PathAccess(dir, name))
			default:
				rules = append(rules, landlock.PathAccess(file, name))
			}
		}
	}
	allow(read, readFile, readDir)
	allow(write, writeFile, writeDir)
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}
