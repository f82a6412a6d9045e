package evidence

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/posture/report"
)

// Contents are what a pack is made of. What is not there is not in the pack, and its
// index says so.
type Contents struct {
	Scan   *posture.Scan
	Policy []byte    // as it was written; nil if there is none
	KPIs   kpi.Input // everything that the figures are reckoned from
	Window kpi.Window
	Extra  []File // of the logs, drills and the configuration
}

// A Clause is one of a framework, with what in the pack speaks to it.
type Clause struct {
	Framework string   `yaml:"framework" json:"framework"`
	Clause    string   `yaml:"clause" json:"clause"`
	Title     string   `yaml:"title" json:"title"`
	Controls  []string `yaml:"controls" json:"controls"`
	Files     []string `yaml:"files" json:"files"`
	Sure      string   `yaml:"sure" json:"sure"` // "read" or "not checked against the text"
}

//go:embed frameworks.yaml
var frameworksYAML []byte

var clauses = sync.OnceValue(func() (all []Clause) {
	if err := yaml.Unmarshal(frameworksYAML, &all); err != nil {
		panic(err) // the file is part of the program, and a test reads it
	}
	return all
})

// Clauses returns what frameworks ask for, and which controls and files speak to it.
func Clauses() []Clause { return clauses() }

// watches reports whether a clause is about a control.
func (c Clause) watches(control string) bool {
	for _, pattern := range c.Controls {
		if ok, _ := path.Match(strings.ReplaceAll(pattern, "/*", "*"), strings.ReplaceAll(control, "/", "")); ok {
			return true
		}
	}
	return false
}

const readme = `An evidence pack on the keys that protect an estate's data.

Verify it before you believe it, with the signing key's public part, which you have
from its owner and not from whoever gave you the pack:

    kluis posture evidence verify FILE --key evidence.key.pub

Without kluis: manifest.json lists the SHA-256 of every file; manifest.sig is a signed
note (golang.org/x/mod/sumdb/note, Ed25519) over the SHA-256 of manifest.json.

scope/statement.json   what was scanned and when, what could not be read, the counts
scope/policy.yaml      the classification rules, exceptions and owners, as written
inventory.csv          every resource, its classification, verdict, and where it was read
findings.csv           what does not hold; findings-history.csv: when it was first and last seen
exceptions.csv         what was accepted, by whom, why, until when
keys.csv, vaults.csv, grants.csv   the register of keys, their vaults, and who has which role
kpis.json              the figures, with formulae and inputs; kpis-input.json: what they are reckoned from
mappings.csv           clauses of frameworks, with the controls and files that speak to them; a clause whose
                       number is not checked against the text says so
controls.json          the controls that were applied
report.html, scan.json, sarif.json, ocsf.json   the same scan for people and for programs
audit/                 extracts of the audit logs, with checkpoints and proofs of inclusion
drills.json            the drills that a platform has on record
drills/, config/       drills' reports with their certificates; the configuration

inventory.csv has the SHA-256 of each resource's JSON as it was read; the JSON itself
is not in the pack.
`

// Files returns a pack's files.
func (c Contents) Files() ([]File, error) {
	s := c.Scan
	files := []File{{"README.txt", []byte(readme)}}
	var failed error
	add := func(name string, body []byte, err error) {
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, File{name, body})
	}
	asJSON := func(name string, v any) {
		body, err := json.MarshalIndent(v, "", "  ")
		add(name, append(body, '\n'), err)
	}
	asCSV := func(name string, rows [][]string) {
		body, err := table(rows)
		add(name, body, err)
	}
	asJSON("scope/statement.json", map[string]any{"scanned": s.Time, "summary": s.Summary, "notRead": s.Gaps, "policy": c.Policy != nil})
	if c.Policy != nil {
		add("scope/policy.yaml", c.Policy, nil)
	}
	asCSV("inventory.csv", inventory(s))
	asCSV("findings-history.csv", lives(c.KPIs.Spans))
	asCSV("exceptions.csv", exceptions(s))
	if g := s.Register; g != nil {
		asCSV("keys.csv", keys(g))
		asCSV("vaults.csv", vaults(g))
		asCSV("grants.csv", grants(g))
	}
	asJSON("kpis.json", kpi.Reckon(c.KPIs, c.Window))
	asJSON("kpis-input.json", c.KPIs)
	asJSON("drills.json", c.KPIs.Drills)
	asCSV("mappings.csv", mappings(s))
	asJSON("controls.json", posture.Controls())
	var page bytes.Buffer
	err := report.Page(&page, s, c.figures())
	add("report.html", page.Bytes(), err)
	for name, format := range map[string]string{"findings.csv": "csv", "scan.json": "json", "sarif.json": "sarif", "ocsf.json": "ocsf"} {
		var b bytes.Buffer
		err := report.Write(&b, format, s)
		add(name, b.Bytes(), err)
	}
	files = append(files, c.Extra...)
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return files, failed
}

// figures are what the page shows of the window, nil if nothing was kept in it.
func (c Contents) figures() *report.Figures {
	f := &report.Figures{KPIs: kpi.Reckon(c.KPIs, c.Window), Trend: c.KPIs.Between(c.Window)}
	if len(f.Trend) == 0 {
		return nil
	}
	return f
}

