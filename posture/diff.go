package posture

// A Change is what is different about one resource between two scans.
type Change struct {
	Resource string `json:"resource"`
	Before   string `json:"before"` // verdict, "" if it was not there
	After    string `json:"after"`
}

// A Diff is what has changed from one scan to the next.
type Diff struct {
	New      []Finding  `json:"new"`
	Gone     []Finding  `json:"gone"`
	Changed  []Change   `json:"changed"`
	Coverage [2]float64 `json:"coverage"` // before and after
}

// Compare returns what has changed from a to b.
func Compare(a, b *Scan) Diff {
	d := Diff{New: missing(b.Findings, a.Findings), Gone: missing(a.Findings, b.Findings), Coverage: [2]float64{a.Summary.Coverage, b.Summary.Coverage}}
	before := map[string]string{}
	for _, r := range a.Resources {
		before[r.ID] = r.Verdict
	}
	for _, r := range b.Resources {
		if was := before[r.ID]; was != r.Verdict {
			d.Changed = append(d.Changed, Change{r.ID, was, r.Verdict})
		}
		delete(before, r.ID)
	}
	for _, r := range a.Resources {
		if was, gone := before[r.ID]; gone {
			d.Changed = append(d.Changed, Change{Resource: r.ID, Before: was})
		}
	}
	return d
}

// missing returns the findings in all that are not in other. A finding that an
// exception covers now is as good as gone.
func missing(all, other []Finding) (out []Finding) {
	has := map[string]bool{}
	for _, f := range other {
		has[f.ID] = f.Excepted == nil
	}
	for _, f := range all {
		if f.Excepted == nil && !has[f.ID] {
			out = append(out, f)
		}
	}
	return out
}
