package arm

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Resource Graph (learn.microsoft.com/rest/api/azureresourcegraph): one question about all
// resources that the caller may see, in any of his subscriptions.

// graphPage is the most that one page holds.
const graphPage = 1000

// A graphRow is a resource in Resource Graph's columns.
type graphRow map[string]any

func (r graphRow) text(column string) string { return strings.ToLower(fmt.Sprint(r[column])) }

type graphQuery struct {
	Query         string   `json:"query"`
	Subscriptions []string `json:"subscriptions"`
	Groups        []string `json:"managementGroups"`
	Options       struct {
		Top       *int   `json:"$top"`
		Skip      int    `json:"$skip"`
		SkipToken string `json:"$skipToken"`
		Format    string `json:"resultFormat"`
	} `json:"options"`
}

// query serves POST /providers/Microsoft.ResourceGraph/resources.
func (c *call) query() error {
	var body graphQuery
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	q, err := parseQuestion(body.Query)
	if err != nil {
		return err
	}
	top := graphPage
	if body.Options.Top != nil {
		top = *body.Options.Top
	}
	switch {
	case top < 1 || top > graphPage:
		return fault.New(fault.InvalidArgument, fmt.Sprintf("options.$top must lie between 1 and %d.", graphPage))
	case body.Options.Skip != 0 || len(body.Groups) > 0:
		return fault.New(fault.NotSupported, "Resource Graph takes neither $skip nor management groups here.").WithMend("Name subscriptions, and follow $skipToken.")
	case body.Options.Format != "" && !strings.EqualFold(body.Options.Format, "objectArray"):
		return fault.New(fault.NotSupported, "The only resultFormat supported is objectArray.")
	}
	rows, err := c.graphRows(body.Subscriptions, q)
	if err != nil {
		return err
	}
	total := len(rows)
	if s := body.Options.SkipToken; s != "" {
		if rows, err = q.after(rows, s); err != nil {
			return err
		}
	}
	next := ""
	if len(rows) > top {
		rows = rows[:top]
		next = q.token(rows[top-1])
	}
	out := map[string]any{"totalRecords": total, "count": len(rows), "resultTruncated": "false", "facets": []any{}, "data": q.project(rows)}
	if next != "" {
		out["$skipToken"] = next
	}
	return c.write(http.StatusOK, out, nil)
}

// graphRows returns the rows that a question is about, in its order, whole. Nobody is
// told of a subscription that he has no role in.
func (c *call) graphRows(only []string, q question) ([]graphRow, error) {
	subs, err := c.subscriptions()
	if err != nil {
		return nil, err
	}
	rows := []graphRow{}
	for _, s := range subs {
		if len(only) > 0 && !slices.ContainsFunc(only, func(id string) bool { return strings.EqualFold(id, s.ID) }) {
			continue
		}
		in := *c
		in.seg = []string{"subscriptions", s.ID, "resources"}
		all, err := in.graphResources(q, s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, all...)
	}
	slices.SortFunc(rows, q.compare)
	if q.limit > 0 && len(rows) > q.limit {
		rows = rows[:q.limit]
	}
	return rows, nil
}

// graphResources returns the rows of one subscription.
func (c *call) graphResources(q question, s vault.Subscription) (rows []graphRow, err error) {
	asked := func(typ string) bool { return q.types == nil || slices.Contains(q.types, strings.ToLower(typ)) }
	add := func(r resource, group string, more graphRow) {
		row := graphRow{
			"id": r.ID, "name": r.Name, "type": strings.ToLower(r.Type), "location": r.Location, "tags": r.Tags, "properties": r.Properties,
			"resourceGroup": strings.ToLower(group), "subscriptionId": s.ID, "tenantId": s.Tenant, "kind": "", "sku": nil, "identity": nil,
		}
		for k, v := range more {
			row[k] = v
		}
		rows = append(rows, row)
	}
	if c.accounts != nil && asked(accountType) {
		all, err := c.accountsHere()
		if err != nil && !(errors.Is(err, fault.SubscriptionNotFound) && c.vaults != nil) {
			return nil, err
		}
		for _, a := range all {
			r := c.account(a)
			add(r.resource, a.ResourceGroup, graphRow{"sku": r.SKU, "kind": r.Kind, "identity": r.Identity})
		}
	}
	if c.vaults == nil {
		return rows, nil
	}
	for _, kind := range []struct {
		typ  string
		list func() ([]vault.Vault, error)
		show func(vault.Vault) resource
	}{
		{vaultType, c.vaultsHere, c.vault},
		{vault.ManagedHSM.ResourceType(), c.hsmsHere, func(v vault.Vault) resource { return c.hsm(v).resource }},
	} {
		if !asked(kind.typ) {
			continue
		}
		all, err := kind.list()
		if err != nil && !(errors.Is(err, fault.SubscriptionNotFound) && c.accounts != nil) {
			return nil, err
		}
		for _, v := range all {
			add(kind.show(v), v.ResourceGroup, nil)
		}
	}
	return rows, nil
}

// compare puts rows in the question's order, which their ids settle.
func (q question) compare(a, b graphRow) int {
	n := 0
	if q.order != "" {
		n = cmp.Compare(a.text(q.order), b.text(q.order))
	}
	n = cmp.Or(n, cmp.Compare(a.text("id"), b.text("id")))
	if q.desc {
		return -n
	}
	return n
}

// token says where the next page begins: after a row. after finds the place again,
// also if the row is gone.
func (q question) token(r graphRow) string {
	return base64.RawURLEncoding.EncodeToString([]byte(r.text(cmp.Or(q.order, "id")) + "\x00" + r.text("id")))
}

func (q question) after(rows []graphRow, token string) ([]graphRow, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	value, id, ok := strings.Cut(string(text), "\x00")
	if err != nil || !ok {
		return nil, fault.New(fault.InvalidArgument, "options.$skipToken is not one of this query.")
	}
	last := graphRow{cmp.Or(q.order, "id"): value}
	last["id"] = rbac.Scope(id)
	i := slices.IndexFunc(rows, func(r graphRow) bool { return q.compare(r, last) > 0 })
	if i < 0 {
		return nil, nil
	}
	return rows[i:], nil
}

// project returns the columns that are asked for.
func (q question) project(rows []graphRow) []graphRow {
	if q.columns == nil {
		return append([]graphRow{}, rows...)
	}
	out := make([]graphRow, len(rows))
	for i, r := range rows {
		out[i] = make(graphRow, len(q.columns))
		for _, c := range q.columns {
			out[i][c] = r[c]
		}
	}
	return out
}
