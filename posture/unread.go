package posture

import "strings"

// Unread adds a resource that is known to be there and could not be read: whether it
// lies under a customer's key is unknown, and it counts as such. It does nothing for a
// type that cannot have one.
func (inv *Inventory) Unread(id, typ, why string, ev Evidence) {
	inv.init()
	rules := types().byType[strings.ToLower(typ)]
	if rules == nil || inv.byID[strings.ToLower(id)] != nil {
		return
	}
	inv.addResource(rules[:1], id, document{body: map[string]any{}}, ev)
	r := inv.byID[strings.ToLower(id)]
	r.CMK, r.links = CMK{State: Unknown, Why: why}, nil
}
