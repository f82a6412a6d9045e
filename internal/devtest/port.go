package devtest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreePort returns a port of this machine that nobody listens on, for a server that is
// started later, or again. It lies below those that the kernel gives to connections
// (32768 and up on Linux): one of theirs could be taken by any client meanwhile.
func FreePort(tb testing.TB) string {
	tb.Helper()
	var err error
	for range 100 {
		port := strconv.Itoa(10_000 + rand.IntN(22_000))
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			l.Close()
			return port
		}
	}
	tb.Fatal(err)
	return ""
}
