package storagewire

import (
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// ParseAccess reads what a request says of owner, group, permissions and access
// control list; nil if nothing.
func ParseAccess(h http.Header) (*lake.AccessChange, error) {
	c := lake.AccessChange{Owner: h.Get("x-ms-owner"), Group: h.Get("x-ms-group")}
	for _, m := range []struct {
		name string
		into **lake.Mode
	}{{"x-ms-permissions", &c.Mode}, {"x-ms-umask", &c.Umask}} {
		v := h.Get(m.name)
		if v == "" {
			continue
		}
		mode, err := lake.ParseMode(v)
		if err != nil {
			return nil, Coded(fault.InvalidArgument, "InvalidHeaderValue", fault.As(err).Detail).about(m.name)
		}
		*m.into = &mode
	}
	if v := h.Get("x-ms-acl"); v != "" {
		var err error
		if c.ACL, err = lake.ParseACL(v, false); err != nil {
			return nil, err
		}
	}
	if c.Owner == "" && c.Group == "" && c.Mode == nil && c.ACL == nil {
		return nil, nil
	}
	return &c, nil
}

// SetAccess says who owns a file or folder and what they may: what is kept of it in a
// storage account and, of everybody's in a workspace, what OneLake says.
func (c Config) SetAccess(h http.Header, a lake.Access) {
	owner, group, permissions := a.Owner, a.Group, a.Mode.String()
	if c.Storage() == "" {
		owner, group, permissions = Superuser, Superuser, Permissions
	}
	h.Set("x-ms-owner", owner)
	h.Set("x-ms-group", group)
	h.Set("x-ms-permissions", permissions)
	if c.Storage() != "" && a.ACL != nil {
		h.Set("x-ms-acl", a.ACL.String())
	}
}

// ParseTier reads an access tier; "" if none is given.
func ParseTier(h http.Header) (lake.Tier, error) {
	v := h.Get("x-ms-access-tier")
	for _, t := range []lake.Tier{"", lake.Hot, lake.Cool, lake.Cold, lake.Archive} {
		if strings.EqualFold(v, string(t)) {
			return t, nil
		}
	}
	return "", invalidHeader("x-ms-access-tier")
}

// SetTier says in which access tier a file of a storage account is: hot, unless it was
// said.
func SetTier(h http.Header, p lake.Properties) {
	if p.Kind != lake.File {
		return
	}
	if p.Tier == "" {
		h.Set("x-ms-access-tier", string(lake.Hot))
		h.Set("x-ms-access-tier-inferred", "true")
		return
	}
	h.Set("x-ms-access-tier", string(p.Tier))
	h.Set("x-ms-access-tier-change-time", p.Tiered.UTC().Format(http.TimeFormat))
}

// ParseMadeLease reads the lease under which a request makes something; nil if there is
// to be none.
func ParseMadeLease(h http.Header) (*lake.LeaseRequest, error) {
	if h.Get("x-ms-proposed-lease-id") == "" {
		return nil, nil
	}
	as := http.Header{}
	as.Set("x-ms-lease-action", string(lake.AcquireLease))
	as.Set("x-ms-proposed-lease-id", h.Get("x-ms-proposed-lease-id"))
	as.Set("x-ms-lease-duration", h.Get("x-ms-lease-duration"))
	if as.Get("x-ms-lease-duration") == "" {
		as.Set("x-ms-lease-duration", "-1")
	}
	r, err := ParseLease(as)
	return &r, err
}
