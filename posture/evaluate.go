package posture

import (
	"strings"
)

// evaluate says what d tells by itself about its key. What lies elsewhere, a set of
// disks or a child, is found by [Inventory.Link].
func (r *Rule) evaluate(d document) CMK {
	if r.applies.state(d) == Off && (Field(d.body, "sku") != nil || Field(d.body, "kind") != nil) {
		return CMK{State: NotSupported, Why: "this kind or tier has no customer-managed keys"}
	}
	c := CMK{State: r.on.state(d)}
	known := true
	for _, spec := range r.keys {
		known = spec.read(d, &c) && known
	}
	c.Identity, _ = d.text(r.identity)
	c.Versionless = r.versionless(d, c.Keys)
	switch {
	case !known:
		c.State, c.Why = Unknown, "the key is known after apply"
	case c.State == Unknown:
		c.Why = "known after apply"
	case c.State == "":
		c.State = onIf(len(c.Keys) > 0)
	case c.State == On && len(r.keys) > 0 && len(c.Keys) == 0:
		c.State, c.Why = Partial, "it asks for a customer-managed key and names none"
	case c.State == Off:
		c.Keys, c.Identity, c.Versionless, c.InUse = nil, "", false, "" // leftovers of an earlier setting
	}
	return c
}

// Look says what a body, in Resource Manager's shape, tells of its key.
func (r *Rule) Look(body map[string]any) CMK { return r.evaluate(document{body: body}) }

// IdentityIn returns the identity that a body names to ask the vault, "" if it names
// none.
func (r *Rule) IdentityIn(body map[string]any) string {
	id, _ := document{body: body}.text(r.identity)
	return id
}

func (r *Rule) versionless(d document, keys []KeyRef) bool {
	if r.Rotation == "always" {
		return true
	}
	if r.auto != nil {
		if v, _ := d.text([]path{r.auto}); strings.EqualFold(v, "true") {
			return true
		}
	}
	for _, k := range keys {
		if k.Version != "" {
			return false
		}
	}
	return len(keys) > 0
}

// read adds to c the keys that spec finds, and reports whether they are known.
func (spec keySpec) read(d document, c *CMK) bool {
	for _, v := range d.all(spec.at) {
		if v == UnknownValue {
			return false
		}
		if spec.uri == nil {
			if k := ParseKeyRef(scalar(v)); !k.IsZero() {
				c.Keys = append(c.Keys, k)
			}
			continue
		}
		obj, ok := v.(map[string]any)
		if !ok {
			// One URL in place of the three fields: what a plan has.
			if k := ParseKeyRef(scalar(v)); !k.IsZero() {
				c.Keys = append(c.Keys, k)
			}
			continue
		}
		part := document{body: obj}
		uri, known1 := part.text([]path{spec.uri})
		name, known2 := part.text([]path{spec.name})
		version, _ := part.text([]path{spec.version})
		if !known1 || !known2 {
			return false
		}
		if k := splitKey(uri, name, version); !k.IsZero() {
			c.Keys = append(c.Keys, k)
		}
		c.InUse = ParseKeyRef(part.str("currentVersionedKeyIdentifier")).Version
	}
	if spec.uri == nil && len(spec.at) > 1 {
		parent := spec.at[:len(spec.at)-1]
		for _, name := range []string{"versionedKeyIdentifier", "currentVersionedKeyIdentifier"} {
			if v, _ := d.text([]path{append(parent[:len(parent):len(parent)], name)}); v != "" {
				c.InUse = ParseKeyRef(v).Version
			}
		}
	}
	return true
}

// splitKey makes a reference of a vault's URI or resource id, a key's name and its
// version.
func splitKey(vault, name, version string) KeyRef {
	if vault == "" || name == "" {
		return KeyRef{}
	}
	if strings.HasPrefix(vault, "/") {
		return KeyRef{Vault: strings.ToLower(vault), Name: name, Version: version}
	}
	k := ParseKeyRef(strings.TrimSuffix(vault, "/") + "/keys/" + name)
	k.Version = version
	return k
}

// links returns what decides in d's place.
func (r *Rule) linksOf(d document, id string) []link {
	switch {
	case r.Family == Indirect:
		var out []link
		for _, s := range r.slots {
			out = append(out, s.links(d)...)
		}
		return out
	case r.Family == Linked:
		kind := linkAccount
		if strings.HasPrefix(r.Via, "alerts:") {
			kind = linkAlerts
		}
		target, known := d.text([]path{r.link})
		return []link{{kind: kind, target: strings.ToLower(target), known: known}}
	case r.child == "parent":
		return []link{{kind: linkParent, target: parentID(strings.ToLower(id)), known: true}}
	}
	return nil
}

