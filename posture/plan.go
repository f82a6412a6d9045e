package posture

import (
	"cmp"
	"encoding/json"
	"strings"
)

// A Step is one thing to do, in its order.
type Step struct {
	Do      string `json:"do"`
	Command string `json:"command,omitempty"`
	Expect  string `json:"expect,omitempty"` // what its answer shows if it has worked
}

// A Plan says how to mend a finding and how to go back. It writes commands and runs
// none.
type Plan struct {
	Finding    string `json:"finding"`
	Control    string `json:"control"`
	Resource   string `json:"resource"`
	Remediable string `json:"remediable"`
	Condition  string `json:"condition,omitempty"`
	Reversible bool   `json:"reversible"`
	Confidence string `json:"confidence"` // of the commands: "measured" or "believed"
	Mend       []Step `json:"mend"`
	Backout    []Step `json:"backout,omitempty"`
}

// Placeholders stand in a plan for what the caller did not name.
const (
	placeKey = "https://VAULT.vault.azure.net/keys/KEY"
	placeSet = "DISK_ENCRYPTION_SET_ID"
)

// PlanFor makes the plan of a finding of this scan. key is the key that a resource
// is to be put under; without one, capitals stand in its place.
func PlanFor(f Finding, key KeyRef) Plan {
	p := Plan{
		Finding: f.ID, Control: f.Control, Resource: f.Resource, Remediable: f.Remediable,
		Condition: f.Condition, Reversible: f.Reversible, Confidence: "believed",
	}
	switch o := f.object.(type) {
	case *Resource:
		planResource(&p, f, o, key)
	case *Vault:
		planVault(&p, f, o)
	case *Key:
		planKey(&p, f, o)
	}
	if len(p.Mend) == 0 {
		p.Mend = []Step{{Do: f.Mend}}
	}
	return p
}

func planResource(p *Plan, f Finding, r *Resource, key KeyRef) {
	rule := r.rule
	for i, part := range r.parts {
		if strings.HasSuffix(f.Resource, "#"+r.Parts[i].Name) {
			rule = part
		}
	}
	if rule.Confidence == "measured" {
		p.Confidence = "measured" // a policy definition vouches for paths, and for no command
	}
	switch {
	case f.Remediable != "in-place" && strings.HasPrefix(f.Control, cmkPrefix):
		p.Mend = []Step{
			{Do: "Keep what the resource is now.", Command: showCommand(r) + " > before.json"},
			{Do: "Make its successor under the key, move the data, and check it.", Expect: "the successor is reported as compliant by the next scan"},
			{Do: "Delete the old resource when nothing uses it any more."},
		}
		p.Backout = []Step{{Do: "Keep the old resource until the move is checked: there is no other way back."}}
	case strings.HasPrefix(f.Control, cmkPrefix):
		planKeyOn(p, r, rule, key)
	case f.Control == "COST":
		p.Mend = []Step{{Do: "Keep what the resource is now.", Command: showCommand(r) + " > before.json"}, backStep(r, rule)}
		p.Backout = []Step{onStep(r, rule, first(r.CMK.Keys, key))}
	case f.Control == "G10":
		now := first(r.CMK.Keys, key)
		free := now
		free.Version = ""
		p.Mend = []Step{{Do: "Keep what the resource is now.", Command: showCommand(r) + " > before.json"}, onStep(r, rule, free)}
		if rule.Type == "Microsoft.Storage/storageAccounts" {
			p.Mend[1].Command += ` --encryption-key-version ""`
		}
		p.Backout = []Step{onStep(r, rule, now)}
	case f.Control == "G13":
		p.Mend = []Step{identityStep(r)}
	case f.Control == "G14":
		p.Mend = []Step{grantStep(r, first(r.CMK.Keys, key)), {Do: "Take the other grants away, when a new unwrap has succeeded without them.", Command: "az role assignment list --all --assignee " + principalOf(r) + " -o table"}}
	}
}

