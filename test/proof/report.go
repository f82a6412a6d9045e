package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// figures are the records' together.
func figures(records []record) string {
	var names []string
	counts, longest := map[string]int64{}, map[string]time.Duration{}
	for _, r := range records {
		for _, n := range r.Names {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
			if v, ok := r.Counts[n]; ok {
				add(counts, n, v)
			} else {
				longest[n] = max(longest[n], r.Longest[n])
			}
		}
	}
	var all []string
	for _, n := range names {
		text := strings.ReplaceAll(n, "-", " ")
		if v, ok := counts[n]; ok {
			all = append(all, fmt.Sprintf("%s %s", text, grouped(v)))
		} else {
			all = append(all, fmt.Sprintf("%s %s", text, longest[n]))
		}
	}
	return strings.Join(all, ", ")
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// report is docs/proof.md.
func report(s *state, all []Proof) string {
	var b strings.Builder
	b.WriteString("# Proof\n\nWritten by `make proof` from the tests' own output; do not edit it. `make proof EFFORT=short` takes minutes,\n" +
		"`EFFORT=medium` hours, and `make proof` days; each goes on where the last run stopped. Counts are summed over the rounds that count (of proofs that\n" +
		"chance has no part in, the newest), and times are the greatest of them. What is claimed, and what it was taken from, stands at each; a round that failed is told too.\n\n")
	var machines, commits []string
	for _, r := range s.Records {
		if !slices.Contains(machines, r.Machine) {
			machines = append(machines, r.Machine)
		}
		if !slices.Contains(commits, r.Commit) {
			commits = append(commits, r.Commit)
		}
	}
	if len(s.Records) > 0 {
		fmt.Fprintf(&b, "Taken from %s to %s, at %d commits, of which the last is %s, on: %s. The machine was shared: times are upper bounds. "+
			"A commit that the history does not hold was measured before it was put on top of others.\n\n",
			s.Records[0].Began.Format(time.DateOnly), s.Records[len(s.Records)-1].Began.Format(time.DateOnly),
			len(commits), commits[len(commits)-1], strings.Join(machines, "; "))
	}
	b.WriteString("| proof | promise | found | rounds | time |\n|---|---|---|---|---|\n")
	for _, p := range all {
		good, bad := p.of(s)
		found := figures(good)
		switch {
		case len(good)+len(bad) == 0:
			found = "**not run yet**"
		case len(good) == 0:
			found = "**does not hold yet**"
		case found == "":
			found = "holds"
		}
		rounds := fmt.Sprint(len(good))
		if len(bad) > 0 {
			rounds += fmt.Sprintf(", **and %d failed**", len(bad))
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s |\n", p.Name, p.Name, p.Promise, found, rounds, spent(append(good, bad...)))
	}
	for _, p := range all {
		good, bad := p.of(s)
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nLeft out: %s.\n", p.Name, p.How, p.LeftOut)
		if p.Goal != "" {
			fmt.Fprintf(&b, "Goal of a release: %s.\n", p.Goal)
		}
		steps := map[string][]record{}
		for _, r := range good {
			steps[r.Step] = append(steps[r.Step], r)
		}
		if len(steps) > 0 {
			b.WriteString("\n| step | found | rounds | time | last commit |\n|---|---|---|---|---|\n")
		}
		for _, name := range slices.Sorted(maps.Keys(steps)) {
			of := steps[name]
			fmt.Fprintf(&b, "| %s | %s | %d | %s | %s |\n", name, figures(of), len(of), spent(of), of[len(of)-1].Commit)
		}
		for _, r := range bad {
			fmt.Fprintf(&b, "\nFailed: %s, %s, at %s: `%s`\n", r.Step, r.Began.Format(time.DateTime), r.Commit, r.Command)
		}
		var skipped []string
		for _, r := range good {
			for _, s := range r.Skipped {
				if !slices.Contains(skipped, s) {
					skipped = append(skipped, s)
				}
			}
		}
		for _, s := range skipped {
			fmt.Fprintf(&b, "\n%s\n", s)
		}
		if len(good) > 0 {
			fmt.Fprintf(&b, "\nLast run with: `%s`\n", good[len(good)-1].Command)
		}
	}
	return b.String()
}

// of returns a proof's records that count, those that hold and those that do not. A
// failure counts no more once the same step holds later.
func (p Proof) of(s *state) (good, bad []record) {
	held := map[string]bool{}
	for _, r := range slices.Backward(s.Records) {
		switch {
		case r.Proof != p.Name, p.Same && held[r.Step]:
		case r.OK:
			held[r.Step] = true
			good = append(good, r)
		case !held[r.Step]:
			bad = append(bad, r)
		}
	}
	slices.Reverse(good)
	slices.Reverse(bad)
	return good, bad
}

// spent is how long records took.
func spent(records []record) string {
	var sum float64
	for _, r := range records {
		sum += r.Seconds
	}
	return time.Duration(sum * float64(time.Second)).Round(time.Second).String()
}