func (s slot) links(d document) (out []link) {
	if s.at == nil {
		set, known := d.text([]path{s.set})
		return []link{{kind: linkSet, target: strings.ToLower(set), known: known}}
	}
	for _, v := range d.objects(s.at) {
		if v == UnknownValue {
			out = append(out, link{kind: linkSet})
			continue
		}
		obj, ok := v.(map[string]any)
		if !ok {
			continue
		}
		part := document{body: obj}
		set, known := part.text([]path{s.set})
		l := link{kind: linkSet, target: strings.ToLower(set), known: known}
		if s.disk != nil {
			if disk, _ := part.text([]path{s.disk}); disk != "" {
				l = link{kind: linkDisk, target: strings.ToLower(disk), or: l.target, known: true}
			}
		}
		out = append(out, l)
	}
	return out
}

// parentID returns the id of the resource that the one with this id lies in.
func parentID(id string) string {
	for range 2 {
		i := strings.LastIndexByte(id, '/')
		if i < 0 {
			return ""
		}
		id = id[:i]
	}
	return id
}

// A Setting is what a body made by [Rule.Compose] says.
type Setting struct {
	On       bool
	Key      any    // a key's URL; for a disk encryption set or a linked account, its resource id, or a []any of one for each disk; or UnknownValue
	Identity string // the user-assigned identity
	Blank    bool   // where a key's version has a field of its own, and Key has none, that says so
}

// Compose makes the part of a resource's body, in Resource Manager's shape, that
// puts it under a key or says that it is under none: what a plan sends, and what
// other dialects are brought to. A setting that is not On leaves fields out that
// only a key needs.
func (r *Rule) Compose(s Setting) map[string]any {
	body := map[string]any{}
	if r.child != "" && r.child != "parent" {
		child := map[string]any{}
		r.compose(child, s)
		if !s.On {
			child = map[string]any{"properties": map[string]any{"serverKeyType": "ServiceManaged"}}
		}
		child["type"], child["name"] = r.child, "current"
		body["resources"] = []any{child}
		return body
	}
	r.compose(body, s)
	return body
}

func (r *Rule) compose(body map[string]any, s Setting) {
	if r.Family == AppSettings {
		settings := []any{}
		if s.On {
			settings = append(settings, map[string]any{"name": "AzureWebJobsStorage__accountName", "value": s.Key})
		}
		parsePath("properties.siteConfig.appSettings").put(body, settings)
		return
	}
	for _, part := range r.on {
		for _, c := range part.conditions {
			switch {
			case s.On && c.wants != nil:
				c.paths[0].put(body, jsonValue(c.wants[0]))
			case s.On && c.wants == nil:
				c.paths[0].put(body, true)
			case c.wants != nil:
				c.paths[0].put(body, platformValue(c.wants[0]))
			}
		}
	}
	if disks, ok := s.Key.([]any); ok && r.slots != nil {
		slots := make([]any, len(disks))
		for i, set := range disks {
			slot := map[string]any{}
			r.slots[0].set.put(slot, set)
			slots[i] = slot
		}
		r.slots[0].at.put(body, slots)
		return
	}
	for _, sl := range r.slots {
		slot := map[string]any{}
		if s.On {
			sl.set.put(slot, s.Key)
		}
		if sl.at == nil {
			if s.On {
				sl.set.put(body, s.Key)
			}
			continue
		}
		if sl.at.below(r.slots[0].at) {
			continue // it would lie in the slot that was made first
		}
		sl.at.put(body, []any{slot})
	}
	if r.link != nil && s.On {
		r.link.put(body, s.Key)
	}
	if !s.On {
		return
	}
	for _, k := range r.keys {
		k.put(body, s.Key, s.Blank)
	}
	if s.Identity != "" && r.identity != nil {
		r.identity[0].put(body, s.Identity)
	}
}

func (spec keySpec) put(body map[string]any, key any, blank bool) {
	url, known := key.(string)
	if spec.uri == nil || !known {
		spec.at.put(body, key)
		return
	}
	k := ParseKeyRef(url)
	obj := map[string]any{}
	spec.uri.put(obj, "https://"+k.Vault)
	spec.name.put(obj, k.Name)
	if k.Version != "" || blank {
		spec.version.put(obj, k.Version)
	}
	for name, v := range obj {
		append(spec.at[:len(spec.at):len(spec.at)], name).put(body, v)
	}
}

// jsonValue gives a wanted text its JSON type.
func jsonValue(s string) any {
	if s == "true" {
		return true
	}
	return s
}

// platformValue is a value that says "the platform's key" in place of want.
func platformValue(want string) any {
	switch strings.ToLower(want) {
	case "true":
		return false
	case "microsoft.keyvault":
		return "Microsoft.Storage"
	case "account":
		return "Service"
	case "encryptionatrestwithcustomermanagedkey", "encryptionatrestwithcustomerkey":
		return "EncryptionAtRestWithPlatformKey"
	case "jobstorageaccount":
		return "SystemAccount"
	case "azurekeyvault":
		return "SystemManaged"
	case "customerkey":
		return "SystemKey"
	}
	return "Disabled"
}
