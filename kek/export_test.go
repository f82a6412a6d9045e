package kek

import (
	"net/http"
	"net/netip"
	"time"
)

// ValidAfter is [Lease.Valid] in terms of what each clock says has passed: package
// time cannot set a wall clock apart from the monotonic one.
func (l Lease) ValidAfter(mono, wall time.Duration) bool { return l.valid(mono, wall) }

// Dialable is the check of addresses.
func Dialable(a netip.Addr, inside bool) bool { return dialable(a, inside) }

// A Row is a rule of the table of answers as the tests see it.
type Row struct {
	From  Party
	Codes []string
	Err   error
}

// Table returns the rules.
func Table() []Row {
	var rows []Row
	for _, r := range table {
		rows = append(rows, Row{r.from, r.codes, r.err})
	}
	return rows
}

// Via has the client's requests answered by rt, behind everything that it does to
// replies.
func (c *Client) Via(rt http.RoundTripper) { c.http.Transport = rt }
