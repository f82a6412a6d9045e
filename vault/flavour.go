package vault

import (
	"strings"

	"github.com/kluis-io/kluis/rbac"
)

// A Flavour is which of Azure's two products a vault speaks as.
type Flavour string

// The flavours. A managed HSM keeps all its keys in an HSM, holds oct keys as well,
// and has roles of its own, which reach its keys and nothing else does. Names are
// unique among both together.
const (
	Standard   Flavour = "vault"
	ManagedHSM Flavour = "managedhsm"
)

// ResourceType returns the flavour's type in Resource Manager.
func (f Flavour) ResourceType() string {
	if f == ManagedHSM {
		return "Microsoft.KeyVault/managedHSMs"
	}
	return "Microsoft.KeyVault/vaults"
}

var hsmActions = strings.NewReplacer("Microsoft.KeyVault/vaults/", "Microsoft.KeyVault/managedHSMs/", "deletedVaults/", "deletedManagedHsms/")

// action returns the flavour's own of a management action on vaults.
func (f Flavour) action(a rbac.Action) rbac.Action {
	if f == ManagedHSM {
		return rbac.Action(hsmActions.Replace(string(a)))
	}
	return a
}

// localAction returns what a managed HSM's roles call a data action on keys
// (learn.microsoft.com/azure/key-vault/managed-hsm/built-in-roles).
func localAction(a rbac.Action) rbac.Action {
	const prefix = "Microsoft.KeyVault/managedHsm/"
	switch a {
	case actionKeyRead:
		return prefix + "keys/read/action"
	case actionKeyUpdate, actionRotationRead, actionRotationWrite:
		return prefix + "keys/write/action"
	case actionKeyCreate:
		return prefix + "keys/create"
	case actionKeyDelete:
		return prefix + "keys/delete"
	case actionKeyRecover:
		return prefix + "keys/deletedKeys/recover/action"
	case actionKeyPurge:
		return prefix + "keys/deletedKeys/delete"
	}
	return rbac.Action(strings.Replace(string(a), "Microsoft.KeyVault/vaults/", prefix, 1))
}
