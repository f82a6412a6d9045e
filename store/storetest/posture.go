package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

// Posture checks an implementation of [history.Store]. open returns a new, empty one.
func Posture(t *testing.T, open func(t *testing.T) history.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	same := func(t *testing.T, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(posture.Finding{})); d != "" {
			t.Error(d)
		}
	}

	t.Run("scans", func(t *testing.T) {
		s := open(t)
		made := func(id, estate string, after time.Duration) history.Scan {
			return history.Scan{
				ID: id, Estate: estate, Source: "export:answers", Time: at.Add(after), Opened: 2, Resolved: 1,
				Summary: posture.Summary{InScope: 3, Coverage: 100.0 / 3, BySeverity: map[posture.Severity]int{posture.High: 2}},
				Gaps:    []posture.Gap{{What: "w", Why: "y"}}, Register: "aa",
			}
		}
		one, two, other := made("1", "a", 0), made("2", "a", time.Hour), made("3", "b", 2*time.Hour)
		update(t, s, func(tx history.Tx) error { return firstError(tx.AddScan(one), tx.AddScan(two), tx.AddScan(other)) })
		view(t, s, func(tx history.Tx) error {
			got, err := tx.ScanByID("2")
			same(t, got, two)
			if _, missing := tx.ScanByID("4"); !errors.Is(missing, fault.NotFound) {
				t.Errorf("no such scan: %v", missing)
			}
			for _, c := range []struct {
				estate string
				from   time.Time
				limit  int
				want   []history.Scan
			}{
				{"a", time.Time{}, 9, []history.Scan{two, one}},
				{"a", time.Time{}, 1, []history.Scan{two}},
				{"a", at.Add(time.Hour), 9, []history.Scan{two}},
				{"", at, 9, []history.Scan{other, two, one}},
				{"c", at, 9, nil},
			} {
				all, err := tx.Scans(c.estate, c.from, c.limit)
				if err != nil {
					return err
				}
				same(t, all, c.want)
			}
			return err
		})
	})

	t.Run("spans", func(t *testing.T) {
		s := open(t)
		span := func(id string, first, resolved time.Time) history.Span {
			return history.Span{
				Estate: "a", First: first, Last: first, Resolved: resolved,
				Finding: posture.Finding{ID: id, Control: "G1", Severity: posture.High, Evidence: posture.Evidence{Time: at}},
			}
		}
		gone, open1, back := span("x", at, at.Add(time.Hour)), span("y", at, time.Time{}), span("x", at.Add(2*time.Hour), time.Time{})
		elsewhere := span("x", at, time.Time{})
		elsewhere.Estate = "b"
		gone.Ended = history.Mended
		update(t, s, func(tx history.Tx) error {
			return firstError(tx.PutSpan(gone), tx.PutSpan(open1), tx.PutSpan(back), tx.PutSpan(elsewhere))
		})
		open1.Last, open1.Finding.Detail = at.Add(3*time.Hour), "changed"
		open1.Turns = []history.Turn{{Time: at, Status: history.Failing}, {Time: open1.Last, Status: history.Excepted}}
		update(t, s, func(tx history.Tx) error { return tx.PutSpan(open1) })
		list := func(since time.Time) (all []history.Span) {
			t.Helper()
			view(t, s, func(tx history.Tx) (err error) {
				all, err = tx.Spans("a", since)
				return err
			})
			return all
		}
		same(t, list(time.Time{}), []history.Span{open1, back})
		same(t, list(at.Add(time.Hour)), []history.Span{gone, open1, back})
		same(t, list(at.Add(time.Hour+time.Microsecond)), []history.Span{open1, back})
	})

	t.Run("selecting", func(t *testing.T) {
		s := open(t)
		var want []string
		update(t, s, func(tx history.Tx) error {
			for i := range 24 {
				f := posture.Finding{ID: string(rune('a' + i)), Control: []string{"CMK/T", "CMK/U", "G1", "cmk/T"}[i%4], Severity: posture.Severities[i%3], Resource: "/S/R_" + string(rune('A'+i)) + "%"}
				if i == 2 {
					f.Name = "Pay Roll"
				}
				if i%5 == 0 {
					f.Excepted = &posture.Exception{Owner: "ann"}
				}
				span := history.Span{Estate: []string{"a", "b"}[i%2], Finding: f, First: at.Add(time.Duration(i/6) * time.Hour), Last: at.Add(9 * time.Hour)}
				if i%7 == 0 {
					span.Resolved = at.Add(9 * time.Hour)
				}
				if err := tx.PutSpan(span); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(tx history.Tx) error {
			all, err := tx.SelectSpans(history.Selection{}, history.Place{}, 100)
			for _, span := range all {
				want = append(want, span.Estate+span.Finding.ID)
			}
			if got := strings.Join(want, " "); got != "aa ac ae ag ai ak am ao aq as au aw bb bd bf bh bj bl bn bp br bt bv bx" {
				t.Errorf("in the order %s", got)
			}
			for _, c := range []struct {
				sel  history.Selection
				want string
			}{
				{history.Selection{Estate: "b", Standing: history.Open}, "bb bd bf bj bl bn bp br bt bx"},
				{history.Selection{Standing: history.Over}, "aa ao bh bv"},
				{history.Selection{Standing: history.Accepted}, "ak au bf bp"},
				{history.Selection{Standing: history.NotAccepted, Estate: "a", AtLeast: posture.High}, "ae ag am aq as aw"},
				{history.Selection{Control: "CMK/T", AtLeast: posture.Critical}, "aa am"},
				{history.Selection{Control: "CMK/*", Estate: "b"}, "bb bf bj bn br bv"},
				{history.Selection{Resource: "r_c"}, "ac"},
				{history.Selection{Resource: "pay r"}, "ac"},
				{history.Selection{Order: history.Newest}, "bx bv bt aw au as br bp bn aq ao am bl bj bh ak ai ag bf bd bb ae ac aa"},
				{history.Selection{Order: history.Newest, Standing: history.Over}, "bv ao bh aa"},
				{history.Selection{Order: history.Worst, Standing: history.NotAccepted, Estate: "a", AtLeast: posture.High}, "ag am as ae aq aw"},
				{history.Selection{Resource: "%"}, strings.Join(want, " ")},
				{history.Selection{Resource: `\`}, ""},
				{history.Selection{Finding: "x"}, "bx"},
				{history.Selection{Estate: "c"}, ""},
			} {
				for _, limit := range []int{1, 5, 100} {
					var got []string
					var after history.Place
					for {
						page, err := tx.SelectSpans(c.sel, after, limit)
						if err != nil {
							return err
						}
						for _, span := range page {
							got = append(got, span.Estate+span.Finding.ID)
						}
						if len(page) < limit {
							break
						}
						after = page[len(page)-1].Place()
					}
					if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
						t.Errorf("%+v, %d at a time: %s", c.sel, limit, d)
					}
				}
				counts, err := tx.CountSpans(c.sel)
				if err != nil {
					return err
				}
				n := 0
				for _, m := range counts {
					n += m
				}
				if n != len(strings.Fields(c.want)) {
					t.Errorf("%+v: %d are counted", c.sel, n)
				}
			}
			return err
		})
	})

	t.Run("forgetting", func(t *testing.T) {
		s := open(t)
		update(t, s, func(tx history.Tx) error {
			return firstError(
				tx.AddScan(history.Scan{ID: "1", Estate: "a", Time: at}), tx.AddScan(history.Scan{ID: "2", Estate: "a", Time: at.Add(time.Hour), Register: "bb"}),
				tx.PutSpan(history.Span{Estate: "a", Finding: posture.Finding{ID: "x"}, First: at, Resolved: at}),
				tx.PutSpan(history.Span{Estate: "a", Finding: posture.Finding{ID: "y"}, First: at}),
				tx.PutRegister("aa", []byte(`{}`)), tx.PutRegister("bb", []byte(`{"keys":[]}`)), tx.PutRegister("bb", []byte(`{}`)),
				tx.Forget(at.Add(time.Hour)))
		})
		view(t, s, func(tx history.Tx) error {
			scans, err := tx.Scans("", time.Time{}, 9)
			if len(scans) != 1 || scans[0].ID != "2" {
				t.Errorf("scans left: %v", scans)
			}
			spans, serr := tx.Spans("a", at)
			if len(spans) != 1 || spans[0].Finding.ID != "y" {
				t.Errorf("spans left: %v", spans) // what stands is never forgotten
			}
			if body, err := tx.Register("bb"); string(body) != `{"keys":[]}` {
				t.Errorf("the register of a scan that is left: %s, %v", body, err)
			}
			if _, err := tx.Register("aa"); !errors.Is(err, fault.NotFound) {
				t.Errorf("a register that no scan has: %v", err)
			}
			return errors.Join(err, serr)
		})
	})
}
