package posture

import (
	"slices"
	"strings"
)

// What an alert may be about.
const (
	alertExpiry = "KeyNearExpiry" // Event Grid's name of the event
	alertAccess = "unauthorised access"
)

// An alert tells somebody of something about what lies at or below a scope.
type alert struct {
	about string
	scope string // in lower case; of an event subscription's topic until it is resolved
}

// addAlert adds an alert, a subscription to a vault's events, or a topic of them. typ
// is in lower case.
func (inv *Inventory) addAlert(typ, id string, d document) {
	low := strings.ToLower(id)
	switch typ {
	case "microsoft.eventgrid/systemtopics":
		inv.topics[low] = strings.ToLower(d.str("properties.source"))
	case "microsoft.eventgrid/systemtopics/eventsubscriptions":
		inv.subscribe(parentID(low), d)
	case "microsoft.eventgrid/eventsubscriptions":
		inv.subscribe(low[:max(0, strings.LastIndex(low, "/providers/microsoft.eventgrid/"))], d)
	case "microsoft.insights/metricalerts":
		inv.alerted = true
		if !strings.EqualFold(d.str("properties.enabled"), "false") && metersAccess(d) {
			inv.alertAt(d, alertAccess)
		}
	case "microsoft.insights/scheduledqueryrules":
		inv.alerted = true
		if strings.EqualFold(d.str("properties.enabled"), "false") {
			return
		}
		query := strings.ToLower(d.str("properties.criteria.allOf.query") + d.str("properties.source.query"))
		mentions := func(words ...string) bool {
			return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(query, w) })
		}
		if mentions("403", "forbidden", "unauthorized") && mentions("vault", "azkvauditlogs", "auditevent") {
			inv.alertAt(d, alertAccess)
		}
		if mentions("keynearexpiry") {
			inv.alertAt(d, alertExpiry)
		}
	}
}

// subscribe notes a subscription to events. One without a list of types gets all.
func (inv *Inventory) subscribe(scope string, d document) {
	inv.alerted = true
	types := d.all(parsePath("properties.filter.includedEventTypes"))
	if len(types) == 0 || slices.ContainsFunc(types, func(v any) bool {
		s := scalarOf(v)
		return strings.EqualFold(s, "All") || strings.HasSuffix(strings.ToLower(s), ".keynearexpiry")
	}) {
		inv.alerts = append(inv.alerts, alert{alertExpiry, scope})
	}
}

// metersAccess reports whether a metric alert counts refused calls.
// https://learn.microsoft.com/azure/key-vault/general/alert
func metersAccess(d document) bool {
	for _, v := range d.objects(parsePath("properties.criteria.allOf")) {
		m, _ := v.(map[string]any)
		one := document{body: m}
		if name := strings.ToLower(one.str("metricName")); name != "serviceapiresult" && name != "serviceapihit" {
			continue
		}
		coded, refused := false, false
		for _, dim := range one.objects(parsePath("dimensions")) {
			dm, _ := dim.(map[string]any)
			of := document{body: dm}
			if !strings.EqualFold(of.str("name"), "StatusCode") {
				continue
			}
			coded = true
			refused = slices.ContainsFunc(of.all(parsePath("values")), func(v any) bool {
				return slices.Contains([]string{"401", "403", "*"}, scalarOf(v))
			})
		}
		if !coded || refused {
			return true
		}
	}
	return false
}

func (inv *Inventory) alertAt(d document, about string) {
	for _, s := range d.all(parsePath("properties.scopes")) {
		inv.alerts = append(inv.alerts, alert{about, strings.ToLower(scalarOf(s))})
	}
	if s := d.str("properties.source.dataSourceId"); s != "" {
		inv.alerts = append(inv.alerts, alert{about, strings.ToLower(s)})
	}
}

// alertsOn returns what is alerted about v, and whether anything was read that could
// tell.
func (j *judge) alertsOn(v *Vault) (about map[string]bool, read bool) {
	about = map[string]bool{}
	low := strings.ToLower(v.ID)
	for _, a := range j.inv.alerts {
		scope := a.scope
		if source, topic := j.inv.topics[scope]; topic {
			scope = source
		}
		logged := slices.ContainsFunc(j.inv.logs[low], func(l logSetting) bool { return l.audit && l.workspace != "" && l.workspace == scope })
		if scope != "" && (scope == low || strings.HasPrefix(low, scope+"/") || logged) {
			about[a.about] = true
		}
	}
	return about, j.inv.alerted || j.inv.WasListed(v.ID, "eventSubscriptions")
}

// watched judges whether somebody is told of what happens to v's keys.
func (j *judge) watched(v *Vault, say func(string, string, Finding)) {
	about, read := j.alertsOn(v)
	for _, want := range []struct{ control, about, detail string }{
		{"ALERT-EXPIRY", alertExpiry, "nobody is told of keys near their expiry"},
		{"ALERT-ACCESS", alertAccess, "nobody is told of refused attempts to use its keys"},
	} {
		switch {
		case about[want.about]:
		case read:
			say(want.control, want.detail, Finding{})
		default:
			say(want.control, "its alerts were not read", Finding{State: "unknown"})
		}
	}
}
