package identity

import (
	"context"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A ManagedIdentity hands out tokens to programs on the same host without a
// secret of their principal: they prove by a header, which the host's
// administrator gives them, that they are the host's.
type ManagedIdentity struct {
	issuer  *Issuer
	tenant  TenantID
	header  [32]byte // SHA-256
	clients []string
}

// NewManagedIdentity returns the managed identities of a host. They are the
// principals of the client ids, the first of them by default, and no others.
// header is a random secret of at least 32 characters.
func NewManagedIdentity(issuer *Issuer, tenant TenantID, header string, clients ...string) (*ManagedIdentity, error) {
	if len(header) < 32 || len(clients) == 0 {
		return nil, fault.New(fault.InvalidArgument, "Managed identities need a header of at least 32 characters, and a client.")
	}
	return &ManagedIdentity{issuer: issuer, tenant: tenant, header: hashSecret(header), clients: clients}, nil
}

// Token gives a token of the client, or of the default one if client is empty,
// for the resource. It fails with [fault.Unauthenticated] if the header is wrong.
func (m *ManagedIdentity) Token(ctx context.Context, from Caller, header, client, resource string) (Token, error) {
	if client == "" {
		client = m.clients[0]
	}
	r := TokenRequest{Tenant: m.tenant, Client: client, Scope: resource + "/.default", From: from}
	return m.issuer.issue(ctx, r, "identity/tokens/issuemanaged", func(Principal, []StoredSecret, time.Time) error {
		hash := hashSecret(header)
		switch {
		case subtle.ConstantTimeCompare(hash[:], m.header[:]) != 1:
			return fault.New(fault.Unauthenticated, "The X-IDENTITY-HEADER is missing or wrong.")
		case !slices.Contains(m.clients, client):
			return fault.New(fault.InvalidClient, "The client is not a managed identity of this host.")
		}
		return nil
	})
}
