package tfplan

import (
	"maps"
	"strings"

	"github.com/kluis-io/kluis/posture"
)

// chain makes of what lies behind keys (vaults, keys, grants, logs, alerts) and of
// apps the bodies that Resource Manager would have. What the table says of a type with
// a key is not its business.
type chain struct {
	refs   map[string][]string
	byName map[string]*planned
}

// bodies are the resources that lie behind keys, by azurerm's names.
var bodies = map[string]func(*chain, *planned) map[string]any{
	"azurerm_key_vault": (*chain).vault,
	"azurerm_key_vault_managed_hardware_security_module":     (*chain).hsm,
	"azurerm_key_vault_key":                                  (*chain).key,
	"azurerm_key_vault_managed_hardware_security_module_key": (*chain).key,
	"azurerm_role_assignment":                                (*chain).assignment,
	"azurerm_monitor_diagnostic_setting":                     (*chain).log,
	"azurerm_eventgrid_event_subscription":                   (*chain).subscription,
	"azurerm_eventgrid_system_topic":                         (*chain).topic,
	"azurerm_eventgrid_system_topic_event_subscription":      (*chain).topicSubscription,
	"azurerm_monitor_metric_alert":                           (*chain).metric,
	"azurerm_linux_web_app":                                  (*chain).app,
	"azurerm_windows_web_app":                                (*chain).app,
	"azurerm_linux_function_app":                             (*chain).app,
	"azurerm_windows_function_app":                           (*chain).app,
	"azurerm_function_app_flex_consumption":                  (*chain).app,
}

// describe gives planned resources their bodies. Vaults and topics come first, since
// keys and subscriptions are named by theirs, and then keys, which grants name.
func (c *chain) describe(all []*planned) {
	for _, round := range [][]*planned{vaults(all), keys(all), all} {
		for _, r := range round {
			if compose := bodies[r.typ]; compose != nil && r.body == nil {
				if r.id = text(r.value("id")); r.id == "" {
					r.id = r.address // it is known after apply
				}
				r.body = compose(c, r)
				c.byName[r.address], c.byName[strings.ToLower(r.id)] = r, r
			}
		}
	}
}

func vaults(all []*planned) (out []*planned) {
	for _, r := range all {
		if r.typ == "azurerm_key_vault" || r.typ == "azurerm_key_vault_managed_hardware_security_module" || r.typ == "azurerm_eventgrid_system_topic" {
			out = append(out, r)
		}
	}
	return out
}

func keys(all []*planned) (out []*planned) {
	for _, r := range all {
		if strings.HasPrefix(r.typ, "azurerm_key_vault") && strings.HasSuffix(r.typ, "_key") {
			out = append(out, r)
		}
	}
	return out
}

// base is what all bodies have.
func (r *planned) base(typ string, properties map[string]any) map[string]any {
	body := map[string]any{"id": r.id, "type": typ, "properties": properties}
	for to, from := range map[string]string{"name": "name", "location": "location", "resourceGroup": "resource_group_name", "tags": "tags"} {
		if v := r.value(from); v != nil && (v != posture.UnknownValue || to == "tags") {
			body[to] = v
		}
	}
	if kind := text(r.value("identity.type")); kind != "" {
		ids := map[string]any{}
		for _, id := range r.values("identity.identity_ids") {
			ids[text(id)] = map[string]any{}
		}
		body["identity"] = map[string]any{"type": kind, "principalId": r.value("identity.principal_id"), "userAssignedIdentities": ids}
	}
	return body
}

// fill sets fields to the values of attributes, those that are not there left out.
func (r *planned) fill(to map[string]any, attributes map[string]string) map[string]any {
	for name, from := range attributes {
		if v := r.first(from); v != nil {
			to[name] = v
		}
	}
	return to
}

// idOf returns the id in an attribute: of what it refers to, where it is known after
// apply.
func (c *chain) idOf(r *planned, attribute string) string {
	if id := text(r.value(attribute)); id != "" {
		return id
	}
	if t := r.target(Row{Target: attribute}, c.refs, c.byName); t != nil {
		return t.id
	}
	return ""
}

