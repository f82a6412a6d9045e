package own

import (
	"slices"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/kluis-io/kluis/posture"
)

// The types that expressions see. What was not read, or will be known after apply,
// is unknown in each field, and so is whatever depends on it.
var (
	resourceKind = &kind{name: "Resource"}
	partKind     = &kind{name: "Part"}
	identityKind = &kind{name: "Identity"}
	keyKind      = &kind{name: "Key"}
	rotationKind = &kind{name: "Rotation"}
	vaultKind    = &kind{name: "Vault"}
	policyKind   = &kind{name: "AccessPolicy"}
	grantKind    = &kind{name: "Grant"}
	logKind      = &kind{name: "AuditLog"}
)

var (
	kinds = map[string]*kind{}
	order = []*kind{resourceKind, partKind, identityKind, keyKind, rotationKind, vaultKind, policyKind, grantKind, logKind}
)

func init() {
	for _, k := range order {
		k.typ = types.NewObjectType(k.name)
		kinds[k.name] = k
	}
	resourceKind.fields = resourceFields()
	partKind.fields = []field{
		{"name", types.StringType, "queue, table, kms, …", func(v *view) any { return v.part.Name }},
		{"state", types.StringType, "on, off, partial or not-supported", func(v *view) any { return state(v.part.CMK, "part.state") }},
	}
	identityKind.fields = []field{
		{"type", types.StringType, "SystemAssigned, UserAssigned, …", func(v *view) any { return v.orMissing(v.resource.Identity.Type, "identity.type") }},
		{"principalId", types.StringType, "of the system-assigned identity", func(v *view) any { return v.orMissing(v.resource.Identity.PrincipalID, "identity.principalId") }},
		{"userAssigned", types.NewListType(types.StringType), "ids of user-assigned identities, in lower case", func(v *view) any {
			out := []string{}
			for id := range v.resource.Identity.UserAssigned {
				out = append(out, id)
			}
			slices.Sort(out)
			return out
		}},
	}
	keyKind.fields = keyFields()
	rotationKind.fields = []field{
		{"rotates", types.BoolType, "whether a Rotate action is set", func(v *view) any { return v.read.Rotation.Rotates }},
		{"after", types.StringType, "since creation, as ISO 8601 has it, or empty", func(v *view) any { return v.read.Rotation.After }},
		{"before", types.StringType, "before expiry, or empty", func(v *view) any { return v.read.Rotation.Before }},
	}
	vaultKind.fields = vaultFields()
	policyKind.fields = []field{
		{"principal", types.StringType, "", func(v *view) any { return v.name }},
		{"keys", types.NewListType(types.StringType), "rights on keys, in lower case", func(v *view) any { return v.texts }},
	}
	grantKind.fields = []field{
		{"principal", types.StringType, "", func(v *view) any { return v.grant.Principal }},
		{"kind", types.StringType, "User, Group or ServicePrincipal, where it is told", func(v *view) any { return v.grant.Kind }},
		{"role", types.StringType, "the role's name if it is built in, otherwise its id", func(v *view) any { return v.grant.Role }},
		{"scope", types.StringType, "a resource id, in lower case", func(v *view) any { return v.grant.Scope }},
	}
	logKind.fields = []field{
		{"kept", types.BoolType, "whether a diagnostic setting keeps AuditEvent", func(v *view) any { return v.log.Kept }},
		{"days", types.IntType, "0: without end, or set where the log goes", func(v *view) any { return v.log.Days }},
	}
	for _, k := range order {
		k.byName = map[string]*field{}
		for i := range k.fields {
			k.byName[k.fields[i].name] = &k.fields[i]
		}
	}
}

func state(c posture.CMK, what string) any {
	if c.State == posture.Unknown {
		return missing(what)
	}
	return string(c.State)
}

