package cryptoki

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/trace"
)

// A Config is what [New] needs. Socket is required.
type Config struct {
	Socket string // the helper's, a path
	// Concurrent bounds the requests under way; 0 stands for 64. More than the
	// token has sessions only hides the way there and back.
	Concurrent int
	// Patience is for how long a request waits for its turn, before
	// [fault.Throttled], and for a helper that is away, before
	// [fault.Unavailable]. 0 stands for 5 s.
	Patience time.Duration
}

// A Client speaks to the helper over one connection, which it opens when it needs
// it and again after the helper was away. It is safe for concurrent use.
//
// Its errors are [fault.Unavailable] if the helper or the token does not answer,
// [fault.Throttled] if too many ask, [fault.KeyOperationForbidden] if the token
// forbids it for the key, [fault.NotSupported] if the token cannot do it,
// [fault.InvalidArgument] if the value was not made with the key, and
// [fault.Integrity] if the token that must hold the key does not.
type Client struct {
	socket   string
	places   *semaphore.Weighted
	patience time.Duration

	dialling sync.Mutex // one at a time; the others find its connection
	mu       sync.Mutex
	conn     *conn // nil until needed, and after it broke
	closed   bool
}

// New returns a client. It connects at the first request.
func New(c Config) *Client {
	if c.Concurrent == 0 {
		c.Concurrent = 64
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Second
	}
	return &Client{socket: c.Socket, places: semaphore.NewWeighted(int64(c.Concurrent)), patience: c.Patience}
}

// Close ends the connection and every request under way.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.end(net.ErrClosed)
	}
}

// useTime and makeTime are what an operation gets if its context sets no earlier
// deadline. Making an RSA key takes a slow token a minute.
const (
	useTime  = 30 * time.Second
	makeTime = 3 * time.Minute
)

// errAway is wrapped by what says that the request may not have reached a token.
var errAway = errors.New("the helper is away")

// do sends r and returns the answer, whose code is OK. It waits for a helper that
// is away and asks again, as long as patience lasts; once only if again is false
// and the request may have been received.
func (c *Client) do(ctx context.Context, r *Request, again bool) (_ *Response, err error) {
	ctx, span := trace.Start(ctx, "ask HSM", trace.Client)
	span.Text("kluis.operation", string(r.Op))
	defer func() { span.End(err) }()
	if err := c.turn(ctx); err != nil {
		return nil, err
	}
	defer c.places.Release(1)
	limit := useTime
	if r.Op == OpGenerate || r.Op == OpCopy {
		limit = makeTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	until := time.Now().Add(c.patience)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		answer, sent, err := c.once(ctx, r)
		if err == nil {
			return answer, failure(answer)
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "The HSM did not answer in time.").WithMend("Try again.")
		}
		if !errors.Is(err, errAway) || sent && !again || time.Now().Add(pause).After(until) {
			return nil, fault.Wrap(fault.Unavailable, err, "The HSM cannot be reached.").WithMend("See that kluis-hsm runs, and try again.")
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (c *Client) turn(ctx context.Context) error {
	if c.places.TryAcquire(1) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	if err := c.places.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return busy()
	}
	return nil
}

func busy() error {
	return fault.New(fault.Throttled, "The HSM has more key operations to do than it can.").WithMend("Try again later.")
}

// once sends r over the present connection or a new one. sent says whether the
// helper may have received it.
func (c *Client) once(ctx context.Context, r *Request) (answer *Response, sent bool, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, false, err
	}
	answer, err = conn.ask(ctx, r)
	return answer, true, err
}

func (c *Client) current() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	if c.conn != nil && c.conn.broken() == nil {
		return c.conn, nil
	}
	return nil, nil
}

