package alert

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/kluis-io/kluis/fault"
)

// Mail is a sink that sends mail over SMTP (RFC 5321). It asks for TLS unless it is
// told that there is none, and never sends a password without.
type Mail struct {
	Server   string // host and port
	Security string // "starttls" if left out, "tls", or "none" on a loopback address
	Username string // "" for none
	Password string
	From     string
	To       []string
	TLS      *tls.Config
}

// mailTime bounds one delivery.
const mailTime = 30 * time.Second

// Check says what is wrong with the settings.
func (m Mail) Check() error {
	host, port, err := net.SplitHostPort(m.Server)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || host == "" {
		return fault.New(fault.InvalidArgument, "A mail server is a host and a port, such as mail.example.com:587.")
	}
	if len(m.To) == 0 || m.From == "" {
		return fault.New(fault.InvalidArgument, "Mail needs a sender (from) and receivers (to).")
	}
	ip := net.ParseIP(host)
	switch {
	case m.Security != "" && m.Security != "starttls" && m.Security != "tls" && m.Security != "none":
		return fault.New(fault.InvalidArgument, fmt.Sprintf("Mail's security is starttls, tls or none, not %q.", m.Security))
	case m.Security == "none" && host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return fault.New(fault.InvalidArgument, "Mail without TLS goes to a server on a loopback address alone.")
	}
	_, err = m.message(Message{})
	return err
}

// Send implements [Sink].
func (m Mail) Send(ctx context.Context, msg Message) error {
	letter, err := m.message(msg)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(m.Server)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	options := []mail.Option{mail.WithPort(number), mail.WithTimeout(mailTime)}
	config := &tls.Config{}
	if m.TLS != nil {
		config = m.TLS.Clone()
	}
	config.ServerName, config.MinVersion = host, tls.VersionTLS12
	options = append(options, mail.WithTLSConfig(config))
	switch m.Security {
	case "tls":
		options = append(options, mail.WithSSL())
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if m.Username != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.Username), mail.WithPassword(m.Password))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The mail settings do not hold.")
	}
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	if err := client.DialAndSendWithContext(ctx, letter); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The mail server did not take the message.")
	}
	return nil
}

// message writes the letter. Its id is the alert's, so that a copy can be told.
func (m Mail) message(msg Message) (*mail.Msg, error) {
	a := msg.Alert
	letter := mail.NewMsg()
	if err := letter.From(m.From); err != nil {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("%q is no mail address.", m.From))
	}
	if err := letter.To(m.To...); err != nil {
		return nil, fault.New(fault.InvalidArgument, "A receiver's mail address does not hold: "+strings.Join(m.To, ", "))
	}
	if msg.ID != "" {
		letter.SetMessageIDWithValue(msg.ID + "@kluis")
	}
	letter.SetDateWithValue(a.Told)
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	letter.Subject(oneLine(fmt.Sprintf("[kluis] %s: %s %s", a.Severity, a.Kind, a.Subject)))
	letter.SetBodyString(mail.TypeTextPlain, fmt.Sprintf("%s\n%s\n\n%s\n\n%s\n\nSeen since %s, told %d times.\nTo acknowledge: kluis posture alerts ack %s\n",
		a.Kind, a.Subject, a.Detail, a.Mend, a.First.Format(time.RFC3339), a.Times, a.ID))
	return letter, nil
}

// oneLine keeps what came from an estate or a log within its header.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}
