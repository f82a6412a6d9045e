// Package report writes a scan for people and for other programs: a table, JSON,
// CSV, SARIF, JUnit, OCSF, and one HTML file that needs nothing else.
package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

var writers = map[string]func(io.Writer, *posture.Scan) error{
	"table": table, "json": indented, "csv": csvRows, "sarif": sarif, "junit": junit, "ocsf": ocsf, "html": html,
}

// Formats are the names of what Write writes.
func Formats() []string { return slices.Sorted(maps.Keys(writers)) }

// Write writes s in a format.
func Write(w io.Writer, format string, s *posture.Scan) error {
	write := writers[format]
	if write == nil {
		return fault.New(fault.InvalidArgument, fmt.Sprintf("there is no format %q: choose %s", format, strings.Join(Formats(), ", ")))
	}
	return write(w, s)
}

// printable keeps a name from moving the reader's cursor: it came from the estate
// that is judged.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func table(w io.Writer, s *posture.Scan) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Findings) > 0 {
		fmt.Fprintln(t, "FINDING\tSEVERITY\tCONTROL\tRESOURCE\tDETAIL")
	}
	for _, f := range s.Findings {
		severity := string(f.Severity)
		if f.Excepted != nil {
			severity = "excepted"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.ID[:8], severity, f.Control, printable(short(f.Resource)), printable(f.Detail))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	m := s.Summary
	_, err := fmt.Fprintf(w, "\n%d resources, %d in scope: %d compliant (%.1f%%), %d not, %d unknown, %d excepted\n%d out of scope, %d that no rule reaches, %d that cannot have a key\n",
		m.Resources, m.InScope, m.Compliant, m.Coverage, m.NonCompliant, m.Unknown, m.Excepted, m.OutOfScope, m.Unclassified, m.NotSupported)
	for _, g := range s.Gaps {
		if err == nil {
			_, err = fmt.Fprintf(w, "not read: %s: %s\n", printable(g.What), printable(g.Why))
		}
	}
	return err
}

// short is the end of a resource id, which tells people more than its beginning.
func short(id string) string {
	if i := strings.LastIndex(strings.ToLower(id), "/resourcegroups/"); i >= 0 {
		rest := id[i+len("/resourcegroups/"):]
		group, tail, _ := strings.Cut(rest, "/")
		_, tail, _ = strings.Cut(tail, "/")
		return group + "/" + tail
	}
	return id
}

func indented(w io.Writer, s *posture.Scan) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(s)
}

func csvRows(w io.Writer, s *posture.Scan) error {
	c := csv.NewWriter(w)
	c.Write([]string{"id", "severity", "state", "control", "title", "type", "resource", "detail", "mend", "remediable", "reversible", "dependants", "exception", "evidence", "sha256"})
	for _, f := range s.Findings {
		exception := ""
		if f.Excepted != nil {
			exception = f.Excepted.Owner + " until " + f.Excepted.Expires.Format(time.DateOnly) + ": " + f.Excepted.Reason
		}
		row := []string{
			f.ID, string(f.Severity), f.State, f.Control, f.Title, f.Type, f.Resource, f.Detail, f.Mend, f.Remediable,
			fmt.Sprint(f.Reversible), fmt.Sprint(f.Dependants), exception, f.Evidence.Path, f.Evidence.SHA256,
		}
		for i := range row {
			row[i] = Inert(row[i])
		}
		c.Write(row)
	}
	c.Flush()
	return c.Error()
}

// Inert keeps a spreadsheet from taking a cell for a formula
// (https://owasp.org/www-community/attacks/CSV_Injection).
func Inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