func first(keys []KeyRef, key KeyRef) KeyRef {
	if !key.IsZero() || len(keys) == 0 {
		return key
	}
	return keys[0]
}

// planKeyOn puts a resource under a key: the benchmark's implementation and backout
// plans, in the order and with the arguments that work.
func planKeyOn(p *Plan, r *Resource, rule *Rule, key KeyRef) {
	p.Mend = append(p.Mend, Step{Do: "Keep what the resource is now.", Command: showCommand(r) + " > before.json", Expect: "before.json holds the resource as it was"})
	if rule.Family == KeySource || rule.Family == KeyPresent || rule.Family == StatusFlag || rule.Family == ChildSetting {
		if r.Type != "Microsoft.Fabric/workspaces" {
			p.Mend = append(p.Mend, identityStep(r), grantStep(r, key),
				Step{Do: "Check that the vault keeps deleted keys and cannot be purged.", Command: "az keyvault show --name " + vaultName(key) + " --query properties.enablePurgeProtection", Expect: "true"})
		}
	}
	set := onStep(r, rule, key)
	p.Mend = append(p.Mend, set)
	if rule.AzShow != "" {
		p.Mend = append(p.Mend, Step{Do: "Look at the result.", Command: showCommand(r), Expect: "the key is named, without a version"})
	}
	if rule.Back == "no" {
		p.Backout = []Step{{Do: "There is no way back to the platform's key in place. Restore the data to a new resource."}}
		return
	}
	p.Backout = []Step{
		backStep(r, rule),
		{Do: "Look at the result.", Command: showCommand(r), Expect: "as in before.json"},
		{Do: "Keep the key enabled and granted until the service has rewrapped everything; take the grant away last."},
	}
}

// onStep sets the key.
func onStep(r *Resource, rule *Rule, key KeyRef) Step {
	s := Step{Do: "Put it under the key, without a version so that it follows rotations."}
	if key.Version != "" {
		s.Do = "Put it under this version of the key."
	}
	switch {
	case rule.Type == "Microsoft.Storage/storageAccounts":
		s.Command = "az storage account update --name " + quote(r.Name) + " --resource-group " + quote(r.Group) +
			" --encryption-key-source Microsoft.Keyvault --encryption-key-vault https://" + cmp.Or(key.Vault, "VAULT.vault.azure.net") + " --encryption-key-name " + quote(cmp.Or(key.Name, "KEY"))
		if key.Version != "" {
			s.Command += " --encryption-key-version " + quote(key.Version)
		}
	case rule.AzFix != "":
		s.Command = fill(rule.AzFix, r, key)
	case rule.Family == Linked || rule.Family == AppSettings:
		s.Do = "Put the storage account that it writes to under the key."
	case rule.Family == Indirect && rule.slots[0].at != nil:
		s.Do = "Put each of its disks under a disk encryption set that uses the key."
		s.Command = "az disk update --ids DISK_ID --encryption-type EncryptionAtRestWithCustomerKey --disk-encryption-set " + placeSet
	default:
		body := rule.Compose(Setting{On: true, Key: cmp.Or(key.URL(), placeKey), Identity: r.CMK.Identity})
		s.Command = patch(r, rule, body)
	}
	return s
}

func backStep(r *Resource, rule *Rule) Step {
	s := Step{Do: "Go back to the platform's key."}
	switch {
	case rule.Type == "Microsoft.Storage/storageAccounts":
		s.Command = "az storage account update --name " + quote(r.Name) + " --resource-group " + quote(r.Group) + " --encryption-key-source Microsoft.Storage"
	case rule.AzBack != "":
		s.Command = fill(rule.AzBack, r, KeyRef{})
	case rule.Family == KeySource || rule.Family == StatusFlag:
		s.Command = patch(r, rule, rule.Compose(Setting{}))
	default:
		s.Do = "Go back to what before.json says of its encryption."
	}
	return s
}

func patch(r *Resource, rule *Rule, body map[string]any) string {
	text, err := json.Marshal(body)
	if err != nil {
		return ""
	}
	return "az rest --method patch --url " + quote(r.ID+"?api-version="+rule.APIVersion) + " --body " + quote(string(text))
}

