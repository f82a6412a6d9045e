package kek

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// An Op is what was asked of a vault.
type Op string

const (
	OpGet     Op = "get"
	OpWrap    Op = "wrapKey"
	OpUnwrap  Op = "unwrapKey"
	OpChanges Op = "changes"
)

// A Party is who answered, or should have.
type Party string

const (
	Vault     Party = "vault"     // the vault
	Directory Party = "directory" // the token endpoint of the tenant's directory
	anyone    Party = ""
)

// Why an answer decides nothing, where the table tells no more by its status.
var (
	// ErrForeignTenant says that the vault's challenge names another directory than
	// the scope's: the key lies in somebody else's vault. No token was asked for.
	ErrForeignTenant = errors.New("kek: the vault belongs to another directory")
	// ErrForeignAudience says that the vault's challenge asks for a token for
	// something other than that vault. No token was asked for.
	ErrForeignAudience = errors.New("kek: the vault asks for a token for another resource")
	// ErrMalformed says that the answer is not what the protocol has, or too large.
	ErrMalformed = errors.New("kek: malformed answer")
	// ErrWrongKID says that the answer is about another key or version than was asked.
	ErrWrongKID = errors.New("kek: answer about another key version")
	// ErrWrongLength says that a result is not as long as the one asked for must be.
	ErrWrongLength = errors.New("kek: result of the wrong length")
)

// An Answer is what came back from a vault or a directory, as far as it matters.
// Every error of [Client] but those about its arguments wraps one; see [AnswerOf].
type Answer struct {
	From       Party
	Op         Op
	Status     int           // HTTP status; 0 if there was no answer
	Code       string        // the body's innermost code: "KeyDisabled", "AADSTS700016", "invalid_client"
	Fresh      bool          // whether the vault was shown a token issued for this call
	RetryAfter time.Duration // what the answer asks for; 0 if it does not
	Alert      bool          // not what an honest vault says: somebody should look
	Err        error         // what went wrong short of an answer, or with one; logged, never shown
}

// Error describes the answer for a log. No text of the other side's is in it: a
// hostile vault writes what it likes.
func (a *Answer) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kek: %s: ", a.Op)
	if a.Status == 0 {
		fmt.Fprintf(&b, "no answer from the %s", a.From)
	} else {
		fmt.Fprintf(&b, "the %s answered %d %s", a.From, a.Status, a.Code)
	}
	if a.Err != nil {
		b.WriteString(": ")
		b.WriteString(a.Err.Error())
	}
	return b.String()
}

// Unwrap returns what went wrong, if it was not the answer itself.
func (a *Answer) Unwrap() error { return a.Err }

// AnswerOf returns the answer that err carries, or nil.
func AnswerOf(err error) *Answer {
	var a *Answer
	if errors.As(err, &a) {
		return a
	}
	return nil
}

// Alert reports whether err is about an answer that no honest vault gives and that
// somebody should look at.
func Alert(err error) bool {
	a := AnswerOf(err)
	return a != nil && a.Alert
}

// A rule is one row of the table of answers (design, "Key leases"): which answers
// it fits, and what they mean. A field left out fits any answer.
type rule struct {
	from   Party
	status func(int) bool
	codes  []string // fits only answers with one of these
	stale  bool     // fits only answers given without sight of a fresh token
	err    error    // fits only answers with this error in them

	reason  fault.Reason
	because error // the closer reason, for errors.Is
	alert   bool
	detail  string
	mend    string
}

