package storagewire

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// Keys says whom a message speaks for that is signed with a storage account's key by
// HMAC-SHA-256. [account.Accounts] does.
type Keys interface {
	Verify(ctx context.Context, account, message string, mac []byte) (identity.Caller, error)
}

// Delegations gives the values of user delegation keys. [lake.Lake] does.
type Delegations interface {
	DelegationValue(lake.DelegationKey) ([]byte, error)
}

// Issuances says from where a principal's tokens may be now. [identity.Verifier] does.
type Issuances interface {
	Issuances(ctx context.Context, tenant identity.TenantID, p identity.PrincipalID) ([]identity.Issuance, error)
}

// Policies gives the stored access policies of a storage account's container.
// [lake.Lake] does.
type Policies interface {
	AccessPolicies(ctx context.Context, caller identity.Caller, p lake.Path, c lake.Conditions) (lake.ContainerProperties, []lake.AccessPolicy, error)
}

// authenticationFailed is Azure's answer to a signature that does not hold, with what
// is wrong about it. It does not say what would have been right.
func authenticationFailed(detail string) error {
	return Coded(fault.Denied, "AuthenticationFailed",
		"Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature. "+detail)
}

// Caller authenticates a request: by a bearer token, by an account's key, or by a
// shared access signature. A signature is checked for what it permits as well, since
// it names operations of this protocol; what it cannot do, its holder cannot.
func (c Config) Caller(r *http.Request, q Query, tokens api.Tokens) (caller identity.Caller, err error) {
	auth := r.Header.Get("Authorization")
	scheme, credential, _ := strings.Cut(auth, " ")
	lite := strings.EqualFold(scheme, "SharedKeyLite")
	switch {
	case lite, strings.EqualFold(scheme, "SharedKey"):
		caller, err = c.sharedKey(r, credential, lite)
	case auth == "" && q["sig"] != "":
		caller, err = c.signature(r, q)
	case auth == "":
		return identity.Caller{}, Coded(fault.Unauthenticated, "NoAuthenticationInformation",
			"Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	default:
		return api.Authenticate(r, tokens, append([]string{Resource, Resource + "/"}, c.Audiences...)...)
	}
	return api.Describe(r, caller), err
}

// maxClockSkew is by how much the date of a signed request may be off (Azure's).
const maxClockSkew = 15 * time.Minute

// sharedKey authenticates a request that is signed with an account's key
// (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key).
func (c Config) sharedKey(r *http.Request, credential string, lite bool) (identity.Caller, error) {
	if c.Keys == nil || c.Storage() == "" {
		return identity.Caller{}, authenticationFailed("Account keys are not accepted here: use a bearer token.")
	}
	name, text, _ := strings.Cut(credential, ":")
	mac, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(mac) != 32 || !strings.EqualFold(name, c.Storage()) {
		return identity.Caller{}, authenticationFailed("The Authorization header is not one of this account's.")
	}
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if off := time.Since(at); err != nil || off > maxClockSkew || off < -maxClockSkew {
		return identity.Caller{}, authenticationFailed("The request's date is missing or more than 15 minutes off.")
	}
	var caller identity.Caller
	err = fault.New(fault.Unauthenticated, "") // what there is no message for is signed by nobody
	for _, message := range stringsToSign(r, c.Storage(), lite) {
		if caller, err = c.Keys.Verify(r.Context(), c.Storage(), message, mac); fault.ReasonOf(err) != fault.Unauthenticated {
			break
		}
	}
	return caller, notSigned(err)
}

// notSigned gives what a key's owner says of a signature the code that clients know.
func notSigned(err error) error {
	switch fault.ReasonOf(err) {
	case fault.Unauthenticated:
		return authenticationFailed("The signature does not match.")
	case fault.Denied:
		e := Coded(fault.Denied, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.")
		e.Err.Err = err
		return e
	}
	return err
}