func showCommand(r *Resource) string {
	if r.rule.AzShow != "" && r.Type == "Microsoft.Storage/storageAccounts" {
		return "az storage account show --name " + quote(r.Name) + " --resource-group " + quote(r.Group) + " --query encryption"
	}
	if r.Type == "Microsoft.Fabric/workspaces" {
		return "az rest --resource https://api.fabric.microsoft.com --url " + quote("https://api.fabric.microsoft.com/v1/workspaces/"+r.ID+"/encryption")
	}
	return "az rest --method get --url " + quote(r.ID+"?api-version="+r.rule.APIVersion)
}

func identityStep(r *Resource) Step {
	s := Step{Do: "Give it a managed identity, if it has none."}
	if r.Type == "Microsoft.Storage/storageAccounts" {
		s.Command = "az storage account update --name " + quote(r.Name) + " --resource-group " + quote(r.Group) + " --assign-identity"
	} else {
		s.Command = "az rest --method patch --url " + quote(r.ID+"?api-version="+r.rule.APIVersion) + ` --body '{"identity":{"type":"SystemAssigned"}}'`
	}
	s.Expect = "identity.principalId is set"
	return s
}

func principalOf(r *Resource) string {
	if p := r.Identity.principals(r.CMK); len(p) > 0 {
		return p[0]
	}
	return "PRINCIPAL_ID"
}

func grantStep(r *Resource, key KeyRef) Step {
	return Step{
		Do: "Let that identity get, wrap and unwrap with the key, and no more: by a role, or in a vault with access policies by 'az keyvault set-policy --name " +
			vaultName(key) + " --object-id " + principalOf(r) + " --key-permissions get wrapKey unwrapKey'.",
		Command: `az role assignment create --role "Key Vault Crypto Service Encryption User" --assignee-object-id ` + principalOf(r) +
			` --assignee-principal-type ServicePrincipal --scope "$(az keyvault show --name ` + vaultName(key) + ` --query id -o tsv)/keys/` + cmp.Or(key.Name, "KEY") + `"`,
		Expect: "wait some minutes: grants take effect late",
	}
}

func vaultName(key KeyRef) string {
	name, _, _ := strings.Cut(key.Vault, ".")
	return cmp.Or(name, "VAULT")
}

// fill puts names in place of the capitals of a command of the table.
func fill(command string, r *Resource, key KeyRef) string {
	kid := cmp.Or(key.URL(), placeKey)
	names := map[string]string{
		"N": quote(r.Name), "S": quote(r.Name), "G": quote(r.Group), "KID": quote(kid), "URL": quote(kid), "KEYURI": quote(kid),
		"URI": quote("https://" + cmp.Or(key.Vault, "VAULT.vault.azure.net")), "K": quote(cmp.Or(key.Name, "KEY")), "KEY": quote(cmp.Or(key.Name, "KEY")),
		"DES": placeSet, "ID": quote(r.ID),
	}
	words := strings.Fields(command)
	named := false
	for i, w := range words {
		if v, ok := names[w]; ok {
			words[i] = v
			named = named || w == "N" || w == "S" || w == "ID"
		}
	}
	if !named && strings.HasPrefix(command, "az ") {
		words = append(words, "--ids", quote(r.ID))
	}
	return strings.Join(words, " ")
}

