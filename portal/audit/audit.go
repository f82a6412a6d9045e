// Package audit is the portal's part for whoever looks at what was done: the parties'
// logs side by side, searched, followed by a request's id, verified and exported.
//
// Each party decides by itself whether its log may be read, and records that it was.
package audit

import (
	"cmp"
	"context"
	"embed"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

//go:embed *.html
var templates embed.FS

// Section returns the part of the portal.
func Section() portal.Section {
	return portal.Section{
		Name: "audit", Title: "Audit", Group: "Governance", Icon: "log", Templates: templates,
		Funcs: map[string]any{"short": short, "place": place, "logname": logName},
		Routes: map[string]portal.Handler{
			"GET /audit":              search,
			"GET /audit/follow":       follow,
			"GET /audit/export":       export,
			"GET /audit/verification": verify,
		},
		Visible: func(_ context.Context, c *client.Clients) bool { return c.Audit.Address != "" },
	}
}

// short spells the beginning of an id that is too long to read.
func short(id string) string {
	const guid = 36
	if len(id) < guid {
		return id
	}
	return id[:8]
}

// place spells a resource without what stands before its provider, which is the same on
// every line.
func place(resource string) string {
	const provider = "/providers/Microsoft.KeyVault/"
	if i := strings.Index(resource, provider); i >= 0 {
		return resource[i+len(provider):]
	}
	return resource
}

// logName is what people call a party's log.
func logName(party string) string {
	if party == "login" {
		return "directory" // of users and applications, as every other page calls it
	}
	return party
}

// windows are the lengths of time that are searched.
var windows = []window{{"1d", "1 day", 1}, {"7d", "7 days", 7}, {"30d", "30 days", 30}, {"90d", "90 days", 90}, {"365d", "1 year", 365}}

type window struct {
	Name, Title string
	days        int
}

// pageSize is how many entries a page shows.
const pageSize = 100

// found is the page of entries.
type found struct {
	Parties  []string
	Party    string // all if empty
	Windows  []window
	Window   window
	Query    url.Values // as the party takes it, without time and page
	Rows     []row
	Missing  []missing
	Older    string // address of the next page
	Exports  []file
	Filtered bool
}

type row struct {
	client.AuditEntry
	Who    string
	Follow string // address of everything that belongs to its request
}

// missing is a party whose log is not shown.
type missing struct {
	Party string
	*portal.Problem
}

type file struct{ Party, Azure, JSON string }

// filters are the parameters that a party's log is searched by.
var filters = []string{"operation", "principal", "resource", "outcome", "request"}

func read(c *portal.Call) (f found, err error) {
	q := c.R.URL.Query()
	f = found{Windows: windows, Window: windows[1], Query: url.Values{}, Party: q.Get("party")}
	for _, w := range windows {
		if w.Name == q.Get("window") {
			f.Window = w
		}
	}
	for _, name := range filters {
		if s := strings.TrimSpace(q.Get(name)); s != "" {
			f.Query.Set(name, s)
			f.Filtered = true
		}
	}
	if f.Parties, err = c.Parties.AuditParties(c.Context()); err != nil {
		return f, err
	}
	if !slices.Contains(f.Parties, f.Party) {
		f.Party = ""
	}
	return f, nil
}

// Of returns a filter's value.
func (f found) Of(name string) string { return f.Query.Get(name) }

// asked is what a party is asked, beside the page.
func (f found) asked() url.Values {
	q := url.Values{}
	for name, values := range f.Query {
		q[name] = values
	}
	q.Set("from", time.Now().Add(-time.Duration(f.Window.days)*24*time.Hour).UTC().Format(time.RFC3339))
	return q
}

// at is the address of a page of these entries.
func (f found) at(path string, more ...string) string {
	q := url.Values{"window": {f.Window.Name}}
	for name, values := range f.Query {
		q[name] = values
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return path + "?" + q.Encode()
}

func search(c *portal.Call) error {
	f, err := read(c)
	if err != nil {
		return err
	}
	ask := f.Parties
	if f.Party != "" {
		ask = []string{f.Party}
	}
	q := f.asked()
	q.Set("limit", strconv.Itoa(pageSize))
	if after := c.R.URL.Query().Get("after"); after != "" && f.Party != "" {
		q.Set("after", after)
	}
	var lock sync.Mutex
	var all sync.WaitGroup
	var entries []client.AuditEntry
	for _, party := range ask {
		all.Go(func() {
			page, err := c.Parties.AuditEntries(c.Context(), party, q)
			lock.Lock()
			defer lock.Unlock()
			entries = append(entries, page...)
			if err != nil {
				f.Missing = append(f.Missing, missing{party, c.Explain(err)})
				return
			}
			f.Exports = append(f.Exports, file{party, f.at("/audit/export", "party", party, "format", "azure"), f.at("/audit/export", "party", party, "format", "json")})
		})
	}
	all.Wait()
	slices.SortFunc(f.Missing, func(a, b missing) int { return strings.Compare(a.Party, b.Party) })
	slices.SortFunc(f.Exports, func(a, b file) int { return strings.Compare(a.Party, b.Party) })
	slices.SortStableFunc(entries, func(a, b client.AuditEntry) int { return b.Time.Compare(a.Time) })
	if len(entries) >= pageSize {
		entries = entries[:pageSize]
		if f.Party != "" {
			f.Older = f.at("/audit", "party", f.Party, "after", strconv.FormatInt(entries[pageSize-1].Sequence, 10))
		}
	}
	f.rows(c, entries)
	if c.Partial() {
		return c.Fragment("audit/audit", "rows", f)
	}
	return c.Render(portal.View{Title: "Audit", Subtitle: "What was done, tried and refused, as each party’s own log has it.", Template: "audit/audit", Data: f})
}

// rows lists entries.
func (f *found) rows(c *portal.Call, entries []client.AuditEntry) {
	who := people(c, entries)
	for _, e := range entries {
		f.Rows = append(f.Rows, row{AuditEntry: e, Who: who(e), Follow: followed(e)})
	}
}

// people returns what names who is behind an entry, as far as the directory knows.
func people(c *portal.Call, entries []client.AuditEntry) func(client.AuditEntry) string {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Principal)
	}
	known, _ := c.Parties.People(c.Context(), ids...) // an id is a name too
	return func(e client.AuditEntry) string { return cmp.Or(known[e.Principal].DisplayName, e.Principal) }
}

