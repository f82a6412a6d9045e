package dfs

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// lease answers Path - Lease.
func (s *server) lease(c *call) error {
	if err := emptyBody(c.r); err != nil {
		return err
	}
	r, err := storagewire.ParseLease(c.r.Header)
	if err != nil {
		return err
	}
	p, err := s.lake.Lease(c.r.Context(), c.caller, c.path, r)
	if err != nil {
		return err
	}
	storagewire.AnswerLease(c.w, r.Action, p)
	return nil
}

// The actions on a lease that an append or a flush can carry.
const (
	acquires       = "acquire"
	autoRenews     = "auto-renew"
	releases       = "release"
	acquireRelease = "acquire-release"
)

// leased does what an append's or flush's x-ms-lease-action asks for beforehand,
// and returns the lease under which the request goes on.
func (s *server) leased(c *call) (string, error) {
	h := c.r.Header
	id := h.Get("x-ms-lease-id")
	action := strings.ToLower(h.Get("x-ms-lease-action"))
	var as lake.LeaseAction
	switch action {
	case "", releases:
		return id, nil
	case acquires, acquireRelease:
		as = lake.AcquireLease
	case autoRenews:
		as = lake.RenewLease
	default:
		return "", storagewire.Coded(fault.InvalidArgument, "InvalidHeaderValue", "The value of x-ms-lease-action is none that an append or flush has.")
	}
	read := http.Header{}
	read.Set("x-ms-lease-action", string(as))
	read.Set("x-ms-lease-id", id)
	for _, name := range []string{"x-ms-proposed-lease-id", "x-ms-lease-duration"} {
		read.Set(name, h.Get(name))
	}
	r, err := storagewire.ParseLease(read)
	if err != nil {
		return "", err
	}
	p, err := s.lake.Lease(c.r.Context(), c.caller, c.path, r)
	if err != nil {
		return "", err
	}
	if as == lake.RenewLease {
		c.w.Header().Set("x-ms-lease-renewed", "true")
	}
	return p.Lease.ID, nil
}

// release does what is asked for afterwards.
func (s *server) release(c *call, id string) error {
	switch strings.ToLower(c.r.Header.Get("x-ms-lease-action")) {
	case releases, acquireRelease:
		_, err := s.lake.Lease(c.r.Context(), c.caller, c.path, lake.LeaseRequest{Action: lake.ReleaseLease, ID: id})
		return err
	}
	return nil
}
