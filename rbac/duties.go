package rbac

import (
	"slices"
)

// A Duty is a rule of separation: nobody holds a role of One and a role of Other
// where one of the two reaches the other's scope.
type Duty struct {
	Name  string
	One   []RoleID
	Other []RoleID
}

// Duties are a table of such rules.
type Duties []Duty

// VaultDuties keep apart, at a vault or managed HSM that asks for it, who manages keys
// or gives roles from the services that use the keys; and in a managed HSM who takes out
// its security domain from who makes backups under it.
var VaultDuties = Duties{
	{
		Name:  "manage-and-use",
		One:   []RoleID{KeyVaultAdministrator, KeyVaultCryptoOfficer},
		Other: []RoleID{KeyVaultCryptoServiceEncryption, KeyVaultCryptoUser, KeyVaultCryptoServiceRelease},
	},
	{
		Name:  "grant-and-use",
		One:   []RoleID{Owner, UserAccessAdministrator, RoleBasedAccessControlAdmin, KeyVaultDataAccessAdministrator},
		Other: []RoleID{KeyVaultCryptoServiceEncryption, KeyVaultCryptoUser, KeyVaultCryptoServiceRelease},
	},
	{
		Name:  "administer-and-use",
		One:   []RoleID{ManagedHSMAdministrator, ManagedHSMPolicyAdministrator, ManagedHSMCryptoOfficer},
		Other: []RoleID{ManagedHSMCryptoServiceEncryption, ManagedHSMCryptoUser, ManagedHSMCryptoServiceRelease},
	},
	{ // who has both can open what the HSM keeps to itself
		Name:  "security-domain-and-backup",
		One:   []RoleID{ManagedHSMAdministrator},
		Other: []RoleID{ManagedHSMBackup},
	},
}

// Conflict returns the first of the held assignments that a rule does not let the
// same principal hold beside as, with the rule. A group's members are not known
// where roles are given, so a group is a principal of its own here.
func (d Duties) Conflict(held []Assignment, as Assignment) (Assignment, Duty, bool) {
	for _, h := range held {
		if h.Tenant != as.Tenant || h.Principal != as.Principal || !h.Scope.Contains(as.Scope) && !as.Scope.Contains(h.Scope) {
			continue
		}
		for _, rule := range d {
			if rule.parts(h.Role, as.Role) || rule.parts(as.Role, h.Role) {
				return h, rule, true
			}
		}
	}
	return Assignment{}, Duty{}, false
}

func (d Duty) parts(a, b RoleID) bool { return has(d.One, a) && has(d.Other, b) }

func has(all []RoleID, id RoleID) bool {
	return slices.ContainsFunc(all, func(r RoleID) bool { return fold(string(r)) == fold(string(id)) })
}
