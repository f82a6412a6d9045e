package harden

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Dumps forbids core dumps of this process and of those that it starts, and lets no other
// process of the same user read its memory or trace it.
func Dumps() error {
	none := unix.Rlimit{}
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &none),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}

// errMemlock says that the process may not lock all that it has or will have: to lock
// less than all would end it later, when it needs more.
var errMemlock = errors.New("the limit on locked memory (RLIMIT_MEMLOCK) is not infinite, and the process lacks CAP_IPC_LOCK")

// Memory keeps all of this process's memory, now and later, from being swapped out. Pages
// are locked as they are touched, so that it costs no more memory than is used.
func Memory() error {
	if may, err := mayLock(); err != nil || !may {
		return errors.Join(errMemlock, err)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	return nil
}

func mayLock() (bool, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return false, err
	}
	if limit.Cur == unix.RLIM_INFINITY {
		return true, nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, err
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0, nil
}
