package workspaces

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// items is a page of a workspace's items.
type items struct {
	Query, Status  string
	Rows           []client.EncryptedItem
	Matching       int
	Page, Pages    int
	Before, Beyond string // addresses of the neighbouring pages
}

// selectItems cuts the page that the request asks for out of the workspace's items.
func selectItems(c *portal.Call, p pane) items {
	q := c.R.URL.Query()
	l := items{Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status")}
	var matching []client.EncryptedItem
	for _, i := range p.E.Items() {
		text := strings.ToLower(i.DisplayName + " " + i.Type + " " + i.ID)
		if strings.Contains(text, strings.ToLower(l.Query)) && (l.Status == "" || l.Status == i.Status) {
			matching = append(matching, i)
		}
	}
	l.Matching = len(matching)
	l.Pages = max(1, (len(matching)+pageSize-1)/pageSize)
	l.Page, _ = strconv.Atoi(q.Get("page"))
	l.Page = min(max(l.Page, 1), l.Pages)
	from := (l.Page - 1) * pageSize
	l.Rows = matching[from:min(from+pageSize, len(matching))]
	at := func(page int) string {
		return "/workspaces/" + p.ID + "/encryption?" + url.Values{"q": {l.Query}, "status": {l.Status}, "page": {strconv.Itoa(page)}}.Encode() + "#items"
	}
	if l.Page > 1 {
		l.Before = at(l.Page - 1)
	}
	if l.Page < l.Pages {
		l.Beyond = at(l.Page + 1)
	}
	return l
}

// listItems answers with the items that a filter leaves.
func listItems(c *portal.Call) error {
	e, err := c.Parties.WorkspaceEncryption(c.Context(), c.R.PathValue("id"))
	if err != nil {
		return err
	}
	p := pane{ID: c.R.PathValue("id")}
	p.set(e)
	p.Items = selectItems(c, p)
	if !c.Partial() {
		return c.Redirect("/workspaces/" + p.ID + "/encryption?" + c.R.URL.RawQuery)
	}
	return c.Fragment("workspaces/encryption", "items", p.Items)
}
