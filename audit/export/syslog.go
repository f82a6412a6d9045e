package export

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kluis-io/kluis/audit"
)

// Syslog is a sink that speaks RFC 5424, over TLS (RFC 5425), TCP (octet counting,
// RFC 6587) or UDP (RFC 5426). Facility 13, log audit; a refusal is a warning and a
// failure an error. The message is the entry in the sink's format.
//
// Syslog knows no acknowledgement: what was in flight when a connection broke may
// be lost, and over UDP anything may. The sequence numbers show gaps, and files
// have none.
type Syslog struct {
	Network  string // "tls", "tcp" or "udp"
	Address  string // host and port
	TLS      *tls.Config
	Hostname string // of this machine, as messages tell it
	Format   Format

	conn net.Conn
	gone *atomic.Bool // the other end has closed conn
}

// deadline bounds the dialling, and the writing of one batch.
const deadline = 10 * time.Second

// maxDatagram bounds a UDP message, in bytes, so that it fits a datagram.
const maxDatagram = 60_000

// Write implements [Sink].
func (s *Syslog) Write(ctx context.Context, entries []audit.Numbered) error {
	if s.conn != nil && s.gone.Load() {
		s.Close()
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	var out []byte
	if err := s.conn.SetWriteDeadline(time.Now().Add(deadline)); err != nil {
		return errors.Join(err, s.Close())
	}
	for _, e := range entries {
		m, err := s.message(e)
		if err != nil {
			return err
		}
		if s.Network != "udp" {
			out = append(strconv.AppendInt(out, int64(len(m)), 10), ' ')
			out = append(out, m...)
			continue
		}
		if _, err := s.conn.Write(m[:min(len(m), maxDatagram)]); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	if len(out) == 0 {
		return nil
	}
	if _, err := s.conn.Write(out); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Close implements [Sink].
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	s.conn.Close() // it is given up, whatever it says
	s.conn = nil
	return nil
}

func (s *Syslog) dial(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var d net.Dialer
	switch s.Network {
	case "tls":
		c := &tls.Config{}
		if s.TLS != nil {
			c = s.TLS.Clone()
		}
		c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
		s.conn, err = (&tls.Dialer{NetDialer: &d, Config: c}).DialContext(ctx, "tcp", s.Address)
	case "tcp", "udp":
		s.conn, err = d.DialContext(ctx, s.Network, s.Address)
	default:
		return fmt.Errorf("syslog over %q is not offered: use tls, tcp or udp", s.Network)
	}
	if err != nil {
		s.conn = nil
		return err
	}
	s.gone = new(atomic.Bool)
	if s.Network != "udp" {
		// Nothing is ever sent to us: a read ends when the other end goes away, which
		// the next write would not tell.
		go func(c net.Conn, gone *atomic.Bool) {
			c.Read(make([]byte, 1))
			gone.Store(true)
		}(s.conn, s.gone)
	}
	return nil
}

// message returns an entry as RFC 5424's SYSLOG-MSG.
func (s *Syslog) message(e audit.Numbered) ([]byte, error) {
	body, err := s.Format(e)
	if err != nil {
		return nil, err
	}
	const facility = 13
	severity := 6
	switch e.Outcome {
	case audit.Denied:
		severity = 4
	case audit.Failed:
		severity = 3
	}
	// sequenceId counts from 1 to 2147483647 and then begins again (RFC 5424 §7.3.1).
	head := fmt.Sprintf(`<%d>1 %s %s kluis - %s [meta sequenceId="%d"] `, facility*8+severity,
		e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), word(s.Hostname, 255), word(e.Operation, 32), e.Sequence%2147483647+1)
	return append([]byte(head), body...), nil
}

// word returns a header field: printable ASCII without spaces, "-" if there is none.
func word(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r <= 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), n)]
}
