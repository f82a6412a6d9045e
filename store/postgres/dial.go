package postgres

import (
	"net"
	"syscall"
)

// unheard is how long what we send may stay without an acknowledgement that it arrived, and
// a connection that rests without an answer: a machine that lost its power, or its network,
// says nothing. By itself the system gives what was sent a quarter of an hour, in which
// nobody could write.
const unheard = 2 * answer

// dialer returns what connects to servers.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: answer, Interval: answer / 2, Count: int(unheard / answer)},
		Control: func(network, _ string, c syscall.RawConn) (err error) {
			if network == "unix" {
				return nil
			}
			if e := c.Control(func(fd uintptr) { err = giveUp(int(fd), unheard) }); e != nil {
				return e
			}
			return err
		},
	}
}
