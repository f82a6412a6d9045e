package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// queue bounds the requests that are under way, of all connections together: the
// memory they take, and how long the last of them waits.
const queue = 256

// A device answers requests. It is the token, and something else in tests.
type device interface {
	// do answers r before ctx ends if it can, without an id. It keeps nothing of r.
	do(ctx context.Context, r *cryptoki.Request) cryptoki.Response
}

// stuckAfter is for how long beyond its caller's patience an operation may run. A
// library that hangs cannot be interrupted; only a new process is free of it.
const stuckAfter = time.Minute

// A server answers on a Unix socket.
type server struct {
	device device
	log    *slog.Logger
	stuck  func() // called when an operation hangs
	places chan struct{}
}

func newServer(d device, log *slog.Logger, stuck func()) *server {
	return &server{device: d, log: log, stuck: stuck, places: make(chan struct{}, queue)}
}

// listen makes the socket, which only its owner may open. A socket that a helper
// left behind is replaced; one that a helper answers on is an error.
func listen(path string) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, errors.New("another process answers on " + path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := unix.Umask(0o177) // from the start: no moment in which others may connect
	defer unix.Umask(old)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w (the folder %s must exist, and the path be at most 107 bytes)", err, filepath.Dir(path))
	}
	return l, nil
}

// serve answers until ctx ends; then it finishes what it has begun.
func (s *server) serve(ctx context.Context, l *net.UnixListener) error {
	var open sync.WaitGroup
	defer open.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.Close()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // no more files, for a while
			s.log.Error("accept", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		open.Go(func() { s.converse(ctx, c) })
	}
}

// converse answers one connection until either side ends it.
func (s *server) converse(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	if err := cryptoki.CheckPeer(c); err != nil {
		s.log.Warn("connection refused", "error", err)
		return
	}
	// Reading stops with ctx; the answers still go out.
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	var (
		busy    sync.WaitGroup
		writing sync.Mutex
	)
	defer busy.Wait()
	answer := func(r *cryptoki.Response) {
		defer clear(r.Value)
		writing.Lock()
		defer writing.Unlock()
		c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if err := cryptoki.Write(c, r); err != nil {
			if errors.Is(err, cryptoki.ErrFrame) {
				s.log.Error("an answer breaks the protocol", "error", err)
			}
			c.Close() // who asked learns that there is no answer
		}
	}
	in := bufio.NewReader(c)
	for {
		r, err := cryptoki.ReadRequest(in)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
				s.log.Warn("connection ended", "error", err)
			}
			if errors.Is(err, cryptoki.ErrFrame) && r.ID != 0 {
				answer(&cryptoki.Response{ID: r.ID, Code: cryptoki.Malformed})
			}
			return
		}
		select {
		case s.places <- struct{}{}:
		default:
			r.Clear()
			answer(&cryptoki.Response{ID: r.ID, Code: cryptoki.Busy})
			continue
		}
		busy.Go(func() {
			defer func() { <-s.places }()
			// Not ctx: a drain lets it finish.
			patience := time.Duration(r.Timeout) * time.Millisecond
			defer time.AfterFunc(patience+stuckAfter, s.stuck).Stop()
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			a := s.device.do(limit, r)
			r.Clear()
			a.ID = r.ID
			answer(&a)
		})
	}
}