func (c *chain) vault(r *planned) map[string]any {
	p := r.fill(map[string]any{"enableSoftDelete": true}, map[string]string{
		"tenantId": "tenant_id", "softDeleteRetentionInDays": "soft_delete_retention_days", "enablePurgeProtection": "purge_protection_enabled",
		"enableRbacAuthorization": "rbac_authorization_enabled|enable_rbac_authorization", "vaultUri": "vault_uri",
	})
	p["networkAcls"] = r.fill(map[string]any{}, map[string]string{"defaultAction": "network_acls.default_action", "bypass": "network_acls.bypass"})
	if v := r.value("public_network_access_enabled"); v == false {
		p["publicNetworkAccess"] = "Disabled"
	}
	if text(p["vaultUri"]) == "" {
		p["vaultUri"] = "https://" + strings.ToLower(text(r.value("name"))) + ".vault.azure.net/"
	}
	var policies []any
	for _, a := range r.blocks("access_policy") {
		policies = append(policies, map[string]any{"objectId": a.value("object_id"), "permissions": map[string]any{"keys": a.values("key_permissions"), "secrets": a.values("secret_permissions")}})
	}
	p["accessPolicies"] = policies
	return r.base("Microsoft.KeyVault/vaults", p)
}

func (c *chain) hsm(r *planned) map[string]any {
	p := r.fill(map[string]any{}, map[string]string{"tenantId": "tenant_id", "enablePurgeProtection": "purge_protection_enabled", "hsmUri": "hsm_uri"})
	p["networkAcls"] = r.fill(map[string]any{}, map[string]string{"defaultAction": "network_acls.default_action", "bypass": "network_acls.bypass"})
	if text(p["hsmUri"]) == "" {
		p["hsmUri"] = "https://" + strings.ToLower(text(r.value("name"))) + ".managedhsm.azure.net/"
	}
	return r.base("Microsoft.KeyVault/managedHSMs", p)
}

func (c *chain) key(r *planned) map[string]any {
	vault := c.idOf(r, "key_vault_id")
	if vault == "" {
		vault = c.idOf(r, "managed_hsm_id")
	}
	host := strings.ToLower(vault[strings.LastIndexByte(vault, '/')+1:]) + ".vault.azure.net"
	if v := c.byName[strings.ToLower(vault)]; v != nil {
		p, _ := v.body["properties"].(map[string]any)
		if uri := text(p["vaultUri"]) + text(p["hsmUri"]); uri != "" {
			host = strings.TrimSuffix(strings.TrimPrefix(uri, "https://"), "/")
		}
	}
	attributes := r.fill(map[string]any{"enabled": true}, map[string]string{"exp": "expiration_date", "nbf": "not_before_date"})
	p := r.fill(map[string]any{"keyUri": "https://" + host + "/keys/" + text(r.value("name")), "attributes": attributes, "keyOps": r.values("key_opts")},
		map[string]string{"kty": "key_type", "keySize": "key_size"})
	if v := r.value("version"); text(v) != "" {
		p["keyUriWithVersion"] = text(p["keyUri"]) + "/" + text(v)
	}
	actions := []any{map[string]any{"action": map[string]any{"type": "Notify"}}}
	for _, a := range r.blocks("rotation_policy") {
		for _, auto := range a.blocks("automatic") {
			actions = append(actions, map[string]any{"action": map[string]any{"type": "Rotate"},
				"trigger": auto.fill(map[string]any{}, map[string]string{"timeAfterCreate": "time_after_creation", "timeBeforeExpiry": "time_before_expiry"})})
		}
		if a.unknown == true {
			actions = nil
		}
	}
	if actions != nil {
		p["rotationPolicy"] = map[string]any{"lifetimeActions": actions}
	}
	r.id = vault + "/keys/" + text(r.value("name")) // where grants name it
	return map[string]any{"id": r.id, "type": "Microsoft.KeyVault/vaults/keys", "name": r.value("name"), "properties": p}
}

func (c *chain) assignment(r *planned) map[string]any {
	p := r.fill(map[string]any{"scope": c.idOf(r, "scope")}, map[string]string{"principalId": "principal_id", "principalType": "principal_type", "roleDefinitionId": "role_definition_id"})
	if name := text(r.value("role_definition_name")); name != "" {
		p["roleDefinitionId"] = "/" + posture.RoleNamed(name)
	}
	if p["principalId"] == posture.UnknownValue {
		// Whoever it is, it is one and the same wherever the plan refers to it.
		for _, ref := range c.refs[withoutIndexes(r.address)+".principal_id"] {
			p["principalId"] = ref
			break
		}
	}
	return map[string]any{"id": r.id, "type": "Microsoft.Authorization/roleAssignments", "properties": p}
}

func (c *chain) log(r *planned) map[string]any {
	var logs []any
	for _, block := range []string{"enabled_log", "log"} {
		for _, l := range r.blocks(block) {
			one := l.fill(map[string]any{"enabled": true}, map[string]string{"category": "category", "categoryGroup": "category_group", "enabled": "enabled"})
			one["retentionPolicy"] = l.fill(map[string]any{}, map[string]string{"days": "retention_policy.days"})
			if l.unknown == true {
				one["enabled"] = posture.UnknownValue
			}
			logs = append(logs, one)
		}
	}
	p := r.fill(map[string]any{"logs": logs}, map[string]string{"workspaceId": "log_analytics_workspace_id", "storageAccountId": "storage_account_id"})
	return map[string]any{"id": c.idOf(r, "target_resource_id") + "/providers/Microsoft.Insights/diagnosticSettings/" + text(r.value("name")), "properties": p}
}

