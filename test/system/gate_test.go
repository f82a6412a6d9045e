package system_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A gate is a stretch of network between the platform and its vault that a test
// can cut: connections through it end, and new ones are not answered.
type gate struct {
	address string

	mu    sync.Mutex
	to    string // "" while it is shut
	conns map[net.Conn]bool
}

func newGate(t *testing.T) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	g := &gate{address: l.Addr().String(), conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.carry(c)
		}
	}()
	return g
}

func (g *gate) open(to string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = to
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = ""
	for c := range g.conns {
		c.Close()
	}
}

func (g *gate) carry(c net.Conn) {
	g.mu.Lock()
	to := g.to
	g.conns[c] = true
	g.mu.Unlock()
	defer func() {
		c.Close()
		g.mu.Lock()
		delete(g.conns, c)
		g.mu.Unlock()
	}()
	if to == "" {
		return
	}
	network := "tcp"
	if strings.HasPrefix(to, "/") {
		network = "unix"
	}
	far, err := net.Dial(network, to)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.conns[far] = true
	g.mu.Unlock()
	defer func() {
		far.Close()
		g.mu.Lock()
		delete(g.conns, far)
		g.mu.Unlock()
	}()
	go func() {
		io.Copy(far, c)
		far.(interface{ CloseWrite() error }).CloseWrite() // a database's server keeps a place for who has not hung up
	}()
	io.Copy(c, far)
}
