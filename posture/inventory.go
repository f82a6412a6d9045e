package posture

import (
	"fmt"
	"slices"
	"strings"
)

// An Inventory is everything that was read: resources that can lie under a
// customer's key, and the vaults, keys, grants and logs behind them. The zero value
// is empty. It is not safe for use by several goroutines at once.
type Inventory struct {
	Resources []*Resource
	Vaults    []*Vault
	Keys      []*Key
	Gaps      []Gap

	// Accepted are exceptions that were made elsewhere than in the policy.
	Accepted []Exception

	// Keep says that what is added is also kept as it was read, for checkers that
	// look at more than keys. Set it before anything is added.
	Keep bool

	objects  map[string]*Object // what is kept, by id in lower case
	kept     []string
	grants   []grant
	groups   map[string][]string     // members by group, object ids in lower case
	logs     map[string][]logSetting // by the id of what is logged, in lower case
	byID     map[string]*Resource
	accounts map[string]*Resource // storage accounts by name, nil where two share it
	linked   map[string][]string  // accounts that a workspace keeps alerts in
	vaultBy  map[string]*Vault    // by host and by id
	keyBy    map[KeyRef]*Key
	uses     map[KeyRef][]*Resource      // what uses a key, by its versionless reference
	orphans  map[string]map[string][]CMK // children read before their parents
	listed   map[string]map[string]bool
	settled  map[*Resource]bool
	rotation map[KeyRef]*Rotation // read before their keys
	alerts   []alert
	alerted  bool              // whether any alert or subscription was read
	topics   map[string]string // Event Grid's topics to what they are of
	apps     map[string]*app   // what config children say, by their parent's id in lower case
}

func (inv *Inventory) init() {
	if inv.byID != nil {
		return
	}
	inv.logs, inv.byID, inv.accounts = map[string][]logSetting{}, map[string]*Resource{}, map[string]*Resource{}
	inv.linked, inv.vaultBy, inv.keyBy = map[string][]string{}, map[string]*Vault{}, map[KeyRef]*Key{}
	inv.orphans, inv.listed = map[string]map[string][]CMK{}, map[string]map[string]bool{}
	inv.rotation, inv.objects, inv.apps = map[KeyRef]*Rotation{}, map[string]*Object{}, map[string]*app{}
	inv.topics, inv.groups = map[string]string{}, map[string][]string{}
}

// Add adds one object, whatever its shape says it is: a resource in Resource
// Manager's or az's shape, a Fabric workspace, a key, a rotation policy, a grant, a
// diagnostic setting. It reports whether posture has a use for it. A resource that
// was added before is replaced: the fuller reading comes last.
func (inv *Inventory) Add(body map[string]any, ev Evidence) bool {
	inv.init()
	if inv.addKeyMaterial(body, ev) || inv.addGroup(body) {
		return true
	}
	id := strings.TrimSuffix(scalarOf(Field(body, "id")), "/")
	typ := scalarOf(Field(body, "type"))
	if fromID := typeOf(id); fromID != "" {
		typ = fromID
	} else if workspace := Field(body, "encryption"); strings.EqualFold(typ, "Workspace") && id != "" {
		if workspace == nil {
			return false
		}
		typ = "Microsoft.Fabric/workspaces"
	}
	if id == "" || typ == "" {
		return false
	}
	_, hasProperties := Field(body, "properties").(map[string]any)
	d := document{body: body, flat: !hasProperties}
	low := strings.ToLower(typ)
	inv.keep(id, typ, d, ev)
	inv.addAlert(low, id, d)
	if inv.addChain(low, id, d, ev) || inv.addChild(low, id, d) || inv.addSettings(low, id, d) {
		return true
	}
	rules := types().byType[low]
	if rules == nil {
		return false
	}
	inv.addResource(rules, id, d, ev)
	return true
}

// Listed says that all children of one kind of a resource were read, so that one
// not seen is not there.
func (inv *Inventory) Listed(parent, kind string) {
	inv.init()
	parent = strings.ToLower(parent)
	if inv.listed[parent] == nil {
		inv.listed[parent] = map[string]bool{}
	}
	inv.listed[parent][strings.ToLower(kind)] = true
}