// table says what each answer means; the first rule that fits counts. The last
// rule fits everything: an answer that nobody foresaw is no answer, and an alert.
//
// The refusals come from Microsoft's lists
// (https://learn.microsoft.com/azure/key-vault/general/rest-error-codes and
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
var table = []rule{
	// Answers that are not to be believed, whatever their status.
	{err: ErrForeignTenant, reason: fault.KEKUnreachable, alert: true,
		detail: "The vault belongs to another directory than the scope.",
		mend:   "Use a key of a vault in the scope's own directory."},
	{err: ErrForeignAudience, reason: fault.KEKUnreachable, alert: true,
		detail: "The vault asks for a token that is not for a vault, and got none."},
	{err: ErrWrongKID, reason: fault.KEKIntegrity, alert: true,
		detail: "The vault answered about another key version than it was asked for."},
	{err: ErrWrongLength, reason: fault.KEKIntegrity, alert: true,
		detail: "The vault's result is not as long as it must be."},
	{err: ErrMalformed, reason: fault.KEKUnreachable, alert: true,
		detail: "The vault's answer could not be read."},

	// No answer.
	{err: ErrAddress, reason: fault.KEKUnreachable, alert: true, detail: notAnswering, mend: mendNotAnswering},
	{from: Vault, status: busy, reason: fault.KEKUnreachable, detail: notAnswering, mend: mendNotAnswering},
	{from: Directory, status: busy, reason: fault.KEKUnreachable, detail: directoryNotAnswering, mend: mendNotAnswering},
	{from: Directory, codes: []string{"temporarily_unavailable", "server_error"},
		reason: fault.KEKUnreachable, detail: directoryNotAnswering, mend: mendNotAnswering},

	// The vault says no.
	{from: Vault, status: is(403), codes: []string{"KeyDisabled"}, reason: fault.KEKRefused, because: fault.KeyDisabled,
		detail: "The key version is disabled.", mend: "Enable {version} of the key."},
	{from: Vault, status: is(403), codes: []string{"KeyNotYetValid"}, reason: fault.KEKRefused, because: fault.KeyNotYetValid,
		detail: "The key version is not valid yet.", mend: "Change its activation date."},
	{from: Vault, status: is(403), codes: []string{"KeyExpired"}, reason: fault.KEKRefused, because: fault.KeyExpired,
		detail: "The key version has expired.", mend: "Rotate the key or change its expiry date."},
	{from: Vault, status: is(403), codes: []string{"KeyOperationForbidden"}, reason: fault.KEKRefused,
		because: fault.KeyOperationForbidden,
		detail:  "The key version does not permit the operation {op}.", mend: "Add {op} to its permitted operations."},
	{from: Vault, status: is(403), codes: []string{"ForbiddenByFirewall", "ForbiddenByConnection"}, reason: fault.KEKRefused,
		because: fault.Denied,
		detail:  "The vault's network rules refuse the platform.",
		mend:    "Let the platform's address through the vault's firewall or give it a private endpoint."},
	{from: Vault, status: is(403), reason: fault.KEKRefused, because: fault.Denied,
		detail: "The platform's principal may not {op} with the key.",
		mend:   `Give it the role "Key Vault Crypto Service Encryption User" on the key, or get, wrapKey and unwrapKey in the vault's access policy.`},
	{from: Vault, status: is(404), codes: []string{"VaultNotFound"}, reason: fault.KEKVaultGone, because: fault.VaultNotFound,
		detail: "The vault does not exist.", mend: "Recover the vault if it was deleted."},
	{from: Vault, status: is(404), reason: fault.KEKRefused, because: fault.KeyNotFound,
		detail: "The key or the version does not exist, or it is deleted.", mend: "Recover the key if it was deleted."},
	{from: Vault, status: is(401), stale: true, reason: fault.KEKUnreachable, alert: true,
		detail: "The vault's challenge could not be answered."},
	{from: Vault, status: is(401), reason: fault.KEKTokenRefused, because: fault.Unauthenticated,
		detail: "The vault does not accept a fresh token of the platform's principal.",
		mend:   "See that the vault trusts the directory and that the principal is enabled there."},

	// The directory says no. A code is the description's AADSTS number where one
	// of these is in it, and otherwise OAuth's (RFC 6749, 5.2).
	{from: Directory, status: refusal, codes: []string{"AADSTS90002", "AADSTS900021", "AADSTS900023", "invalid_tenant"},
		reason: fault.KEKTokenRefused, because: fault.TenantNotFound,
		detail: "The scope's directory does not exist or is disabled.", mend: "Restore the directory."},
	{from: Directory, status: refusal, codes: []string{"AADSTS700016", "AADSTS7000229", "AADSTS7000112", "AADSTS7000113", "unauthorized_client"},
		reason: fault.KEKTokenRefused, because: fault.PrincipalNotFound,
		detail: "The scope's directory does not know the platform's principal, or has disabled it.",
		mend:   "Create or enable the platform's principal in the directory."},
	{from: Directory, status: refusal, codes: []string{"AADSTS7000215", "AADSTS7000222", "invalid_client"},
		reason: fault.KEKTokenRefused, because: fault.InvalidClient,
		detail: "The scope's directory does not accept the platform's principal or its credential.",
		mend:   "Enable the principal; if its credential expired, the platform's operator must renew it."},

	// Anything else.
	{reason: fault.KEKUnreachable, alert: true, detail: "The vault or its directory gave an answer that decides nothing."},
}

// One text for every cause, so that a key identifier is no probe of our network.
const (
	notAnswering          = "The vault did not answer."
	directoryNotAnswering = "The scope's directory did not answer."
	mendNotAnswering      = "Nothing is lost; the platform keeps asking."
)

func is(status int) func(int) bool { return func(s int) bool { return s == status } }

// busy are no answer at all, and the statuses with which a healthy service says
// "not now".
func busy(status int) bool {
	return status == 0 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500 && status <= 599
}

// refusal are the statuses that OAuth has for its errors, and those that tenants'
// discovery documents have.
func refusal(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

func (r rule) fits(a *Answer) bool {
	return (r.from == anyone || r.from == a.From) &&
		(r.status == nil || r.status(a.Status)) &&
		(r.codes == nil || slices.Contains(r.codes, a.Code)) &&
		(!r.stale || !a.Fresh) &&
		(r.err == nil || errors.Is(a.Err, r.err))
}

// Fault returns what the answer means, about the given key identifier: an error
// with [fault.KEKRefused], [fault.KEKVaultGone], [fault.KEKTokenRefused],
// [fault.KEKUnreachable] or [fault.KEKIntegrity] that carries the answer and, for
// a refusal, the closer reason, so that errors.Is finds [fault.KeyDisabled].
func (a Answer) Fault(subject string) *fault.Error {
	for _, r := range table {
		if !r.fits(&a) {
			continue
		}
		a.Alert = r.alert
		cause := error(&a)
		if r.because != nil {
			cause = errors.Join(r.because, &a)
		}
		version := "this version"
		if v := KID(subject).Version(); v != "" {
			version = "version " + v
		}
		text := strings.NewReplacer("{op}", string(a.Op), "{version}", version)
		// The platform's own side may know why it could not even ask: then nobody has
		// refused anything, and its words say what mends it.
		var own *fault.Error
		if a.From == Directory && errors.As(a.Err, &own) && own.Mend != "" {
			return fault.Wrap(r.reason, cause, own.Detail).About(subject).WithMend(own.Mend)
		}
		return fault.Wrap(r.reason, cause, text.Replace(r.detail)).About(subject).WithMend(text.Replace(r.mend))
	}
	panic("kek: the table's last rule fits everything")
}
