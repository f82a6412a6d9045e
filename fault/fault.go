// Package fault holds the closed list of reasons for which kluis refuses or
// fails, and the error that carries one.
//
// A domain package returns a *[Error] with one [Reason]; it never mentions a
// status code. A wire adapter maps every reason to its protocol's own shape by
// one table, and never invents a reason. An error without a reason is
// [Internal] to the outside: its text goes to the log and not to the client.
//
// Two pairs are kept apart everywhere. "The vault said no" ([KEKRefused] and
// its siblings) is the kill switch; "the vault did not answer"
// ([KEKUnreachable]) is an outage. Reporting the second as the first would
// destroy availability, and the first as the second would destroy revocation.
package fault

import (
	"errors"
	"strings"
)

// A Reason says why something was refused or failed. It is itself an error, so
// errors.Is(err, fault.KeyDisabled) works on any error that wraps one.
type Reason string

// Error returns the reason's name.
func (r Reason) Error() string { return string(r) }

// RefusedByVault reports whether the reason is a customer's vault saying no: the
// kill switch, as opposed to an outage or a mistake of the caller.
func (r Reason) RefusedByVault() bool {
	switch r {
	case KEKRefused, KEKVaultGone, KEKTokenRefused:
		return true
	}
	return false
}

// Refusal reports whether the reason is that this caller may not, from here or
// at all: what an audit log calls denied, rather than failed.
func (r Reason) Refusal() bool {
	switch r {
	case Denied, Unauthenticated, TokenRevoked, AccessPolicyDenied, FirewallDenied, ConnectionDenied:
		return true
	}
	return false
}

// An Error is a failure with its reason.
type Error struct {
	Reason  Reason
	Subject string // what it is about, as an identifier that the caller sent; may be shown
	Detail  string // what is wrong, for people; may be shown
	Mend    string // what to do about it, for people; may be shown
	Err     error  // the cause; logged, never shown
}

// New returns an error with a reason and a text that may be shown to the caller.
func New(r Reason, detail string) *Error { return &Error{Reason: r, Detail: detail} }

// Wrap returns an error with a reason, a text that may be shown and a cause that
// may only be logged.
func Wrap(r Reason, err error, detail string) *Error {
	return &Error{Reason: r, Detail: detail, Err: err}
}

// About returns a copy of e that names the thing it is about.
func (e *Error) About(subject string) *Error {
	c := *e
	c.Subject = subject
	return &c
}

// WithMend returns a copy of e that says what to do about it.
func (e *Error) WithMend(mend string) *Error {
	c := *e
	c.Mend = mend
	return &c
}

// Error describes the failure for a log: it may hold what a client must not see.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Reason))
	for _, s := range []string{e.Subject, e.Detail} {
		if s != "" {
			b.WriteString(": ")
			b.WriteString(s)
		}
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As both the reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Public returns the text that may be shown to a client: the detail and the
// mend, never the cause.
func (e *Error) Public() string {
	switch {
	case e.Detail == "":
		return e.Mend
	case e.Mend == "":
		return e.Detail
	}
	return e.Detail + " " + e.Mend
}

// As returns the outermost *Error in err's tree. An error that carries none
// becomes [Internal] with err as its cause; a nil err returns nil.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var r Reason
	if errors.As(err, &r) {
		return &Error{Reason: r, Err: err}
	}
	return &Error{Reason: Internal, Err: err}
}

// ReasonOf returns the reason that err carries, [Internal] if it carries none,
// and "" if err is nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return As(err).Reason
}