func resourceFields() []field {
	text := func(name, doc string, get func(*posture.Judgement) string) field {
		return field{name, types.StringType, doc, func(v *view) any { return get(v.resource) }}
	}
	return []field{
		text("id", "", func(r *posture.Judgement) string { return r.ID }),
		text("type", "as 'kluis posture types' lists it", func(r *posture.Judgement) string { return r.Type }),
		text("name", "", func(r *posture.Judgement) string { return r.Name }),
		text("resourceGroup", "", func(r *posture.Judgement) string { return r.Group }),
		{"location", types.StringType, "", func(v *view) any { return v.orMissing(v.resource.Location, "resource.location") }},
		{"tags", types.NewMapType(types.StringType, types.StringType), "", func(v *view) any {
			if v.resource.Tags == nil {
				return map[string]string{}
			}
			return v.resource.Tags
		}},
		{"required", types.BoolType, "whether the policy requires a customer-managed key", func(v *view) any {
			class := v.in.Policy.Classify(v.resource.Resource)
			return class != nil && class.Requires == posture.RequireCMK
		}},
		text("rule", "the rule of the policy that reached it, or empty", func(r *posture.Judgement) string { return r.Rule }),
		text("label", "the label of that rule", func(r *posture.Judgement) string { return r.Label }),
		{"state", types.StringType, "of its customer-managed key: on, off, partial or not-supported", func(v *view) any { return state(v.resource.CMK, "resource.state") }},
		{"versionless", types.BoolType, "whether it follows the newest version of every key", func(v *view) any {
			if v.resource.CMK.State == posture.Unknown {
				return missing("resource.versionless")
			}
			return v.resource.CMK.Versionless
		}},
		text("keyIdentity", "the user-assigned identity that reads the key, or empty", func(r *posture.Judgement) string { return r.CMK.Identity }),
		{"identity", identityKind.typ, "", func(v *view) any {
			x := v.sub(identityKind)
			x.resource = v.resource
			return x
		}},
		{"keys", types.NewListType(keyKind.typ), "the keys that it is under", func(v *view) any {
			if v.resource.CMK.State == posture.Unknown {
				return missing("resource.keys")
			}
			out := []ref.Val{}
			for _, k := range v.resource.CMK.Keys {
				if k.Version == "" {
					k.Version = v.resource.CMK.InUse
				}
				out = append(out, v.keyView(k))
			}
			return out
		}},
		{"via", types.NewListType(types.StringType), "ids of what leads to the keys", func(v *view) any { return append([]string{}, v.resource.CMK.Via...) }},
		{"parts", types.NewListType(partKind.typ), "what is under the key for itself", func(v *view) any {
			out := []ref.Val{}
			for _, p := range v.resource.Parts {
				x := v.sub(partKind)
				x.part = p
				out = append(out, x)
			}
			return out
		}},
		{"properties", types.DynType, "what lies below properties, as it was read; unknown in a plan", func(v *view) any { return properties(v.in.Inventory.Object(v.resource.ID)) }},
	}
}

func keyFields() []field {
	return []field{
		{"url", types.StringType, "without its version", func(v *view) any {
			k := v.key
			k.Version = ""
			return k.URL()
		}},
		{"name", types.StringType, "", func(v *view) any { return v.key.Name }},
		{"version", types.StringType, "that is in use, where the resource tells, or empty", func(v *view) any { return v.key.Version }},
		{"enabled", types.BoolType, "of that version, otherwise of the newest, as all below", known("key.enabled", func(k *posture.KeyVersion) any {
			if known, _ := k.Known(); !known {
				return missing("key.enabled")
			}
			return k.Enabled
		})},
		{"kind", types.StringType, "RSA, RSA-HSM, oct-HSM, …", known("key.kind", func(k *posture.KeyVersion) any {
			if k.Kind == "" {
				return missing("key.kind")
			}
			return k.Kind
		})},
		{"bits", types.IntType, "", known("key.bits", func(k *posture.KeyVersion) any {
			if k.Bits == 0 {
				return missing("key.bits")
			}
			return k.Bits
		})},
		{"ops", types.NewListType(types.StringType), "permitted operations, in lower case", known("key.ops", func(k *posture.KeyVersion) any {
			if k.Ops == nil {
				return missing("key.ops")
			}
			return k.Ops
		})},
		{"created", types.TimestampType, "", known("key.created", func(k *posture.KeyVersion) any { return moment("key.created", k.Created, time.Time{}) })},
		{"notBefore", types.TimestampType, "the year 1 where it is not set", known("key.notBefore", func(k *posture.KeyVersion) any { return k.NotBefore })},
		{"expires", types.TimestampType, "the end of 9999 where it never does", known("key.expires", func(k *posture.KeyVersion) any {
			if _, known := k.Known(); !known {
				return missing("key.expires")
			}
			return moment("", k.Expires, never)
		})},
		{"deleted", types.BoolType, "", func(v *view) any {
			if v.read == nil {
				return missing("key.deleted")
			}
			return v.read.Deleted
		}},
		{"rotation", rotationKind.typ, "", func(v *view) any {
			if v.read == nil || v.read.Rotation == nil {
				return missing("key.rotation")
			}
			x := v.sub(rotationKind)
			x.read = v.read
			return x
		}},
		{"vault", vaultKind.typ, "", func(v *view) any {
			if v.vault == nil {
				return missing("key.vault")
			}
			return v.vaultView(v.vault)
		}},
		{"grants", types.NewListType(grantKind.typ), "role assignments that hold for the key", func(v *view) any {
			if v.vault == nil {
				return missing("key.grants")
			}
			return v.grants(v.vault.ID + "/keys/" + v.key.Name)
		}},
		{"users", types.IntType, "how many resources are under it", func(v *view) any { return len(v.in.Inventory.Users(v.key)) }},
		{"owner", types.StringType, "who answers for it by the policy, or empty", func(v *view) any {
			if d := v.in.Policy.Duty(v.key); d != nil {
				return d.Owner
			}
			return ""
		}},
	}
}

