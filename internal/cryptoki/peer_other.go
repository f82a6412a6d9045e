//go:build !linux

package cryptoki

import (
	"errors"
	"net"
)

// CheckPeer refuses: how to ask for the peer's user is known for Linux only.
func CheckPeer(*net.UnixConn) error {
	return errors.New("kluis-hsm needs Linux: the user at the socket's other end cannot be checked here")
}
