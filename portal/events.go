package portal

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"
)

// A Stream tells a page what changes while it is open: server-sent events, of which
// each replaces a part of it.
type Stream struct {
	c    *Call
	last []byte
}

// streamLife bounds a stream: the page then asks for another, with the session as it
// is by then.
const streamLife = 10 * time.Minute

// Stream answers with events until fn returns, the reader goes or the portal closes.
func (c *Call) Stream(fn func(ctx context.Context, s *Stream) error) error {
	ctx, cancel := c.untilClosed(c.Context())
	defer cancel()
	h := c.W.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies would keep them back
	c.W.WriteHeader(http.StatusOK)
	s := &Stream{c: c}
	if err := fn(ctx, s); err != nil && ctx.Err() == nil {
		text, e := c.portal.fragment("portal/problem", "problem", c.Explain(err))
		if e == nil {
			s.send("", text)
		}
	}
	return nil // the answer has begun
}

// untilClosed returns a context that ends when the portal closes too, and after the life
// of a stream at the latest.
func (c *Call) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, streamLife)
	go func() {
		select {
		case <-c.portal.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Outlasting returns a context for what goes on when whoever asked for it has gone: it ends
// as a stream does, but for that.
func (c *Call) Outlasting() (context.Context, context.CancelFunc) {
	return c.untilClosed(context.WithoutCancel(c.Context()))
}

// Fragment sends a part of a page, unless it is what was sent last.
func (s *Stream) Fragment(template, name string, data any) error {
	text, err := s.c.portal.fragment(template, name, data)
	if err != nil || bytes.Equal(text, s.last) {
		return err
	}
	s.last = text
	return s.send("", text)
}

// Stale says that the page around the part has to be loaded again. The page closes the
// connection: hx-sse:close="stale".
func (s *Stream) Stale() error { return s.Event("stale") }

// Event tells the page of something that is no part of it: a script's event of that name.
func (s *Stream) Event(name string) error { return s.send(name, []byte(name)) }

// Beat keeps the connection open where nothing changes.
func (s *Stream) Beat() error {
	if _, err := s.c.W.Write([]byte(": beat\n\n")); err != nil {
		return err
	}
	return http.NewResponseController(s.c.W).Flush()
}

func (s *Stream) send(event string, text []byte) error {
	var b bytes.Buffer
	if event != "" {
		fmt.Fprintf(&b, "event: %s\n", event)
	}
	for line := range bytes.Lines(text) {
		fmt.Fprintf(&b, "data: %s\n", bytes.TrimRight(line, "\r\n"))
	}
	b.WriteByte('\n')
	if _, err := s.c.W.Write(b.Bytes()); err != nil {
		return err
	}
	return http.NewResponseController(s.c.W).Flush()
}