func (c *Client) connect(ctx context.Context) (*conn, error) {
	if conn, err := c.current(); conn != nil || err != nil {
		return conn, err
	}
	c.dialling.Lock()
	defer c.dialling.Unlock()
	if conn, err := c.current(); conn != nil || err != nil {
		return conn, err
	}
	d := net.Dialer{Timeout: c.patience}
	nc, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	unix := nc.(*net.UnixConn)
	if err := CheckPeer(unix); err != nil {
		unix.Close()
		return nil, err
	}
	conn := newConn(unix)
	hello, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	answer, err := conn.ask(hello, &Request{Op: OpInfo})
	if err == nil && answer.Code == OK && (answer.Info == nil || answer.Info.Version != Version) {
		err = errors.New("kluis-hsm is of another release")
	}
	if err != nil {
		conn.end(err)
		if ctx.Err() == nil && hello.Err() != nil {
			err = fmt.Errorf("%w: %w", errAway, err)
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.end(net.ErrClosed)
		return nil, net.ErrClosed
	}
	c.conn = conn
	return conn, nil
}

// A conn is one connection, on which requests overtake each other.
type conn struct {
	nc      *net.UnixConn
	writing sync.Mutex

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *Response // each of capacity 1
	err     error                     // why it ended
	done    chan struct{}             // closed then
}

func newConn(nc *net.UnixConn) *conn {
	c := &conn{nc: nc, waiting: map[uint64]chan *Response{}, done: make(chan struct{})}
	go c.receive()
	return c
}

func (c *conn) receive() {
	in := bufio.NewReader(c.nc)
	for {
		r, err := ReadResponse(in)
		if err != nil {
			c.end(err)
			return
		}
		c.mu.Lock()
		answer := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if answer == nil {
			clear(r.Value) // nobody waits any more
			continue
		}
		answer <- r
	}
}

func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.nc.Close()
		close(c.done)
	}
}

func (c *conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ask sends r and waits for its answer. An error wraps errAway unless the context
// ended or r breaks the protocol.
func (c *conn) ask(ctx context.Context, r *Request) (*Response, error) {
	answer := make(chan *Response, 1)
	m := *r
	m.Timeout = maxTimeout
	if d, ok := ctx.Deadline(); ok {
		m.Timeout = max(1, min(maxTimeout, time.Until(d).Milliseconds()))
	}
	c.mu.Lock()
	c.last++
	m.ID = c.last
	c.waiting[m.ID] = answer
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		delete(c.waiting, m.ID)
		c.mu.Unlock()
	}
	c.writing.Lock()
	// A helper that does not read is dead to us; half a frame ends the connection.
	c.nc.SetWriteDeadline(time.Now().Add(useTime))
	err := Write(c.nc, &m)
	c.writing.Unlock()
	if err != nil {
		forget()
		if errors.Is(err, ErrFrame) {
			return nil, err
		}
		c.end(err)
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	select {
	case r := <-answer:
		return r, nil
	case <-c.done:
		return nil, fmt.Errorf("%w: %w", errAway, c.broken())
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// failure turns a code into the fault that it stands for, nil for OK.
func failure(r *Response) error {
	if r.Code == OK {
		return nil
	}
	cause := errors.New("kluis-hsm: " + string(r.Code) + ": " + r.Detail)
	switch r.Code {
	case Invalid:
		return fault.Wrap(fault.InvalidArgument, cause, "The value was not made with this key and algorithm, or does not fit them.")
	case Missing:
		return fault.Wrap(fault.Integrity, cause, "The HSM does not hold the key.")
	case Refused:
		return fault.Wrap(fault.KeyOperationForbidden, cause, "The HSM refuses the operation with this key.")
	case Unsupported:
		return fault.Wrap(fault.NotSupported, cause, "The HSM does not support the key type or the algorithm.")
	case OtherToken:
		return fault.Wrap(fault.Unavailable, cause, "The key lies on another token than the HSM's present one.").
			WithMend("Let kluis-hsm serve the token that holds the key.")
	case Busy:
		return busy()
	case Unavailable:
		return fault.Wrap(fault.Unavailable, cause, "The HSM does not answer.").WithMend("Try again.")
	case Exists:
		return fault.Wrap(fault.Conflict, cause, "The HSM holds an object of that id already.")
	}
	return fault.Wrap(fault.Internal, cause, "The HSM failed.")
}
