package tfplan

import (
	"fmt"
	"strings"
)

// Snippet returns what puts a type under a key in azurerm's language, "" if azurerm
// cannot. A resource of its own is preferred: it joins what exists to its key.
func Snippet(typ, part, key string) string {
	var best *Row
	for _, r := range Rows() {
		if r.Type != typ || r.Part != part || r.Key == "" {
			continue
		}
		if best == nil || best.Target == "" && r.Target != "" {
			best = &r
		}
	}
	if best == nil {
		return ""
	}
	attribute, _, _ := strings.Cut(best.Key, "|")
	attribute, _, _ = strings.Cut(attribute, "+")
	var b strings.Builder
	fmt.Fprintf(&b, "resource %q \"example\" {\n", best.Resource)
	if best.Target != "" {
		fmt.Fprintf(&b, "  %s = RESOURCE_ID\n", best.Target)
	} else {
		b.WriteString("  # beside what the resource has\n")
	}
	if name, want, ok := strings.Cut(best.On, "="); ok {
		value := fmt.Sprintf("%q", want)
		if want == "true" {
			value = want
		}
		fmt.Fprintf(&b, "  %s = %s\n", name, value)
	}
	block, name, nested := strings.Cut(strings.ReplaceAll(attribute, ">", "."), ".")
	switch {
	case strings.HasPrefix(attribute, "{"):
		return ""
	case nested:
		fmt.Fprintf(&b, "  %s {\n    %s = %q\n  }\n", block, name, key)
	case strings.HasSuffix(attribute, "_ids"):
		fmt.Fprintf(&b, "  %s = [%q]\n", attribute, key)
	default:
		fmt.Fprintf(&b, "  %s = %q\n", attribute, key)
	}
	b.WriteString("}\n")
	return b.String()
}