// export sends a party's entries on as a file, as they come.
func export(c *portal.Call) error {
	f, err := read(c)
	if err != nil {
		return err
	}
	q := f.asked()
	q.Set("format", c.R.URL.Query().Get("format"))
	resp, err := c.Parties.ExportAudit(c.Context(), c.R.URL.Query().Get("party"), q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := c.W.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Content-Disposition", `attachment; filename="audit-`+f.Party+`.jsonl"`)
	if _, err := io.Copy(c.W, resp.Body); err != nil {
		panic(http.ErrAbortHandler) // what has been sent is not the whole
	}
	return nil
}

// verified is the page of what verifying the logs has found.
type verified struct {
	Logs []log
}

type log struct {
	Party string
	V     client.Verification
	Why   *portal.Problem // it could not be verified
}

func verify(c *portal.Call) error {
	parties, err := c.Parties.AuditParties(c.Context())
	if err != nil {
		return err
	}
	d := verified{Logs: make([]log, len(parties))}
	var all sync.WaitGroup
	for i, party := range parties {
		d.Logs[i].Party = party
		all.Go(func() {
			v, err := c.Parties.VerifyAudit(c.Context(), party)
			if d.Logs[i].V = v; err != nil {
				d.Logs[i].Why = c.Explain(err)
			}
		})
	}
	all.Wait()
	return c.Render(portal.View{Title: "Verification", Template: "audit/verification", Crumbs: []portal.Crumb{{Title: "Verification"}}, Data: d})
}
