// Package check collects what checks of stored data have looked at and found.
//
// A domain's check counts each thing that it looks at, says what is wrong with it
// and goes on. It returns an error only if it cannot go on. It is for one
// goroutine, on data that nobody else changes.
package check

import (
	"fmt"
	"slices"

	"github.com/kluis-io/kluis/fault"
)

// A Finding is something that is not as it should be, or that could not be
// checked.
type Finding struct {
	Party   string `json:"party"`             // whose data it is: login, vault, platform or governance
	Part    string `json:"part"`              // what kind of thing it is about
	Subject string `json:"subject,omitempty"` // ids alone, never names
	Text    string `json:"text"`
}

func (f Finding) String() string {
	if f.Subject == "" {
		return fmt.Sprintf("%s: %s: %s", f.Party, f.Part, f.Text)
	}
	return fmt.Sprintf("%s: %s %s: %s", f.Party, f.Part, f.Subject, f.Text)
}

// A Count says how much of one kind was checked.
type Count struct {
	Party   string `json:"party"`
	Part    string `json:"part"`
	Checked int64  `json:"checked"`
	Skipped int64  `json:"notChecked"` // because a vault did not open their scope's key
	Found   int64  `json:"findings"`
}

// maxFindings bounds how many findings, and how many notes, are spelled out.
const maxFindings = 1000

// A Report is what checks have found so far.
type Report struct {
	Counts   []Count   `json:"counts"`
	Findings []Finding `json:"findings"` // the first thousand
	Notes    []Finding `json:"notes"`    // what is no damage: not checked, or left for a sweep; the first thousand
	Total    int64     `json:"found"`    // how many findings there are
	Bytes    int64     `json:"bytes"`    // of sealed content that there are

	Party    string        `json:"-"` // of what is added from now on
	Progress func(n int64) `json:"-"` // told of every n bytes of content that were read; may be nil
}

func (r *Report) count(part string) *Count {
	i := slices.IndexFunc(r.Counts, func(c Count) bool { return c.Party == r.Party && c.Part == part })
	if i < 0 {
		i = len(r.Counts)
		r.Counts = append(r.Counts, Count{Party: r.Party, Part: part})
	}
	return &r.Counts[i]
}

// Checked counts one more thing of a kind.
func (r *Report) Checked(part string) { r.Add(part, 1) }

// Add counts n more things of a kind.
func (r *Report) Add(part string, n int64) { r.count(part).Checked += n }

// Skipped counts one more thing of a kind that could not be looked at.
func (r *Report) Skipped(part string) { r.count(part).Skipped++ }

// Found adds a finding about the thing with the id.
func (r *Report) Found(part, subject, format string, args ...any) {
	r.count(part).Found++
	r.Total++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{r.Party, part, subject, fmt.Sprintf(format, args...)})
	}
}

// Note adds something that is worth saying and no damage.
func (r *Report) Note(part, subject, format string, args ...any) {
	if len(r.Notes) < maxFindings {
		r.Notes = append(r.Notes, Finding{r.Party, part, subject, fmt.Sprintf(format, args...)})
	}
}

// Read tells the progress of n bytes that were read.
func (r *Report) Read(n int64) {
	if r.Progress != nil {
		r.Progress(n)
	}
}

// Text returns what an error says to people.
func Text(err error) string {
	if f := fault.As(err); f.Reason != fault.Internal && f.Detail != "" {
		return f.Detail
	}
	return err.Error()
}

// pageSize is how many rows are read in one transaction.
const pageSize = 200

// Pages calls each with every row that page returns: at most limit of those with
// ids above after, by id.
func Pages[Row any, ID ~string](page func(after ID, limit int) ([]Row, error), id func(Row) ID, each func(Row) error) error {
	for after := ID(""); ; {
		rows, err := page(after, pageSize)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := each(row); err != nil {
				return err
			}
		}
		if len(rows) < pageSize {
			return nil
		}
		after = id(rows[len(rows)-1])
	}
}
