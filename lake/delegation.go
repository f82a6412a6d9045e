package lake

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// WorkspaceAccount is the storage account whose containers are workspaces.
const WorkspaceAccount = "onelake"

// The longest that a user delegation key holds: for a storage account
// (https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key)
// and for workspaces
// (https://learn.microsoft.com/fabric/onelake/how-to-create-a-onelake-shared-access-signature).
const (
	maxDelegation          = 7 * 24 * time.Hour
	maxWorkspaceDelegation = time.Hour
)

// A DelegationKey is the right to sign shared access signatures in a principal's
// name, for some time. It gives nothing that the principal may not do himself when
// the signature is used. Its fields travel in every signature made with it, and
// its value follows from them: nothing is stored.
type DelegationKey struct {
	Account   string
	Principal identity.PrincipalID
	Tenant    identity.TenantID
	Start     time.Time // whole seconds
	Expiry    time.Time // whole seconds
	Service   string    // "b"
	Version   string    // the service's, as the request said

	// Issuance is that of the token by which the key was asked for. It does not travel:
	// who verifies a signature takes those that would hold now, so that what voids the
	// principal's tokens voids its keys.
	Issuance identity.Issuance
}

// DelegationKey makes a key in the caller's name.
func (l *Lake) DelegationKey(ctx context.Context, caller identity.Caller, account string, start, expiry time.Time, version string) (k DelegationKey, err error) {
	k = DelegationKey{
		Account: strings.ToLower(account), Principal: caller.Principal, Tenant: caller.Tenant,
		Start: start.UTC().Truncate(time.Second), Expiry: expiry.UTC().Truncate(time.Second), Service: "b", Version: version,
		Issuance: caller.Issuance,
	}
	entry := caller.Entry(opDelegate, "/")
	if err := k.check(l.now()); err != nil {
		if rec := l.recorder.Record(context.WithoutCancel(ctx), identity.Failed(entry, err)); rec != nil {
			return k, auditFailed(rec)
		}
		return k, err
	}
	if err := l.recorder.Record(ctx, entry); err != nil {
		return k, auditFailed(err)
	}
	return k, nil
}

func (k DelegationKey) check(now time.Time) error {
	longest := maxDelegation
	if k.Account == WorkspaceAccount {
		longest = maxWorkspaceDelegation
	}
	from := k.Start
	if from.Before(now) {
		from = now
	}
	switch {
	case k.Principal == "":
		return fault.New(fault.Denied, "Only a principal with a token can have a user delegation key.")
	case !k.Expiry.After(now) || !k.Expiry.After(k.Start):
		return fault.New(fault.InvalidArgument, "A user delegation key ends after it begins, and in the future.")
	case k.Start.After(now.Add(longest)) || k.Expiry.Sub(from) > longest:
		return fault.New(fault.InvalidArgument, "A user delegation key holds for at most "+longest.String()+" here.")
	}
	return nil
}

// DelegationValue returns the key's 32 bytes, which only this platform can: who
// verifies a signature asks for them again. It fails with [fault.NotSupported] if
// the lake has no key to derive them from.
func (l *Lake) DelegationValue(k DelegationKey) ([]byte, error) {
	if l.delegation == nil {
		return nil, fault.New(fault.NotSupported, "User delegation keys are not offered here.")
	}
	mac := hmac.New(sha512.New, l.delegation[:])
	for _, field := range []string{strings.ToLower(k.Account), string(k.Principal), string(k.Tenant), k.Service, k.Version, k.Issuance.Issuer} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		mac.Write([]byte(field))
	}
	for _, t := range []time.Time{k.Start, k.Expiry} {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(t.Unix())))
	}
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(k.Issuance.Generation)))
	return mac.Sum(nil)[:32], nil
}
