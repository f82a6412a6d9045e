package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Lock waits until no other process, and nobody else in this one, holds the lock that
// the file at path stands for, which it makes if it is missing, and takes it. It ends
// with unlock, or with the process.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