func eventTypes(r *planned) map[string]any {
	return map[string]any{"filter": map[string]any{"includedEventTypes": r.values("included_event_types")}}
}

func (c *chain) subscription(r *planned) map[string]any {
	return map[string]any{"id": c.idOf(r, "scope") + "/providers/Microsoft.EventGrid/eventSubscriptions/" + text(r.value("name")), "properties": eventTypes(r)}
}

func (c *chain) topic(r *planned) map[string]any {
	source := c.idOf(r, "source_resource_id")
	if source == "" {
		source = c.idOf(r, "source_arm_resource_id")
	}
	return r.base("Microsoft.EventGrid/systemTopics", map[string]any{"source": source})
}

func (c *chain) topicSubscription(r *planned) map[string]any {
	topic := text(r.value("system_topic"))
	for _, ref := range c.refs[withoutIndexes(r.address)+".system_topic"] {
		if t := c.byName[strings.TrimSuffix(strings.TrimSuffix(ref, ".name"), ".id")]; t != nil {
			topic = t.id
		}
	}
	for _, t := range c.byName {
		if t.typ == "azurerm_eventgrid_system_topic" && text(t.value("name")) == topic {
			topic = t.id
		}
	}
	return map[string]any{"id": topic + "/eventSubscriptions/" + text(r.value("name")), "type": "Microsoft.EventGrid/systemTopics/eventSubscriptions", "properties": eventTypes(r)}
}

func (c *chain) metric(r *planned) map[string]any {
	var criteria []any
	for _, one := range r.blocks("criteria") {
		var dimensions []any
		for _, d := range one.blocks("dimension") {
			dimensions = append(dimensions, map[string]any{"name": d.value("name"), "values": d.values("values")})
		}
		criteria = append(criteria, map[string]any{"metricName": one.value("metric_name"), "dimensions": dimensions})
	}
	scopes := []any{}
	for _, s := range r.values("scopes") {
		if text(s) != "" {
			scopes = append(scopes, s)
		}
	}
	if len(scopes) == 0 {
		if id := c.idOf(r, "scopes"); id != "" {
			scopes = append(scopes, id)
		}
	}
	return r.base("Microsoft.Insights/metricAlerts", r.fill(map[string]any{"scopes": scopes, "criteria": map[string]any{"allOf": criteria}}, map[string]string{"enabled": "enabled"}))
}

func (c *chain) app(r *planned) map[string]any {
	settings := any(map[string]any{})
	switch v := r.value("app_settings").(type) {
	case map[string]any:
		settings = maps.Clone(v)
	case nil:
	default:
		settings = v // all of them are known after apply
	}
	if all, ok := settings.(map[string]any); ok {
		switch {
		case r.value("storage_account_name") == nil:
		case r.value("storage_uses_managed_identity") == true:
			all["AzureWebJobsStorage__accountName"] = r.value("storage_account_name")
		case text(r.value("storage_key_vault_secret_id")) != "":
			all["AzureWebJobsStorage"] = "@Microsoft.KeyVault(SecretUri=" + text(r.value("storage_key_vault_secret_id")) + ")"
		case r.value("storage_account_name") == posture.UnknownValue:
			all["AzureWebJobsStorage"] = posture.UnknownValue
		default: // azurerm makes a connection string of name and key
			all["AzureWebJobsStorage"] = "AccountName=" + text(r.value("storage_account_name")) + ";AccountKey="
		}
	}
	mounts := map[string]any{}
	for _, m := range r.blocks("storage_account") {
		mounts[text(m.value("name"))] = map[string]any{"accountName": m.value("account_name"), "accessKey": m.value("access_key")}
	}
	p := map[string]any{"siteConfig": map[string]any{"appSettings": settings}, "azureStorageAccounts": mounts}
	if strings.HasSuffix(r.typ, "_flex_consumption") {
		p["functionAppConfig"] = map[string]any{"deployment": map[string]any{"storage": map[string]any{
			"value": r.value("storage_container_endpoint"), "authentication": map[string]any{"type": r.value("storage_authentication_type")},
		}}}
	}
	return r.base("Microsoft.Web/sites", r.fill(p, map[string]string{"keyVaultReferenceIdentity": "key_vault_reference_identity_id"}))
}