// quote quotes s for a POSIX shell, where it needs that.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func planVault(p *Plan, f Finding, v *Vault) {
	name, kind := quote(v.Name), "--name "
	if v.HSM {
		kind = "--hsm-name "
	}
	show := Step{Do: "Keep what the vault is now.", Command: "az keyvault show " + kind + name + " > before.json"}
	update := "az keyvault update " + kind + name
	step := func(do, command, expect string) { p.Mend = append(p.Mend, Step{do, command, expect}) }
	if f.Control == "G2" || f.Control == "G15" {
		p.Confidence = "measured"
	}
	switch f.Control {
	case "G1":
		p.Mend = []Step{show}
		step("Enable soft delete.", update+" --enable-soft-delete true", "properties.enableSoftDelete is true")
	case "G2":
		p.Mend = []Step{show}
		step("Enable purge protection. It can never be disabled again.", update+" --enable-purge-protection true", "properties.enablePurgeProtection is true")
	case "G3":
		p.Mend = []Step{show}
		for _, a := range v.Policies {
			step("Give a role to who has a policy now; choose the least that it needs.",
				`az role assignment create --role "Key Vault Crypto Service Encryption User" --assignee-object-id `+quote(a.principal)+" --assignee-principal-type ServicePrincipal --scope "+quote(v.ID), "")
		}
		step("Let roles decide.", update+" --enable-rbac-authorization true", "properties.enableRbacAuthorization is true")
		p.Backout = []Step{{Do: "Let access policies decide again.", Command: update + " --enable-rbac-authorization false"}}
	case "G4":
		p.Mend = []Step{show}
		step("Deny by default, and let trusted services pass.", update+" --default-action Deny --bypass AzureServices", "properties.networkAcls.defaultAction is Deny")
		p.Backout = []Step{{Do: "Open it again.", Command: update + " --default-action Allow"}}
	case "G15":
		step("Keep the audit log.", "az monitor diagnostic-settings create --name audit --resource "+quote(v.ID)+` --logs '[{"category":"AuditEvent","enabled":true}]' --storage-account LOG_ACCOUNT_ID`, "the setting is listed")
		p.Backout = []Step{{Do: "Remove the setting.", Command: "az monitor diagnostic-settings delete --name audit --resource " + quote(v.ID)}}
	case "G16", "G17":
		_, principal, _ := strings.Cut(f.Resource, "#")
		step("Look at what it has.", "az role assignment list --all --assignee "+quote(principal)+" -o json > before.json", "")
		step("Take one of the two away.", "az role assignment delete --ids ASSIGNMENT_ID", "")
		p.Backout = []Step{{Do: "Assign again what before.json has."}}
	case "G19":
		step("Recover it now.", "az keyvault recover "+kind+name, "the vault is listed again")
	}
}

func planKey(p *Plan, f Finding, k *Key) {
	at := "--vault-name " + vaultName(k.Ref) + " -n " + quote(k.Ref.Name)
	const policy = `'{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P180D"},"action":{"type":"Rotate"}},{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],"attributes":{"expiryTime":"P1Y"}}'`
	rotation := []Step{
		{Do: "Keep the policy as it is now.", Command: "az keyvault key rotation-policy show " + at + " > before.json"},
		{Do: "Rotate each half year, and expire after a year.", Command: "echo " + policy + " > policy.json && az keyvault key rotation-policy update " + at + " --value policy.json", Expect: "a Rotate action is shown"},
	}
	rotate := Step{Do: "Make a new version.", Command: "az keyvault key rotate " + at, Expect: "a new kid is shown; keep the old version enabled until nothing uses it"}
	switch f.Control {
	case "G5", "G6", "G8", "EXPIRED":
		p.Mend = append(rotation, rotate)
	case "G7":
		p.Mend = rotation
		p.Backout = []Step{{Do: "Set the old policy.", Command: "az keyvault key rotation-policy update " + at + " --value before.json"}}
	case "G11":
		p.Mend = []Step{{Do: "See why it cannot be used.", Command: "az keyvault key show " + at}, {Do: "Enable it, if nobody disabled it on purpose.", Command: "az keyvault key set-attributes " + at + " --enabled true", Expect: "attributes.enabled is true"}}
		p.Backout = []Step{{Do: "Disable it: all data under it is then out of reach.", Command: "az keyvault key set-attributes " + at + " --enabled false"}}
	case "G19":
		p.Mend = []Step{{Do: "Recover it now.", Command: "az keyvault key recover " + at, Expect: "the key is listed again"}}
	}
}
