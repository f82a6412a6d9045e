package scope

import (
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// pageSize is how many items a page shows.
const pageSize = 50

// items is a page of a scope's items.
type items struct {
	Query, Status string
	Item          string // what one is called
	Rows          []client.EncryptedItem
	Matching      int    // all that the filter leaves; 0 if that is not known
	Here          string // the address of this page of them
	First, Next   string // of the first page and the next one, where there are any
}

// selectItems asks for the page of items that the request names.
func (p pane) selectItems(c *portal.Call) (items, error) {
	q := c.R.URL.Query()
	l := items{Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status"), Item: p.Item}
	page, err := c.Parties.EncryptedItems(c.Context(), p.Scope, client.ItemFilter{Search: l.Query, Status: l.Status, Top: pageSize, Token: q.Get("token")})
	if err != nil {
		return l, err
	}
	l.Rows = page.Value
	if l.Query == "" {
		if l.Matching = p.E.Counts[l.Status]; l.Status == "" {
			l.Matching = p.Total()
		}
	}
	at := func(page, token string) string {
		v := url.Values{"q": {l.Query}, "status": {l.Status}}
		if token != "" {
			v.Set("token", token)
		}
		return page + "?" + v.Encode()
	}
	l.Here = at(p.At+"/items", q.Get("token"))
	if q.Get("token") != "" {
		l.First = at(p.At, "") + "#items"
	}
	if page.Token != "" {
		l.Next = at(p.At, page.Token) + "#items"
	}
	return l, nil
}

// listItems answers with the items that a filter leaves.
func (k Kind) listItems(c *portal.Call) error {
	p, err := k.find(c)
	if err != nil {
		return err
	}
	if !c.Partial() {
		return c.Redirect(p.At + "?" + c.R.URL.RawQuery)
	}
	if p.E, err = c.Parties.Encryption(c.Context(), p.Scope); err != nil {
		return err
	}
	if p.Items, err = p.selectItems(c); err != nil {
		return err
	}
	return c.Fragment(p.Section+"/encryption", "items", p.Items)
}
