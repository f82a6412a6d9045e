// Package porttest finds ports for servers that tests start.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// Free returns a port of this machine that nobody listens on, for a server that is
// started later, or again. It lies below those that the kernel gives to connections
// (32768 and up on Linux): one of theirs could be taken by any client meanwhile.
func Free() (port string, err error) {
	for range 100 {
		port = strconv.Itoa(10_000 + rand.IntN(22_000))
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			return port, l.Close()
		}
	}
	return "", err
}