// Recompute reckons the figures of a pack's files again, and reports whether they
// are those that it has.
func Recompute(files []File) (same bool, err error) {
	var had kpi.Report
	var in kpi.Input
	for _, f := range files {
		switch f.Name {
		case "kpis.json":
			err = json.Unmarshal(f.Body, &had)
		case "kpis-input.json":
			err = json.Unmarshal(f.Body, &in)
		}
		if err != nil {
			return false, err
		}
	}
	a, err := json.Marshal(had)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(kpi.Reckon(in, had.Window))
	return bytes.Equal(a, b), err
}

func table(rows [][]string) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, r := range rows {
		for i := range r {
			r[i] = report.Inert(r[i])
		}
		if err := w.Write(r); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

func inventory(s *posture.Scan) [][]string {
	rows := [][]string{{"resource", "type", "location", "state", "verdict", "rule", "why", "label", "keys", "versionless", "source", "read", "path", "sha256"}}
	for _, r := range s.Resources {
		var names []string
		for _, k := range r.CMK.Keys {
			names = append(names, k.URL())
		}
		rows = append(rows, []string{
			r.ID, r.Type, r.Location, string(r.CMK.State), r.Verdict, r.Rule, r.Why, r.Label, strings.Join(names, " "), fmt.Sprint(r.CMK.Versionless),
			r.Evidence.Source, moment(r.Evidence.Time), r.Evidence.Path, r.Evidence.SHA256,
		})
	}
	return rows
}

func lives(all []history.Span) [][]string {
	rows := [][]string{{"estate", "finding", "control", "resource", "firstSeen", "lastSeen", "resolved", "ended"}}
	for _, s := range all {
		rows = append(rows, []string{s.Estate, s.Finding.ID, s.Finding.Control, s.Finding.Resource, moment(s.First), moment(s.Last), moment(s.Resolved), string(s.Ended)})
	}
	return rows
}

func exceptions(s *posture.Scan) [][]string {
	rows := [][]string{{"finding", "control", "resource", "owner", "reason", "until"}}
	for _, f := range s.Findings {
		if e := f.Excepted; e != nil {
			rows = append(rows, []string{f.ID, f.Control, f.Resource, e.Owner, e.Reason, e.Expires.Format(time.DateOnly)})
		}
	}
	return rows
}

func keys(g *posture.Register) [][]string {
	rows := [][]string{{"key", "version", "type", "bits", "enabled", "created", "expires", "rotation", "due", "deleted", "read", "dependants", "dependantsCertain", "owner", "procedure", "tested"}}
	for _, k := range g.Keys {
		versions := k.Versions
		if len(versions) == 0 {
			versions = []posture.VersionRecord{{}}
		}
		for _, v := range versions {
			rows = append(rows, []string{
				k.Key, v.Version, v.Kind, fmt.Sprint(v.Bits), known(v.Enabled), maybe(v.Created), maybe(v.Expires), k.Rotation, maybe(v.Due), fmt.Sprint(k.Deleted),
				fmt.Sprint(k.Read), fmt.Sprint(k.Dependants), fmt.Sprint(k.Certain), k.Owner, k.Procedure, k.Tested,
			})
		}
	}
	return rows
}

// known spells a setting, "unknown" if it was not read.
func known(b *bool) string {
	if b == nil {
		return "unknown"
	}
	return fmt.Sprint(*b)
}

func vaults(g *posture.Register) [][]string {
	rows := [][]string{{"vault", "host", "managedHsm", "deleted", "softDelete", "retentionDays", "purgeProtection", "roleBased", "firewall", "accessPolicies", "dependants"}}
	for _, v := range g.Vaults {
		rows = append(rows, []string{
			v.ID, v.Host, fmt.Sprint(v.HSM), fmt.Sprint(v.Deleted), known(v.SoftDelete), fmt.Sprint(v.RetentionDays), known(v.PurgeProtection),
			known(v.RBAC), known(v.Firewall), strings.Join(v.Policies, "; "), fmt.Sprint(v.Dependants),
		})
	}
	return rows
}

func grants(g *posture.Register) [][]string {
	rows := [][]string{{"principal", "principalType", "role", "scope"}}
	for _, r := range g.Grants {
		rows = append(rows, []string{r.Principal, r.Kind, r.Role, r.Scope})
	}
	return rows
}

// mappings says of each clause how many findings stand against it.
func mappings(s *posture.Scan) [][]string {
	rows := [][]string{{"framework", "clause", "title", "controls", "openFindings", "exceptedFindings", "files", "clauseNumber"}}
	for _, c := range Clauses() {
		open, excepted := 0, 0
		for _, f := range s.Findings {
			switch {
			case !c.watches(f.Control):
			case f.Excepted != nil:
				excepted++
			default:
				open++
			}
		}
		rows = append(rows, []string{c.Framework, c.Clause, c.Title, strings.Join(c.Controls, " "), fmt.Sprint(open), fmt.Sprint(excepted), strings.Join(c.Files, " "), c.Sure})
	}
	return rows
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func maybe(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
