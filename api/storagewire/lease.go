package storagewire

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// ParseLease reads an action on a lease, in either dialect.
func ParseLease(h http.Header) (r lake.LeaseRequest, err error) {
	r.Action = lake.LeaseAction(strings.ToLower(h.Get("x-ms-lease-action")))
	switch r.Action {
	case lake.AcquireLease, lake.RenewLease, lake.ChangeLease, lake.ReleaseLease, lake.BreakLease:
	case "":
		return r, missingHeader("x-ms-lease-action")
	default:
		return r, invalidHeader("x-ms-lease-action")
	}
	if r.Conditions, err = ParseConditions(h, ""); err != nil {
		return r, err
	}
	r.Conditions.Lease = ""
	for _, id := range []struct {
		name string
		into *string
	}{{"x-ms-lease-id", &r.ID}, {"x-ms-proposed-lease-id", &r.Proposed}} {
		*id.into = h.Get(id.name)
		if *id.into != "" && !isUUID(*id.into) {
			return r, invalidHeader(id.name)
		}
	}
	switch {
	case r.ID == "" && r.Action != lake.AcquireLease && r.Action != lake.BreakLease:
		return r, missingHeader("x-ms-lease-id")
	case r.Proposed == "" && r.Action == lake.ChangeLease:
		return r, missingHeader("x-ms-proposed-lease-id")
	}
	if r.Action == lake.AcquireLease {
		const name = "x-ms-lease-duration"
		v := h.Get(name)
		if v == "" {
			return r, missingHeader(name)
		}
		if v != "-1" {
			n, err := parsePosition(v)
			if err != nil || n < 15 || n > 60 {
				return r, invalidHeader(name)
			}
			r.Length = time.Duration(n) * time.Second
		}
	}
	if v := h.Get("x-ms-lease-break-period"); v != "" && r.Action == lake.BreakLease {
		n, err := parsePosition(v)
		if err != nil || n > 60 {
			return r, invalidHeader("x-ms-lease-break-period")
		}
		period := time.Duration(n) * time.Second
		r.Break = &period
	}
	return r, nil
}

// isUUID reports whether a lease id is one, in the form with dashes.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}

func missingHeader(name string) error {
	return Coded(fault.InvalidArgument, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.").about(name)
}

// AnswerLease answers an action on a lease.
func AnswerLease(w http.ResponseWriter, action lake.LeaseAction, p lake.Properties) {
	h := w.Header()
	SetVersion(h, p)
	h.Set("Content-Length", "0")
	status := http.StatusOK
	switch action {
	case lake.AcquireLease:
		status = http.StatusCreated
		h.Set("x-ms-lease-id", p.Lease.ID)
	case lake.RenewLease, lake.ChangeLease:
		h.Set("x-ms-lease-id", p.Lease.ID)
	case lake.BreakLease:
		status = http.StatusAccepted
		h.Set("x-ms-lease-time", strconv.FormatInt(int64((p.Lease.Remaining()+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(status)
}

// LeaseStatus returns what listings and properties say of a lease: its status, its
// state and, if it holds, its duration.
func LeaseStatus(l lake.Lease) (status, state, duration string) {
	status, state = "unlocked", string(l.State())
	if l.Holds() {
		status = "locked"
	}
	if l.State() == lake.LeaseLeased {
		duration = "fixed"
		if l.Length == 0 {
			duration = "infinite"
		}
	}
	return status, state, duration
}
