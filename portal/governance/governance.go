// Package governance is the portal's part for officers and auditors: how the estate
// stands by classification and type, what was found and what lies behind it, how it is
// mended, what was accepted, the figures with their formulae, and alerts.
//
// It shows what governance's interface tells the user, and offers what he may do there.
// Nothing of the estate is changed from here: a plan's commands are his to run.
package governance

import (
	"cmp"
	"context"
	"embed"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "governance", Title: "Posture", Group: "Governance", Icon: "shield", Templates: templates,
		Funcs: map[string]any{"short": short, "tail": tail, "scope": scope, "said": said, "kindname": kindName, "figure": figure, "percent": percent, "addto": sum, "orempty": orEmpty},
		Routes: map[string]portal.Handler{
			"GET /governance":                           stand,
			"POST /governance/scan":                     scan,
			"POST /governance/evidence":                 evidence,
			"GET /governance/findings":                  findings,
			"GET /governance/findings/{id}":             finding,
			"POST /governance/findings/{id}/plan":       plan,
			"POST /governance/findings/{id}/except":     except,
			"GET /governance/exceptions":                exceptions,
			"POST /governance/exceptions/{id}/withdraw": withdraw,
			"GET /governance/kpis":                      kpis,
			"GET /governance/alerts":                    alerts,
			"POST /governance/alerts/{id}/acknowledge":  acknowledge,
		},
		Visible: func(ctx context.Context, c *client.Clients) bool {
			may, err := c.Rights(ctx)
			return err == nil && may.May("findings/read")
		},
	}
}

// A pane is what all pages here show: the tabs, and what the user may do.
type pane struct {
	Tab string
	May client.Rights
}

func open(c *portal.Call, tab string) (pane, error) {
	may, err := c.Parties.Rights(c.Context())
	return pane{tab, may}, err
}

// standing is the first page.
type standing struct {
	pane
	Estates []estate
	Windows []window
}

// An estate is one with its newest scan, as a table of types by classes.
type estate struct {
	client.Standing
	Classes []string
	Rows    []row
	Total   int // open findings that nobody has accepted
}

type row struct {
	Type  string
	Cells []*client.Cell // by class; nil where there is nothing
}

func stand(c *portal.Call) error {
	p, err := open(c, "")
	if err != nil {
		return err
	}
	all, _, err := c.Parties.Standings(c.Context())
	if err != nil {
		return err
	}
	d := standing{pane: p, Windows: windows}
	for _, s := range all {
		d.Estates = append(d.Estates, table(s))
	}
	return c.Render(portal.View{Title: "Posture", Template: "governance/stand", Data: d})
}

// table arranges an estate's cells: classes in the order of their size, none last.
func table(s client.Standing) estate {
	e := estate{Standing: s}
	size, types := map[string]int{}, map[string][]client.Cell{}
	for _, n := range s.Findings {
		e.Total += n
	}
	for _, c := range s.Scan.Summary.Cells {
		size[c.Class] += c.Resources
		types[c.Type] = append(types[c.Type], c)
	}
	for class := range size {
		e.Classes = append(e.Classes, class)
	}
	slices.SortFunc(e.Classes, func(a, b string) int {
		return cmp.Or(cmp.Compare(boolean(a == ""), boolean(b == "")), cmp.Compare(size[b], size[a]), cmp.Compare(a, b))
	})
	for typ, cells := range types {
		r := row{typ, make([]*client.Cell, len(e.Classes))}
		for i := range cells {
			r.Cells[slices.Index(e.Classes, cells[i].Class)] = &cells[i]
		}
		e.Rows = append(e.Rows, r)
	}
	slices.SortFunc(e.Rows, func(a, b row) int { return cmp.Compare(a.Type, b.Type) })
	return e
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func scan(c *portal.Call) error {
	s, err := c.Parties.RunScan(c.Context())
	if err != nil {
		return err
	}
	return c.Done("/governance", "Scanned: %d findings opened, %d resolved.", s.Opened, s.Resolved)
}

// evidence passes an evidence pack on as it comes.
func evidence(c *portal.Call) error {
	resp, err := c.Parties.Evidence(c.Context(), windowNamed(c.R.PostFormValue("window")).Name)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := c.W.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="evidence-`+time.Now().UTC().Format(time.DateOnly)+`.zip"`)
	if n := resp.Header.Get("Content-Length"); n != "" {
		h.Set("Content-Length", n)
	}
	c.W.WriteHeader(http.StatusOK)
	io.Copy(c.W, resp.Body) // a client that has gone is nobody's failure
	return nil
}

// windows are the lengths of time of figures and packs.
var windows = []window{{"7d", "7 days", 7}, {"30d", "30 days", 30}, {"90d", "90 days", 90}, {"365d", "1 year", 365}}

type window struct {
	Name, Title string
	days        int
}

func windowNamed(name string) window {
	for _, w := range windows {
		if w.Name == name {
			return w
		}
	}
	return windows[1]
}

// short is the beginning of an id, which commands take for it.
func short(id string) string { return id[:min(8, len(id))] }

// tail is the last part of a resource's id, or of a type.
func tail(id string) string {
	at, part, _ := strings.Cut(id, "#")
	name := at[strings.LastIndexByte(strings.TrimSuffix(at, "/"), '/')+1:]
	if part != "" {
		name += " · " + short(part)
	}
	return name
}

// scope says where a role was given.
func scope(id string) string {
	part := strings.Split(strings.Trim(id, "/"), "/")
	switch {
	case len(part) < 2:
		return "everything"
	case len(part) == 2:
		return "subscription " + short(part[1])
	case len(part) == 4 && strings.EqualFold(part[2], "resourceGroups"):
		return "group " + part[3]
	}
	return tail(id)
}

// said spells what may not have been read.
func said(v *bool) string {
	switch {
	case v == nil:
		return "not read"
	case *v:
		return "yes"
	}
	return "no"
}

func percent(part, of int) int {
	if of == 0 {
		return 0
	}
	return 100 * part / of
}

// kindName spells a name that is written as one word: "KeyNearExpiry".
func kindName(kind string) string {
	var b strings.Builder
	for i, r := range kind {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func sum(all ...int) (n int) {
	for _, m := range all {
		n += m
	}
	return n
}

// orEmpty is what a template's "and" has come to, or nothing.
func orEmpty(v any) string {
	text, _ := v.(string)
	return text
}
