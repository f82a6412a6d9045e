package encryption

import (
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
)

// What a thief tries who has rows and a root, without the rest of the package.

// ScopeKeyOf opens a platform-managed generation's scope key.
func ScopeKeyOf(root Root, tenant identity.TenantID, g Generation) (*envelope.Key, error) {
	sh, err := openGeneration(root, tenant, g)
	if err != nil {
		return nil, err
	}
	key, _ := envelope.DeriveScopeKey(sh.customer, sh.platform, scopeKeyContext(root.Instance(), tenant, g.Scope, g.Number))
	return key, nil
}

// OpenGeneration opens what the root sealed, and nothing else.
func OpenGeneration(root Root, tenant identity.TenantID, g Generation) error {
	_, err := openGeneration(root, tenant, g)
	return err
}

var (
	OpenItemKey = openItemKey
	OpenLink    = openLink
)