func vaultFields() []field {
	flag := func(name, doc string, get func(*posture.Vault) bool) field {
		return field{name, types.BoolType, doc, func(v *view) any { return get(v.vault) }}
	}
	// maybe is a flag that is known if the i-th of posture.Vault.Known is.
	maybe := func(i int, name, doc string, get func(*posture.Vault) bool) field {
		return field{name, types.BoolType, doc, func(v *view) any {
			var known [4]bool
			known[0], known[1], known[2], known[3] = v.vault.Known()
			if !known[i] {
				return missing("vault." + name)
			}
			return get(v.vault)
		}}
	}
	return []field{
		{"id", types.StringType, "", func(v *view) any { return v.vault.ID }},
		{"name", types.StringType, "", func(v *view) any { return v.vault.Name }},
		{"host", types.StringType, "", func(v *view) any { return v.vault.Host }},
		{"location", types.StringType, "", func(v *view) any { return v.vault.Location }},
		flag("hsm", "whether it is a managed HSM", func(v *posture.Vault) bool { return v.HSM }),
		flag("deleted", "", func(v *posture.Vault) bool { return v.Deleted }),
		maybe(0, "softDelete", "", func(v *posture.Vault) bool { return v.SoftDelete }),
		{"retentionDays", types.IntType, "of deleted keys", func(v *view) any {
			if v.vault.Retention == 0 {
				return missing("vault.retentionDays")
			}
			return v.vault.Retention
		}},
		maybe(1, "purgeProtection", "", func(v *posture.Vault) bool { return v.Purge }),
		maybe(2, "rbac", "whether roles decide, and not access policies", func(v *posture.Vault) bool { return v.RBAC }),
		maybe(3, "firewall", "whether it denies by default or has no public address", func(v *posture.Vault) bool { return v.Firewall }),
		{"log", logKind.typ, "its audit log", func(v *view) any {
			l := v.in.AuditLog(v.vault)
			if l == nil {
				return missing("vault.log")
			}
			x := v.sub(logKind)
			x.log = l
			return x
		}},
		{"accessPolicies", types.NewListType(policyKind.typ), "", func(v *view) any {
			out := []ref.Val{}
			v.vault.EachPolicy(func(principal string, keys []string) {
				x := v.sub(policyKind)
				x.name, x.texts = principal, keys
				out = append(out, x)
			})
			return out
		}},
		{"grants", types.NewListType(grantKind.typ), "role assignments that hold for the vault", func(v *view) any { return v.grants(v.vault.ID) }},
		{"users", types.IntType, "how many resources use a key in it", func(v *view) any { return len(v.vault.Users()) }},
		{"properties", types.DynType, "as it was read; unknown in a plan", func(v *view) any { return properties(v.object) }},
	}
}

// A Field is one field that expressions may name.
type Field struct{ Of, Name, Type, Doc string }

// Fields lists the fields of all types.
func Fields() (out []Field) {
	for _, k := range order {
		for _, f := range k.fields {
			out = append(out, Field{k.name, f.name, f.typ.String(), f.doc})
		}
	}
	return out
}
