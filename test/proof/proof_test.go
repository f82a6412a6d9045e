package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	var r record
	r.read(`=== RUN   TestX
    x_test.go:12: proof: cuts=75 lost=0 slowest=1.5s points-in-all=62
    x_test.go:13: proof: cuts=5 slowest=900ms word=none
    x_test.go:14: SKIPPED: a disk is missing
fuzz: elapsed: 3s, execs: 10 (3/sec), new interesting: 1 (total: 2)
fuzz: elapsed: 6s, execs: 30 (3/sec), new interesting: 1 (total: 2)
`)
	want := record{
		Names:   []string{"cuts", "lost", "slowest", "points-in-all", "seconds", "inputs"},
		Counts:  map[string]int64{"cuts": 80, "lost": 0, "points-in-all": 62, "seconds": 6, "inputs": 30},
		Longest: map[string]time.Duration{"slowest": 1500 * time.Millisecond},
		Skipped: []string{"SKIPPED: a disk is missing"},
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Error(d)
	}
	if got, want := figures([]record{r, r}), "cuts 160, lost 0, slowest 1.5s, points in all 62, seconds 12, inputs 60"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A test that is skipped proves nothing.
func TestSkipped(t *testing.T) {
	for line, want := range map[string]bool{"--- PASS: TestX (1.00s)": true, "    --- SKIP: TestX/a_case (0.00s)": true, "--- SKIP: TestX (0.00s)": false} {
		s := Step{Name: "x", Args: []string{"echo", line}}
		if r := s.run(t.Context(), s.logFile(t.TempDir(), time.Now())); r.OK != want {
			t.Errorf("%s: it holds: %t", line, r.OK)
		}
	}
}

// What is done at a commit is not done again; a failure is told until the step holds.
func TestState(t *testing.T) {
	p := Proof{Name: "p"}
	s := &state{}
	add := func(step, commit string, ok bool) {
		s.Records = append(s.Records, record{Proof: "p", Step: step, Commit: commit, OK: ok})
	}
	add("a", "1", true)
	add("a", "1", true)
	add("a", "1"+changes, true)
	add("a", "2", false)
	add("b", "1", false)
	add("b", "2", true)
	file := filepath.Join(t.TempDir(), "sub", "state")
	if err := s.write(file); err != nil {
		t.Fatal(err)
	}
	s, err := readState(file)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int{"1": 2, "2": 0, "1" + changes: 0} {
		if got := s.done("p", "a", at); got != want {
			t.Errorf("%s: %d rounds are done, want %d", at, got, want)
		}
	}
	good, bad := p.of(s)
	if len(good) != 4 || len(bad) != 1 || bad[0].Step != "a" {
		t.Errorf("%d hold, %d do not: %+v", len(good), len(bad), bad)
	}
}

// Every test that a proof runs is there: one that is not would pass.
func TestStepsAreThere(t *testing.T) {
	t.Chdir("../..")
	for _, p := range proofs() {
		for _, s := range append(p.Short, p.Full...) {
			at := slices.Index(s.Args, "-run")
			if s.Args[0] != "go" || at < 0 {
				continue
			}
			files, _ := filepath.Glob(filepath.Join(s.Args[slices.IndexFunc(s.Args, func(a string) bool { return strings.HasPrefix(a, "./") })], "*_test.go"))
			pattern := regexp.MustCompile(s.Args[at+1])
			found := slices.ContainsFunc(files, func(f string) bool {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				return slices.ContainsFunc(testFunc.FindAllStringSubmatch(string(text), -1), func(m []string) bool { return pattern.MatchString(m[1]) })
			})
			if !found {
				t.Errorf("%s: there is no %s", p.Name, s.Name)
			}
		}
	}
	if n := len(fuzzing(time.Second)); n < 55 {
		t.Errorf("%d fuzz targets are found", n)
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

func TestReport(t *testing.T) {
	s := &state{Records: []record{{Proof: "power", Step: "cuts", Commit: "1", Machine: "m", OK: true, Names: []string{"cuts"}, Counts: map[string]int64{"cuts": 12345}}}}
	s.Records = append(s.Records, record{Proof: "soak", Step: "x", Commit: "1"})
	page := report(s, proofs())
	for _, want := range []string{"| cuts 12,345 |", "**not run yet**", "| **does not hold yet** | 0, **and 1 failed** |", "Left out: torn blocks"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in the report", want)
		}
	}
}
