package account

import (
	"maps"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
)

// A KeySource says whose keys protect an account, in Azure's words.
type KeySource string

// The key sources.
const (
	PlatformKeys KeySource = "Microsoft.Storage"
	CustomerKeys KeySource = "Microsoft.Keyvault"
)

// A VaultKey names a customer's key.
type VaultKey struct {
	Vault   string // URI
	Name    string
	Version string // must be ""
}

// identifier returns the versionless key identifier.
func (k VaultKey) identifier() (string, error) {
	switch {
	case k.Name == "":
		return "", fault.New(fault.InvalidArgument, "encryption.keyvaultproperties.keyname is missing.").
			WithMend("Name the key and its vault: a key source of Microsoft.Keyvault alone would leave the account half configured.")
	case k.Vault == "":
		return "", fault.New(fault.InvalidArgument, "encryption.keyvaultproperties.keyvaulturi is missing.").
			WithMend("Name the key's vault by its URI.")
	case k.Version != "":
		return "", fault.New(fault.InvalidArgument, "encryption.keyvaultproperties.keyversion pins a version of the key, which is not supported: kluis follows the versions.").
			WithMend("Leave keyversion out, or make it empty.")
	}
	return strings.TrimRight(k.Vault, "/") + "/keys/" + k.Name, nil
}

// A Spec is what a client says of an account. What is nil is not said.
type Spec struct {
	Location  *string
	SKU       *string
	Kind      *string
	Tags      *map[string]string
	Identity  *ManagedIdentity
	SharedKey *bool

	KeySource   *KeySource
	Key         *VaultKey // counts if the key source is, or stays, CustomerKeys
	KeyIdentity *string   // resource id of a user-assigned identity
}

// apply puts what the client says into a row.
func (s Spec) apply(row *Row) error {
	if s.Location != nil {
		l := location(*s.Location)
		if row.Location != "" && l != row.Location {
			return fault.New(fault.Conflict, "The storage account exists in another location, and cannot be moved.")
		}
		row.Location = l
	}
	if row.Location == "" {
		return fault.New(fault.InvalidArgument, "A storage account needs a location.")
	}
	if s.SKU != nil {
		if !slices.Contains(skus, *s.SKU) {
			return fault.New(fault.InvalidArgument, "There is no such SKU.").About(*s.SKU).WithMend("Use one of " + strings.Join(skus, ", ") + ".")
		}
		row.SKU = *s.SKU
	}
	if s.Kind != nil {
		if *s.Kind != defaultKind && *s.Kind != "BlockBlobStorage" {
			return fault.New(fault.NotSupported, "Storage accounts of this kind are not supported.").WithMend("Use the kind StorageV2.")
		}
		row.Kind = *s.Kind
	}
	if s.Tags != nil {
		if err := checkTags(*s.Tags); err != nil {
			return err
		}
		row.Tags = maps.Clone(*s.Tags)
	}
	if s.SharedKey != nil {
		row.SharedKey = *s.SharedKey
	}
	if s.Identity != nil {
		if err := s.Identity.check(); err != nil {
			return err
		}
		row.Identity = *s.Identity
	}
	if s.KeyIdentity != nil {
		row.KeyIdentity = *s.KeyIdentity
	}
	if row.KeyIdentity != "" && !slices.ContainsFunc(row.Identity.UserAssigned, func(id string) bool { return strings.EqualFold(id, row.KeyIdentity) }) {
		return fault.New(fault.InvalidArgument, "encryption.identity names a user-assigned identity that the account does not have.").
			WithMend("Assign it to the account as well.")
	}
	row.SKU, row.Kind = or(row.SKU, skus[0]), or(row.Kind, defaultKind)
	return nil
}

// fit completes and checks what an account under a customer's key needs besides: an
// identity that asks the vault. One that has none gets the system-assigned one; with
// user-assigned ones only, the encryption names which.
func (s Spec) fit(row *Row, now Encryption) error {
	identifier, asked, err := s.wanted(now)
	if err != nil {
		return err
	}
	if asked && identifier == "" || !asked && now.Mode != encryption.CustomerManaged {
		return nil
	}
	switch {
	case row.Identity.Type == NoIdentity && s.Identity != nil:
		return fault.New(fault.InvalidArgument, "identity.type is None, and the account is under a customer's key: nobody could ask the vault.").
			WithMend("Assign an identity, or set encryption.keySource to Microsoft.Storage first.")
	case row.Identity.Type == NoIdentity:
		row.Identity.Type = SystemAssigned
	case row.Identity.Type == UserAssigned && row.KeyIdentity == "":
		return fault.New(fault.InvalidArgument, "The account has user-assigned identities only, and encryption.identity names none of them.").
			WithMend("Name the one that may use the key: --key-vault-user-identity-id.")
	}
	return nil
}

const defaultKind = "StorageV2"

var skus = []string{
	"Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Standard_GZRS", "Standard_RAGZRS", "Premium_LRS", "Premium_ZRS",
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (m ManagedIdentity) check() error {
	users := m.Type == UserAssigned || m.Type == BothAssigned
	switch {
	case m.Type != NoIdentity && m.Type != SystemAssigned && !users:
		return fault.New(fault.InvalidArgument, "identity.type must be None, SystemAssigned, UserAssigned or both.")
	case users && len(m.UserAssigned) == 0:
		return fault.New(fault.InvalidArgument, "An identity of type UserAssigned needs at least one user-assigned identity.")
	case !users && len(m.UserAssigned) > 0:
		return fault.New(fault.InvalidArgument, "User-assigned identities are given, and the identity's type is another.")
	case len(m.UserAssigned) > 20:
		return fault.New(fault.InvalidArgument, "An account has at most 20 user-assigned identities.")
	}
	for _, id := range m.UserAssigned {
		if _, err := rbac.ParseScope(id); err != nil {
			return err
		}
	}
	return nil
}

// Azure's limits of tags.
func checkTags(tags map[string]string) error {
	if len(tags) > 50 {
		return fault.New(fault.InvalidArgument, "A resource has at most 50 tags.")
	}
	for k, v := range tags {
		if k == "" || len(k) > 512 || len(v) > 256 {
			return fault.New(fault.InvalidArgument, "A tag's name has 1 to 512 characters and its value at most 256.")
		}
	}
	return nil
}

// location returns the canonical form of a region's name: "West Europe" is
// "westeurope".
func location(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

// wanted is the key that an account is to be under: an identifier, "" for the
// platform's, and whether anything is asked for at all.
func (s Spec) wanted(now Encryption) (identifier string, asked bool, err error) {
	source := PlatformKeys
	if now.Mode == encryption.CustomerManaged {
		source = CustomerKeys
	}
	switch {
	case s.KeySource != nil && *s.KeySource != PlatformKeys && *s.KeySource != CustomerKeys:
		return "", false, fault.New(fault.InvalidArgument, "encryption.keySource must be Microsoft.Storage or Microsoft.Keyvault.")
	case s.KeySource != nil:
		source = *s.KeySource
	case s.Key == nil:
		return "", false, nil
	}
	if source == PlatformKeys { // whatever key is named beside it: clients send the old one back
		return "", true, nil
	}
	if s.Key == nil {
		return "", false, fault.New(fault.InvalidArgument, "encryption.keySource is Microsoft.Keyvault, and keyvaultproperties is missing.").
			WithMend("Name the key and its vault: --encryption-key-vault and --encryption-key-name.")
	}
	identifier, err = s.Key.identifier()
	return identifier, true, err
}
