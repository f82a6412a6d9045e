package workspaces

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/scope"
)

func at(id string) string { return "/workspaces/" + id + "/encryption" }

// find returns the workspace that a path names. Whoever may see its encryption may not
// always see the workspace: auditors may not.
func find(c *portal.Call) (scope.Subject, error) {
	id := c.R.PathValue("id")
	w, err := c.Parties.Workspace(c.Context(), id)
	if err != nil {
		w = client.Workspace{ID: id, DisplayName: "Workspace " + id[:min(8, len(id))]}
	}
	return scope.Subject{
		Scope: client.WorkspaceScope(id), At: at(id), Name: w.DisplayName, Subtitle: w.Description,
		Crumbs: []portal.Crumb{{Title: w.DisplayName, Path: at(id)}, {Title: "Encryption", Path: at(id)}},
		Links:  []scope.Link{{Title: "What the key covers, and what stays visible", Path: at(id) + "/coverage"}, {Title: "Measure it with a drill", Path: "/drill/" + id}},
	}, nil
}

// retry applies the key again that the workspace has: failed items are tried anew.
func retry(c *portal.Call, s scope.Subject) error {
	e, err := c.Parties.Encryption(c.Context(), s.Scope)
	if err != nil {
		return err
	}
	if e.Detail.KeyIdentifier == "" {
		return &portal.Problem{Status: http.StatusConflict, Title: "There is nothing to retry", Detail: "The workspace is under no customer's key."}
	}
	return c.Parties.ChangeEncryption(c.Context(), s.Scope, "assign", map[string]string{"keyIdentifier": e.Detail.KeyIdentifier}, nil)
}

// coverage shows, for each type of items, what the key covers, and what it does not.
func coverage(c *portal.Call) error {
	s, err := find(c)
	if err != nil {
		return err
	}
	v, err := c.Parties.Coverage(c.Context(), c.R.PathValue("id"))
	if err != nil {
		return err
	}
	return c.Render(portal.View{
		Title: s.Name, Subtitle: s.Subtitle, Template: "workspaces/coverage", Crumbs: append(s.Crumbs, portal.Crumb{Title: "Coverage"}),
		Data: struct {
			Coverage client.Coverage
			Rows     []covered
		}{v, group(v.Items)},
	})
}

// covered are items of one type of which the key covers the same.
type covered struct {
	client.Covered
	Count int
	Names []string // of the first of them
}

// group puts items together that differ in their names alone, in the order in which they
// come first: a workspace has many items of a few types.
func group(items []client.Covered) (rows []covered) {
	const named = 3
	at := map[string]int{}
	for _, it := range items {
		key := fmt.Sprintf("%q", []any{it.Type, it.Status, it.ReSealOnly, it.Sealed, it.Visible, it.Elsewhere})
		i, seen := at[key]
		if !seen {
			i, at[key] = len(rows), len(rows)
			rows = append(rows, covered{Covered: it})
		}
		if rows[i].Count++; len(rows[i].Names) < named {
			rows[i].Names = append(rows[i].Names, cmp.Or(it.DisplayName, it.ID))
		}
	}
	return rows
}
