package identity

import (
	"maps"
	"net/netip"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// A TenantID is the id of a customer's directory, a lower-case UUID.
type TenantID string

// A PrincipalID is the object id of a principal in its directory, a lower-case
// UUID.
type PrincipalID string

// A PrincipalType is what a principal is, in Azure's words.
type PrincipalType string

// The principal types.
const (
	User             PrincipalType = "User"
	Group            PrincipalType = "Group"
	ServicePrincipal PrincipalType = "ServicePrincipal"
)

// A Caller is who asks for an act: the result of validating a token, and the
// one argument by which every domain method authorises and audits.
type Caller struct {
	Tenant      TenantID
	Principal   PrincipalID
	Groups      []PrincipalID // the principal's groups, as the token tells them
	Application string        // client id of the application
	Type        PrincipalType
	Expires     time.Time // when the token ends
	Issuance    Issuance  // of the token

	// Account is the resource id of the storage account with whose key the request is
	// signed, "" for callers by token. Then there is no Principal.
	Account string

	Request     string     // our id of the request
	Correlation string     // the client's own id of the request, if it sent one
	Address     netip.Addr // the client's

	// Certificate is the name in the certificate by which the client's connection has
	// proved itself to an authority of the operator's, "" if by none.
	Certificate string

	// Context holds further ids that the request's protocol carries, such as an EKM
	// proxy's pool. They are recorded, and decide nothing.
	Context map[string]string
}

// An Issuance says where a token is from: by what it was made it may be void later.
type Issuance struct {
	Issuer     string // iss
	Generation int64  // of the principal when it was made; 0 if nobody counts them
}

// Subjects returns the ids under which the caller may hold role assignments: its
// own and its groups'.
func (c Caller) Subjects() []PrincipalID {
	return append([]PrincipalID{c.Principal}, c.Groups...)
}

// Entry starts the audit entry of an act by this caller.
func (c Caller) Entry(operation, resource string) audit.Entry {
	e := audit.Entry{
		Operation:   operation,
		Outcome:     audit.Allowed,
		Tenant:      string(c.Tenant),
		Principal:   string(c.Principal),
		Application: c.Application,
		Resource:    resource,
		Request:     c.Request,
		Correlation: c.Correlation,
	}
	if len(c.Context) > 0 {
		e.Detail = maps.Clone(c.Context) // the act's own notes go into the copy
	}
	if c.Address.IsValid() {
		e.Address = c.Address.String()
	}
	return e
}

// Failed turns the entry into that of an act that did not happen, for err's
// reason: denied if that is a [fault.Reason.Refusal] of the caller, failed
// otherwise.
func Failed(e audit.Entry, err error) audit.Entry {
	e.Reason = fault.ReasonOf(err)
	e.Outcome = audit.Failed
	if e.Reason.Refusal() {
		e.Outcome = audit.Denied
	}
	return e
}
