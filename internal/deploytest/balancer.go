package deploytest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Balancer hands connections to servers in turn, TLS and all. It knows nothing of
// sessions; a server whose /readyz does not answer gets none, and loses those it has.
type Balancer struct {
	patience time.Duration // with a server's answer
	listener net.Listener
	stop     context.CancelFunc

	mu      sync.Mutex
	servers []*served
	next    int
}

type served struct {
	port  string
	up    bool
	conns map[net.Conn]bool
}

// Balance listens on a port of the loopback address until it is closed.
func Balance(patience time.Duration, port string, servers ...string) (*Balancer, error) {
	b := &Balancer{patience: patience}
	for _, p := range servers {
		b.servers = append(b.servers, &served{port: p, conns: map[net.Conn]bool{}})
	}
	var err error
	if b.listener, err = net.Listen("tcp", "127.0.0.1:"+port); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	for _, s := range b.servers {
		go b.watch(ctx, s)
	}
	go func() {
		for {
			c, err := b.listener.Accept()
			if err != nil {
				return
			}
			go b.forward(c)
		}
	}()
	return b, nil
}

// Close ends it, and all connections. It may be called again.
func (b *Balancer) Close() {
	b.stop()
	b.listener.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		s.up = false
		for c := range s.conns {
			c.Close()
		}
	}
}

func (b *Balancer) watch(ctx context.Context, s *served) {
	probe := &http.Client{Timeout: b.patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, // it asks only whether somebody is there
	}}
	for ctx.Err() == nil {
		r, err := probe.Get("https://127.0.0.1:" + s.port + "/readyz")
		if err == nil {
			r.Body.Close()
		}
		b.mu.Lock()
		if s.up = err == nil && r.StatusCode == http.StatusOK && ctx.Err() == nil; !s.up {
			for c := range s.conns {
				c.Close()
			}
		}
		b.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
	}
}

// Up reports how many servers answer.
func (b *Balancer) Up() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if s.up {
			n++
		}
	}
	return n
}

func (b *Balancer) pick() *served {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.servers {
		s := b.servers[b.next%len(b.servers)]
		b.next++
		if s.up {
			return s
		}
	}
	return nil
}

func (b *Balancer) forward(c net.Conn) {
	defer c.Close()
	s := b.pick()
	if s == nil {
		return
	}
	to, err := net.DialTimeout("tcp", "127.0.0.1:"+s.port, time.Second)
	if err != nil {
		return
	}
	defer to.Close()
	b.mu.Lock()
	s.conns[c], s.conns[to] = true, true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(s.conns, c)
		delete(s.conns, to)
		b.mu.Unlock()
	}()
	go func() {
		io.Copy(to, c)
		to.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, to)
}
