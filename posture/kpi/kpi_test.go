package kpi_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func day(n float64) time.Time { return start.Add(time.Duration(n * 24 * float64(time.Hour))) }

func window(from, until float64) kpi.Window { return kpi.Window{From: day(from), Until: day(until)} }

// value returns a KPI's value, and NaN if it is not measurable.
func value(t testing.TB, r kpi.Report, name string) float64 {
	t.Helper()
	k := r.Find(name)
	if k == nil || (k.Value == nil) == (k.Why == "") || k.Formula == "" {
		t.Fatalf("%s: %+v", name, k)
	}
	if k.Value == nil {
		return math.NaN()
	}
	return *k.Value
}

func figure(t testing.TB, r kpi.Report, name, input string) float64 {
	t.Helper()
	for _, f := range r.Find(name).Inputs {
		if f.Name == input {
			return f.Value
		}
	}
	return math.NaN()
}

// With nothing to go by no figure is told, least of all 0 or 100.
func TestNotMeasurable(t *testing.T) {
	for _, in := range []kpi.Input{
		{},
		{Scans: []history.Scan{{Estate: "e", Time: day(50)}}, LogFrom: day(50), DrillLog: true},
	} {
		for _, k := range kpi.Reckon(in, window(0, 30)).KPIs {
			if k.Value != nil || k.Why == "" {
				t.Errorf("%s is %v: %q", k.Name, k.Value, k.Why)
			}
		}
	}
	empty := kpi.Input{Scans: []history.Scan{{Estate: "e", Time: day(5), Register: "r"}}, Registers: map[string]*posture.Register{"r": {}}}
	for _, k := range kpi.Reckon(empty, window(0, 30)).KPIs {
		if k.Value != nil {
			t.Errorf("%s of an empty estate is %v", k.Name, *k.Value)
		}
	}
}

