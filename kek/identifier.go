package kek

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// A Policy says at which hosts a customer's key may lie. The zero Policy allows
// none. It is the operator's configuration, never a tenant's.
type Policy struct {
	// Suffixes are host suffixes with a leading dot and, where it is not 443, the
	// port: ".vault.azure.net", ".vault.localhost:8443". A vault's host is exactly
	// one label before one of them.
	Suffixes []string
	// Hosts are whole hosts, with the port where it is not 443: a kluis vault on its
	// bare host.
	Hosts []string
}

// AzureSuffixes returns the host suffixes of Key Vault and Managed HSM in the
// public, the China and the US Government cloud
// (https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates).
func AzureSuffixes() []string {
	return []string{
		".vault.azure.net", ".managedhsm.azure.net",
		".vault.azure.cn", ".managedhsm.azure.cn",
		".vault.usgovcloudapi.net", ".managedhsm.usgovcloudapi.net",
	}
}

// Audience returns the resource for which a token for the given vault host is to
// be asked, "https://vault.azure.net" for "contoso.vault.azure.net", and whether
// the policy allows the host at all.
func (p Policy) Audience(host string) (string, bool) {
	host = strings.ToLower(host)
	if slices.ContainsFunc(p.Hosts, func(h string) bool { return strings.ToLower(h) == host }) {
		return "https://" + host, true
	}
	for _, s := range p.Suffixes {
		s = strings.ToLower(s)
		label, ok := strings.CutSuffix(host, s)
		if ok && len(s) > 1 && s[0] == '.' && vaultLabel(label) {
			return "https://" + s[1:], true
		}
	}
	return "", false
}

var (
	labelForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	nameForm    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	versionForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// vaultLabel reports whether s may be a vault's name. Names with two hyphens in a
// row are not given out, and that keeps internationalised names ("xn--…") away.
func vaultLabel(s string) bool { return labelForm.MatchString(s) && !strings.Contains(s, "--") }

// A KeyIdentifier names a customer's key without a version:
// "https://contoso.vault.azure.net/keys/orders". Get one from
// [ParseKeyIdentifier]; the zero value names nothing.
type KeyIdentifier struct {
	given, host, name string
}

// String returns the identifier exactly as it was given.
func (id KeyIdentifier) String() string { return id.given }

// Vault returns the vault's host in lower case, with the port where it is not 443.
func (id KeyIdentifier) Vault() string { return id.host }

// Name returns the key's name as it was given. Vaults compare names without
// regard to case.
func (id KeyIdentifier) Name() string { return id.name }

// URL returns the identifier in its canonical form.
func (id KeyIdentifier) URL() string {
	if id.IsZero() {
		return ""
	}
	return "https://" + id.host + "/keys/" + id.name
}

// IsZero reports whether the identifier names nothing.
func (id KeyIdentifier) IsZero() bool { return id.host == "" }

// Equal reports whether both name the same key.
func (id KeyIdentifier) Equal(other KeyIdentifier) bool {
	return id.host == other.host && strings.EqualFold(id.name, other.name)
}

// A KID is the versioned URL of a key as its vault gives it:
// "https://contoso.vault.azure.net/keys/orders/0123456789abcdef0123456789abcdef".
// One from elsewhere than [ParseKID] or the client's answers may be malformed;
// the parts of such a KID are empty.
type KID string

// Vault returns the vault's host in lower case, with the port where it is not 443.
func (k KID) Vault() string { host, _, _ := k.split(); return host }

// Name returns the key's name.
func (k KID) Name() string { _, name, _ := k.split(); return name }

// Version returns the key version: 32 hexadecimal digits.
func (k KID) Version() string { _, _, version := k.split(); return version }

// Key returns the versionless form, the canonical URL of the key.
func (k KID) Key() string {
	host, name, _ := k.split()
	if host == "" {
		return ""
	}
	return "https://" + host + "/keys/" + name
}

func (k KID) split() (host, name, version string) {
	rest, ok := strings.CutPrefix(string(k), "https://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 || parts[1] != "keys" {
		return "", "", ""
	}
	return canonicalHost(parts[0]), parts[2], parts[3]
}

// ParseKeyIdentifier reads a versionless key identifier from a caller and checks
// it against the policy. It may end in one slash, as the examples of Fabric's REST
// specification do. Any failure is [fault.InvalidKeyID] with a mend.
func ParseKeyIdentifier(s string, p Policy) (KeyIdentifier, error) {
	host, parts, err := parse(strings.TrimSuffix(s, "/"), p)
	if err != nil {
		return KeyIdentifier{}, err
	}
	if len(parts) == 3 {
		return KeyIdentifier{}, invalid(s, "The key identifier names one version of the key.",
			"Give the versionless form, https://"+host+"/keys/"+parts[1]+", so that the key can be rotated.")
	}
	return KeyIdentifier{given: s, host: host, name: parts[1]}, nil
}

// ParseKID reads a versioned key identifier and checks it against the policy. Any
// failure is [fault.InvalidKeyID].
func ParseKID(s string, p Policy) (KID, error) {
	_, parts, err := parse(s, p)
	if err != nil {
		return "", err
	}
	if len(parts) != 3 || !versionForm.MatchString(parts[2]) || !strings.HasPrefix(s, "https://") {
		return "", invalid(s, "The key identifier names no version of the key.",
			"A version is 32 lower-case hexadecimal digits after the key's name.")
	}
	return KID(s), nil
}

const form = "A key identifier looks like https://contoso.vault.azure.net/keys/orders."

// parse checks everything that both forms share. It compares the text with its own
// reading put together again, so that no second reader of the same text (a proxy,
// an SDK, net/url in another release) can see another host than this one did.
func parse(s string, p Policy) (host string, parts []string, err error) {
	if len(s) > 512 {
		return "", nil, invalid("", "The key identifier is too long.", form)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`\%@?#[]`, c) >= 0 {
			return "", nil, invalid("", "The key identifier holds a character that no key identifier has.", form)
		}
	}
	u, err := url.Parse(s)
	if err != nil || len(s) < 8 || !strings.EqualFold(s[:8], "https://") || u.Host == "" {
		return "", nil, invalid("", "The key identifier is not an absolute https URL.", form)
	}
	if s[8:] != u.Host+u.Path {
		return "", nil, invalid("", "The key identifier is more than a host and a path.", form)
	}
	host = canonicalHost(u.Host)
	if _, ok := p.Audience(host); !ok {
		return "", nil, invalid(s, "The key identifier's host is not one at which this platform uses keys.",
			"Allowed are "+p.String()+". "+form)
	}
	parts = strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" || len(parts) == 3 && parts[2] == "" {
		return "", nil, invalid(s, "The key identifier's path is not that of a key.", form)
	}
	if !nameForm.MatchString(parts[1]) {
		return "", nil, invalid(s, "The key identifier's name is not one that a key can have.",
			"A key's name has 1 to 127 letters, digits and hyphens.")
	}
	return host, parts, nil
}

// String lists what the policy allows, for people.
func (p Policy) String() string {
	var all []string
	for _, s := range p.Suffixes {
		all = append(all, "*"+s)
	}
	all = append(all, p.Hosts...)
	if len(all) == 0 {
		return "no hosts"
	}
	return strings.Join(all, ", ")
}

func canonicalHost(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}

func invalid(subject, detail, mend string) error {
	return fault.New(fault.InvalidKeyID, detail).About(subject).WithMend(mend)
}
