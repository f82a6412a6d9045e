package lake

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// An AccessPolicy is one that a storage account's container keeps for shared access
// signatures: what a signature that names it leaves unsaid. Whoever takes the policy
// away takes those signatures back. See
// https://learn.microsoft.com/rest/api/storageservices/define-stored-access-policy.
type AccessPolicy struct {
	ID          string    // 1 to 64 characters
	Start       time.Time // zero: not said
	Expiry      time.Time // zero: not said; so is Start
	Permissions string    // letters, as a signature has them
}

// The most policies of a container, and characters of an id.
const (
	maxAccessPolicies = 5
	maxPolicyID       = 64
)

func checkPolicies(policies []AccessPolicy) error {
	if len(policies) > maxAccessPolicies {
		return fault.New(fault.InvalidArgument, "A container has at most five stored access policies.")
	}
	seen := map[string]bool{}
	for _, p := range policies {
		switch {
		case p.ID == "" || utf8.RuneCountInString(p.ID) > maxPolicyID || !utf8.ValidString(p.ID):
			return fault.New(fault.InvalidArgument, "The id of a stored access policy has 1 to 64 characters.")
		case seen[p.ID]:
			return fault.New(fault.InvalidArgument, "Two stored access policies have the same id.")
		case len(p.Permissions) > 32:
			return fault.New(fault.InvalidArgument, "The permissions of a stored access policy are letters, each once.")
		}
		seen[p.ID] = true
	}
	return nil
}

// AccessPolicies returns the policies of a storage account's container.
func (l *Lake) AccessPolicies(ctx context.Context, caller identity.Caller, p Path, c Conditions) (props ContainerProperties, policies []AccessPolicy, err error) {
	err = l.onNames(ctx, caller, opContainer, rbac.ContainerACLRead, true, p.Account, func(s *session) error {
		err := s.view(ctx, func(tx Tx) error {
			_, m, err := s.findContainer(tx, p.Container)
			if err != nil {
				return err
			}
			props, policies = s.containerProperties(p.Container, m), m.policies
			return m.lease.allowsRead(c.Lease)
		})
		if err != nil {
			return err
		}
		return s.recordRead(ctx, "", 0)
	})
	return props, policies, err
}

// SetAccessPolicies replaces the policies of a storage account's container. It needs
// the right to change access control.
func (l *Lake) SetAccessPolicies(ctx context.Context, caller identity.Caller, p Path, policies []AccessPolicy, c Conditions) (ContainerProperties, error) {
	return l.changeContainer(ctx, caller, opUpdate, rbac.ContainerACLWrite, true, p, c, func(m *manifest) error {
		m.policies = policies
		return checkPolicies(policies)
	})
}

// LeaseContainer acts on the lease of a storage account's container, under which it
// cannot be deleted.
func (l *Lake) LeaseContainer(ctx context.Context, caller identity.Caller, p Path, r LeaseRequest) (props ContainerProperties, err error) {
	err = l.onNames(ctx, caller, opLease, rbac.ContainersWrite, true, p.Account, func(s *session) error {
		if err := r.check(); err != nil {
			return err
		}
		return s.update(ctx, func(tx Tx) error {
			e, m, err := s.findContainer(tx, p.Container)
			if err != nil {
				return err
			}
			if err := r.Conditions.forWrite(&m.attributes); err != nil {
				return err
			}
			n, err := s.leaseNode(tx, e.ID, r)
			if err != nil {
				return err
			}
			m.lease = n.Lease
			props = s.containerProperties(p.Container, m)
			return s.record(tx, e.ID, 0)
		})
	})
	return props, err
}

// The fields of a stored policy.
const (
	policyID          = 1
	policyStart       = 2
	policyExpiry      = 3
	policyPermissions = 4
)

func (p AccessPolicy) encode() []byte {
	var f fields
	f.text(policyID, p.ID)
	if !p.Start.IsZero() {
		f.number(policyStart, uint64(p.Start.UnixMicro()))
	}
	if !p.Expiry.IsZero() {
		f.number(policyExpiry, uint64(p.Expiry.UnixMicro()))
	}
	f.text(policyPermissions, p.Permissions)
	return f
}

func decodePolicy(b []byte) (p AccessPolicy, ok bool) {
	err := fields(b).each(func(tag byte, v []byte) bool {
		var n uint64
		switch tag {
		case policyID:
			p.ID = string(v)
		case policyPermissions:
			p.Permissions = string(v)
		case policyStart, policyExpiry:
			if !number(v, &n) {
				return false
			}
			if t := time.UnixMicro(int64(n)).UTC(); tag == policyStart {
				p.Start = t
			} else {
				p.Expiry = t
			}
		default:
			return false
		}
		return true
	})
	return p, err == nil
}