func TestCoverage(t *testing.T) {
	scan := func(estate string, at float64, compliant, scope, gaps int) history.Scan {
		return history.Scan{Estate: estate, Time: day(at), Gaps: make([]posture.Gap, gaps),
			Summary: posture.Summary{Compliant: compliant, InScope: scope, NonCompliant: scope - compliant, Keyed: scope, Followers: compliant, Keys: 4, KeysCertain: 1, Vaults: 2, Logged: 1, Overlaps: 3}, Register: "r"}
	}
	in := kpi.Input{Scans: []history.Scan{scan("a", 1, 1, 10, 0), scan("a", 9, 5, 10, 0), scan("b", 3, 0, 10, 2), scan("a", 40, 10, 10, 0)}}
	r := kpi.Reckon(in, window(0, 30))
	for name, want := range map[string]float64{"coverage": 25, "versionless": 25, "blastRadiusKnown": 25, "auditLogCoverage": 50, "dutiesJoined": 6} {
		if got := value(t, r, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := r.Find("coverage"); len(got.Series) != 3 || !got.Series[1].Part || len(got.Notes) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestBlocked(t *testing.T) {
	at := func(n float64, request, who, key string) kpi.Attempt {
		return kpi.Attempt{Time: day(n), Request: request, Principal: who, Key: key}
	}
	in := kpi.Input{LogFrom: day(-40), Attempts: []kpi.Attempt{
		at(1, "1", "eve", "k"), at(1, "1", "eve", "k"), at(1.01, "2", "eve", "k"), at(3, "3", "eve", "k"),
		at(35, "4", "mallory", "k"), at(35, "", "", "k"), at(35, "", "", "k"), at(-3, "5", "mallory", "k"), at(60, "6", "late", "k"),
	}}
	r := kpi.Reckon(in, window(0, 59))
	if got := value(t, r, "blockedAttempts"); got != 6 {
		t.Errorf("%v attempts", got)
	}
	for name, want := range map[string]float64{"episodes": 4, "principals": 3, "principalsNotSeenBefore": 2} {
		if got := figure(t, r, "blockedAttempts", name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	k := r.Find("blockedAttempts")
	var months []string
	for _, p := range k.Series {
		months = append(months, fmt.Sprint(p.Time.Format("2006-01"), " ", p.Value, " ", p.Part))
	}
	if d := cmp.Diff([]string{"2026-01 3 false", "2026-02 3 false"}, months); d != "" {
		t.Error(d)
	}
	if k.Groups[0].Name != "eve at k" || k.Groups[0].Count != 3 {
		t.Errorf("%+v", k.Groups)
	}
	in.LogFrom = day(20)
	if k := kpi.Reckon(in, window(0, 59)).Find("blockedAttempts"); len(k.Notes) != 2 {
		t.Errorf("a log that begins late: %q", k.Notes)
	}
}

// register is a scan's, of one key with versions made on some days, and a policy that
// wants a successor after a number of days.
func register(rotation string, after float64, made ...float64) *posture.Register {
	k := posture.KeyRecord{Key: "https://v/keys/k", Read: true, Rotation: rotation}
	for i, m := range made {
		created := day(m)
		v := posture.VersionRecord{Version: fmt.Sprint(i), Created: &created}
		if rotation == posture.RotatesByPolicy {
			v.Due = new(day(m + after))
		}
		k.Versions = append(k.Versions, v)
	}
	return &posture.Register{Keys: []posture.KeyRecord{k}}
}

func TestRotation(t *testing.T) {
	for _, tt := range []struct {
		name string
		last float64
		reg  *posture.Register
		want float64
		due  float64
	}{
		{"in time", 29, register("policy", 10, -5, 5, 15, 25), 100, 3},
		{"within the grace", 29, register("policy", 10, -5, 5.9, 30), 50, 2},
		{"late", 29, register("policy", 10, -5, 8, 18, 28), 100.0 * 2 / 3, 3},
		{"early", 29, register("policy", 10, -5, 1, 10, 19, 28), 100, 4},
		{"never", 29, register("policy", 10, -5), 0, 1},
		{"not due", 29, register("policy", 100, -5), math.NaN(), 0},
		{"due since an hour", 5.04, register("policy", 10, -5), math.NaN(), 0},
		{"no policy", 29, register("none", 0, -5), 0, 1},
		{"not read", 29, register("unknown", 0, -5), math.NaN(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := kpi.Input{Scans: []history.Scan{{Estate: "e", Time: day(tt.last), Register: "r"}}, Registers: map[string]*posture.Register{"r": tt.reg}}
			r := kpi.Reckon(in, window(0, 29.5))
			if got, due := value(t, r, "rotationAdherence"), figure(t, r, "rotationAdherence", "due"); !cmp.Equal(got, tt.want, cmpopts.EquateNaNs(), cmpopts.EquateApprox(0, 1e-9)) || due != tt.due {
				t.Errorf("%v of %v, want %v of %v: %+v", got, due, tt.want, tt.due, r.Find("rotationAdherence"))
			}
		})
	}
	gone := register("none", 0, -5)
	gone.Keys[0].Deleted = true
	in := kpi.Input{Scans: []history.Scan{{Estate: "e", Time: day(9), Register: "r"}}, Registers: map[string]*posture.Register{"r": gone}}
	if got := value(t, kpi.Reckon(in, window(0, 29)), "rotationAdherence"); !math.IsNaN(got) {
		t.Errorf("a deleted key counts: %v", got)
	}
}

func TestDrill(t *testing.T) {
	in := kpi.Input{DrillLog: true, Drills: []kpi.Drill{
		{Time: day(1), Scope: "a", Dark: 9 * time.Second}, {Time: day(2), Scope: "a", Dark: 200 * time.Millisecond}, {Time: day(1), Scope: "b", Dark: 300 * time.Millisecond},
	}}
	if got := value(t, kpi.Reckon(in, window(0, 9)), "drillTime"); got != 0.3 {
		t.Errorf("%v s", got)
	}
}

func TestRemediation(t *testing.T) {
	span := func(id string, first, resolved float64, end history.End, turns ...history.Turn) history.Span {
		s := history.Span{Estate: "e", Finding: posture.Finding{ID: id}, First: day(first), Ended: end, Turns: turns}
		if end != "" {
			s.Resolved = day(resolved)
		}
		return s
	}
	excepted := history.Turn{Time: day(4), Status: history.Excepted}
	in := kpi.Input{
		Scans: []history.Scan{{Estate: "e", Time: day(-9)}, {Estate: "e", Time: day(0)}, {Estate: "e", Time: day(20)}},
		Spans: []history.Span{
			span("a", 0, 2, history.Mended), span("b", 0, 4, history.Mended), span("c", 1, 11, history.Mended),
			span("a", 5, 6, history.Mended),  // it came back
			span("d", -9, 0, ""),             // open since the first scan
			span("e", 0, 25, history.Mended), // after the window
			span("f", 3, 9, history.Removed), // its resource is gone
			span("g", 3, 0, "", excepted),    // accepted
			span("h", 3, 9, history.Mended, history.Turn{Time: day(3), Status: history.Unknown}), // never known to fail
		},
	}
	r := kpi.Reckon(in, window(-1, 21))
	if got := value(t, r, "timeToRemediate"); got != 2*24 {
		t.Errorf("median %v h", got)
	}
	for name, want := range map[string]float64{
		"remediated": 4, "p90": 240, "open": 2, "openAgeOldest": 30 * 24, "openAgeMedian": 21 * 24, "reopened": 1, "excepted": 1, "removed": 1, "unknown": 1,
		"longestBetweenScans": 20 * 24, "medianWithOpen": 10 * 24,
	} {
		if got := figure(t, r, "timeToRemediate", name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// An estate lives at random, and every scan of it is recorded. What the store then
// gives is what the raw scans say, reckoned by hand; in any order, twice, through
// JSON; and what came after a window leaves its report alone.
func TestRecomputed(t *testing.T) {
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Posture()
	estates := 0
	rapid.Check(t, func(rt *rapid.T) {
		estates++
		estate := fmt.Sprint("estate ", estates)
		const resources = 4
		scans := rapid.IntRange(1, 12).Draw(rt, "scans")
		middle := rapid.IntRange(1, scans).Draw(rt, "middle")
		w := window(0, float64(middle))
		states := make([][]string, scans) // of each resource: "", "fail", "unknown", "excepted", "gone"
		var half kpi.Report
		for i := range scans {
			if i == middle {
				half = kpi.Reckon(load(t, store, estate), w)
			}
			states[i] = make([]string, resources)
			s := &posture.Scan{Time: day(float64(i) + 0.5), Register: register("policy", 3, float64(-1), float64(rapid.IntRange(0, 1).Draw(rt, "rotated")))}
			for n := range resources {
				state := rapid.SampledFrom([]string{"", "", "fail", "fail", "unknown", "excepted", "gone"}).Draw(rt, "state")
				states[i][n] = state
				id := fmt.Sprint("r", n)
				if state != "gone" {
					s.Resources = append(s.Resources, posture.Judgement{Resource: &posture.Resource{ID: id}})
					s.Summary.InScope++
				}
				f := posture.Finding{ID: id, Control: "CMK/x", Resource: id, State: "fail"}
				switch state {
				case "", "gone":
					s.Summary.Compliant++
					continue
				case "unknown":
					f.State = "unknown"
				case "excepted":
					f.Excepted = &posture.Exception{Owner: "ann"}
				}
				s.Findings = append(s.Findings, f)
			}
			if _, err := history.Record(t.Context(), store, estate, "test", s); err != nil {
				rt.Fatal(err)
			}
		}
		in := load(t, store, estate)
		whole := kpi.Reckon(in, w)
		if middle < scans {
			if d := cmp.Diff(half, whole); d != "" {
				rt.Fatalf("what came later changed the report: %s", d)
			}
		}

		// The raw scans, by hand.
		var closed []float64
		open := 0
		for n := range resources {
			since, status := -1, ""
			for i := range middle {
				switch now := states[i][n]; now {
				case "", "gone":
					if since >= 0 && now == "" && status == "fail" {
						closed = append(closed, float64(i-since)*24)
					}
					since = -1
				default:
					if since < 0 {
						since = i
					}
					status = now
				}
			}
			if since >= 0 && status == "fail" {
				open++
			}
		}
		slices.Sort(closed)
		want := math.NaN()
		if len(closed) > 0 {
			want = closed[(len(closed)+1)/2-1]
		}
		if got := value(t, whole, "timeToRemediate"); !cmp.Equal(got, want, cmpopts.EquateNaNs()) ||
			figure(t, whole, "timeToRemediate", "remediated") != float64(len(closed)) || figure(t, whole, "timeToRemediate", "open") != float64(open) {
			rt.Fatalf("median %v, want %v of %v and %d open: %v\n%+v", got, want, closed, open, states, whole.Find("timeToRemediate"))
		}

		// In another order, told twice, and read back from JSON.
		for i := range rapid.IntRange(0, 5).Draw(rt, "attempts") {
			in.Attempts = append(in.Attempts, kpi.Attempt{Time: day(float64(i)), Request: fmt.Sprint(i), Principal: "eve", Key: "k"})
		}
		in.LogFrom = start
		whole = kpi.Reckon(in, w)
		text, err := json.Marshal(in)
		if err != nil {
			rt.Fatal(err)
		}
		var again kpi.Input
		if err := json.Unmarshal(text, &again); err != nil {
			rt.Fatal(err)
		}
		again.Attempts = append(again.Attempts, again.Attempts...)
		again.Scans, again.Spans = rapid.Permutation(again.Scans).Draw(rt, "scans"), rapid.Permutation(again.Spans).Draw(rt, "spans")
		if d := cmp.Diff(whole, kpi.Reckon(again, w)); d != "" {
			rt.Fatal(d)
		}
		if at := float64(rapid.IntRange(0, 24*middle).Draw(rt, "cut hours")) / 24; at > 0 && at < float64(middle) {
			left, right := value(t, kpi.Reckon(in, window(0, at)), "blockedAttempts"), value(t, kpi.Reckon(in, window(at, float64(middle))), "blockedAttempts")
			if left+right != value(t, whole, "blockedAttempts") {
				rt.Fatalf("%v and %v attempts", left, right)
			}
		}
	})
}

// load reads an estate as the store has it.
func load(t *testing.T, store history.Store, estate string) kpi.Input {
	t.Helper()
	in, err := kpi.Load(t.Context(), store, estate)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestWindowNamed(t *testing.T) {
	w, err := kpi.WindowNamed("30d", day(31))
	if err != nil || !w.From.Equal(day(1)) || !w.Until.Equal(day(31)) {
		t.Errorf("%v %v", w, err)
	}
	if _, err := kpi.WindowNamed("5y", day(0)); err == nil {
		t.Error("no error")
	}
}