func (inv *Inventory) addResource(rules []*Rule, id string, d document, ev Evidence) {
	r := &Resource{
		ID: id, Type: rules[0].Type, Name: d.str("name"), Location: d.str("location"), Group: groupOf(id),
		Tags: texts(Field(d.body, "tags")), Identity: identityOf(d), Evidence: ev, rule: rules[0],
	}
	if r.Name == "" {
		r.Name = id[strings.LastIndexByte(id, '/')+1:]
	}
	if r.Group == "" {
		r.Group = d.str("resourceGroup")
	}
	r.later = laterTags(Field(d.body, "tags"))
	if r.Type == "Microsoft.Fabric/workspaces" {
		r.sensitivity = d.str("sensitivityLabel.id")
	}
	r.CMK = rules[0].evaluate(d)
	r.links = rules[0].linksOf(d, id)
	if direct := rules[0].direct; direct != nil {
		// The parent tells that there is a key, as a name that its child spells out.
		if v, known := d.text([]path{direct}); !known || v != "" {
			r.CMK.State = Unknown
			if known {
				r.CMK.State = On
				if k := ParseKeyRef(v); !k.IsZero() {
					r.CMK.Keys = []KeyRef{k}
				}
			}
		} else {
			r.CMK.State = ""
		}
	} else if rules[0].Family == ChildSetting && rules[0].child != "parent" {
		r.CMK.State = ""
	}
	for _, part := range rules[1:] {
		r.Parts = append(r.Parts, Part{Name: part.Part, CMK: part.evaluate(d)})
		r.parts = append(r.parts, part)
	}
	r.geo = geo{
		redundant: slices.Contains([]string{"enabled", "true"}, strings.ToLower(d.str("properties.backup.geoRedundantBackup"))),
		key:       ParseKeyRef(d.str("properties.dataEncryption.geoBackupKeyURI")),
	}
	for _, at := range []string{"properties.backup.geoRedundantBackup", "properties.dataEncryption.geoBackupKeyURI"} {
		if _, known := d.text([]path{parsePath(at)}); !known {
			r.geo.later = true
		}
	}
	r.federated = d.str("properties.encryption.identity.federatedIdentityClientId") != "" || d.str("properties.federatedClientId") != ""
	if rules[0].Family == AppSettings {
		r.app = appOf(d)
	}
	low := strings.ToLower(id)
	if old := inv.byID[low]; old != nil {
		inv.Resources[slices.Index(inv.Resources, old)] = r
	} else {
		inv.Resources = append(inv.Resources, r)
	}
	inv.byID[low] = r
	if r.Type == "Microsoft.Storage/storageAccounts" {
		inv.accounts[strings.ToLower(r.Name)] = r
	}
	inv.addInline(r, d, ev)
}

// addInline adds children that the resource carries with it, as templates do.
func (inv *Inventory) addInline(r *Resource, d document, ev Evidence) {
	children, ok := Field(d.body, "resources").([]any)
	if !ok {
		return
	}
	inv.Listed(r.ID, r.rule.child)
	for i, v := range children {
		child, ok := v.(map[string]any)
		if !ok {
			continue
		}
		typ, name := scalarOf(Field(child, "type")), scalarOf(Field(child, "name"))
		typ, name = typ[strings.LastIndexByte(typ, '/')+1:], name[strings.LastIndexByte(name, '/')+1:]
		if typ == "" || name == "" {
			continue
		}
		child["id"], child["type"] = r.ID+"/"+typ+"/"+name, r.Type+"/"+typ
		at := ev
		at.Path += fmt.Sprintf("/resources/%d", i)
		inv.Add(child, at)
	}
}

// addChild keeps what a child says for its parent.
func (inv *Inventory) addChild(typ, id string, d document) bool {
	i := strings.LastIndexByte(typ, '/')
	if i < 0 {
		return false
	}
	parent := types().byType[typ[:i]]
	if parent == nil || parent[0].child == "" || parent[0].child != typ[i+1:] {
		return false
	}
	rule := *parent[0]
	rule.applies = nil
	at := strings.ToLower(parentID(id))
	if inv.orphans[at] == nil {
		inv.orphans[at] = map[string][]CMK{}
	}
	inv.orphans[at][rule.child] = append(inv.orphans[at][rule.child], rule.evaluate(d))
	return true
}

// typeOf returns the type that a resource id spells, or "".
func typeOf(id string) string {
	i := strings.LastIndex(strings.ToLower(id), "/providers/")
	if i < 0 {
		return ""
	}
	p := strings.Split(id[i+len("/providers/"):], "/")
	if len(p) < 3 {
		return ""
	}
	t := p[0]
	for n := 1; n < len(p); n += 2 {
		t += "/" + p[n]
	}
	return t
}

func groupOf(id string) string {
	const mark = "/resourcegroups/"
	i := strings.Index(strings.ToLower(id), mark)
	if i < 0 {
		return ""
	}
	name, _, _ := strings.Cut(id[i+len(mark):], "/")
	return name
}

func identityOf(d document) Identity {
	i := Identity{Type: d.str("identity.type"), PrincipalID: d.str("identity.principalId"), Tenant: d.str("identity.tenantId")}
	assigned, _ := Field(d.body, "identity").(map[string]any)
	if all, ok := Field(assigned, "userAssignedIdentities").(map[string]any); ok {
		i.UserAssigned = map[string]string{}
		for id, v := range all {
			m, _ := v.(map[string]any)
			i.UserAssigned[strings.ToLower(id)] = scalarOf(Field(m, "principalId"))
		}
	}
	return i
}

// laterTags returns the names of tags that are known after apply, in lower case; "*" if
// it is not known which there are.
func laterTags(v any) (out []string) {
	if v == UnknownValue {
		return []string{"*"}
	}
	m, _ := v.(map[string]any)
	for name, value := range m {
		if value == UnknownValue {
			out = append(out, strings.ToLower(name))
		}
	}
	return out
}

func texts(v any) map[string]string {
	m, _ := v.(map[string]any)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != UnknownValue {
			out[k] = scalarOf(v)
		}
	}
	return out
}

// scalarOf is scalar, with "" for what is not there or not known.
func scalarOf(v any) string {
	if v == nil || v == UnknownValue {
		return ""
	}
	return scalar(v)
}
