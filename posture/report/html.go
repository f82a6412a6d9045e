package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"sync"
	"time"

	"github.com/kluis-io/kluis/posture"
)

//go:embed report.html
var page string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("report").Funcs(template.FuncMap{
		"short": short, "quantity": quantity, "line": line,
		"day":  func(t time.Time) string { return t.Format("2 January 2006, 15:04 MST") },
		"date": func(d posture.Date) string { return d.Format(time.DateOnly) },
		"pct":  func(f float64) string { return fmt.Sprintf("%.1f", f) },
	}).Parse(page))
})

// mostFindings is how many findings the page lists: more of them nobody reads, and
// no browser likes. The other formats have them all.
const mostFindings = 5000

// A group is the findings of one severity.
type group struct {
	Severity posture.Severity
	Findings []posture.Finding
}

// html writes one page without script, that a browser shows and prints.
func html(w io.Writer, s *posture.Scan) error { return htmlPage(w, s, nil) }

func htmlPage(w io.Writer, s *posture.Scan, f *Figures) error {
	data := struct {
		*posture.Scan
		Groups   []group
		Excepted []posture.Finding
		ByType   []typeRow
		Left     int
		Heat     heat
		Figures  *Figures
	}{Scan: s, ByType: byType(s), Heat: heatOf(s), Figures: f}
	shown := 0
	for _, severity := range posture.Severities {
		g := group{Severity: severity}
		for _, f := range s.Findings {
			switch {
			case f.Severity != severity:
			case f.Excepted != nil:
				data.Excepted = append(data.Excepted, f)
			case shown >= mostFindings:
				data.Left++
			default:
				shown++
				g.Findings = append(g.Findings, f)
			}
		}
		if g.Findings != nil {
			data.Groups = append(data.Groups, g)
		}
	}
	return pageTemplate().Execute(w, data)
}

// A typeRow counts one type's verdicts.
type typeRow struct {
	Type                                                   string
	Resources, Compliant, Non, Unknown, Excepted, OutScope int
}

func byType(s *posture.Scan) []typeRow {
	index := map[string]int{}
	var rows []typeRow
	for _, r := range s.Resources {
		i, seen := index[r.Type]
		if !seen {
			i = len(rows)
			index[r.Type] = i
			rows = append(rows, typeRow{Type: r.Type})
		}
		row := &rows[i]
		row.Resources++
		switch r.Verdict {
		case posture.Compliant:
			row.Compliant++
		case posture.NonCompliant, posture.Unsupported:
			row.Non++
		case posture.Undecided, posture.Unclassified:
			row.Unknown++
		case posture.Excepted:
			row.Excepted++
		default:
			row.OutScope++
		}
	}
	return rows
}
