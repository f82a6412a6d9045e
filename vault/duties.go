package vault

import (
	"fmt"
	"slices"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
)

// checkDuties refuses a role that the principal may not hold beside another it has,
// if a vault that both reach keeps such duties apart. At other vaults it only
// notes the rule in the audit entry.
func (v *Vaults) checkDuties(tx Tx, a *act, as rbac.Assignment) error {
	held, err := tx.RoleAssignmentsAt(as.Scope, true)
	if err != nil {
		return err
	}
	other, rule, found := v.duties.Conflict(held, as)
	if !found {
		return nil
	}
	a.note("duties", rule.Name)
	all, err := tx.Vaults(as.Tenant)
	if err != nil {
		return err
	}
	for _, vault := range all {
		if vault.SeparateDuties && reaches(as, vault) && slices.ContainsFunc(held, func(h rbac.Assignment) bool {
			_, _, conflict := v.duties.Conflict([]rbac.Assignment{h}, as)
			return conflict && reaches(h, vault)
		}) {
			return v.dutiesConflict(vault, rule, as, other)
		}
	}
	return nil
}

// reaches reports whether an assignment gives rights at the vault or in it.
func reaches(as rbac.Assignment, vault Vault) bool {
	return as.Scope.Contains(vault.Scope()) || vault.Scope().Contains(as.Scope)
}

func (v *Vaults) dutiesConflict(vault Vault, rule rbac.Duty, one, other rbac.Assignment) error {
	return fault.New(fault.DutiesConflict, fmt.Sprintf(
		"Vault %s keeps duties apart (%s): principal %s would hold both %s at %s and %s at %s.",
		vault.Name, rule.Name, one.Principal, v.roleName(one.Role), one.Scope, v.roleName(other.Role), other.Scope)).
		WithMend("Give one of the two roles to another principal.")
}

func (v *Vaults) roleName(id rbac.RoleID) string {
	d, ok := v.roles.Lookup(id)
	if !ok {
		d, _ = rbac.HSMRoles.Lookup(id)
	}
	return d.Name
}

// managePermissions and usePermissions are the two duties of the access policy
// model.
var (
	managePermissions = []string{"create", "import", "update", "delete", "recover", "purge", "backup", "restore", "rotate", "setrotationpolicy"}
	usePermissions    = []string{"decrypt", "encrypt", "wrapKey", "unwrapKey", "sign", "release"}
)

// keepsDuties checks a whole vault that keeps duties apart: the roles that reach
// it, and its access policies.
func (v *Vaults) keepsDuties(tx Tx, vault Vault) error {
	held, err := tx.RoleAssignmentsAt(vault.Scope(), true)
	if err != nil {
		return err
	}
	for i, as := range held {
		if other, rule, found := v.duties.Conflict(held[:i], as); found && as.Tenant == vault.Tenant {
			return v.dutiesConflict(vault, rule, as, other)
		}
	}
	of := map[string][]string{}
	for _, p := range vault.AccessPolicies {
		of[p.Object] = append(of[p.Object], p.Keys...)
	}
	for object, keys := range of {
		in := func(k string) bool { return slices.Contains(keys, k) }
		if slices.ContainsFunc(managePermissions, in) && slices.ContainsFunc(usePermissions, in) {
			return fault.New(fault.DutiesConflict, fmt.Sprintf(
				"Vault %s keeps duties apart (manage-and-use): the access policies of %s let it both manage keys and use them.", vault.Name, object)).
				WithMend("Give one of the two to another principal.")
		}
	}
	return nil
}
