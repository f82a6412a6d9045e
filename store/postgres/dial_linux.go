package postgres

import (
	"time"

	"golang.org/x/sys/unix"
)

// giveUp sets for how long sent bytes may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT).
func giveUp(fd int, after time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
}
