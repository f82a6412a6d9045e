package history_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/check"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

// TestPages pages through many findings in the memory of one page.
func TestPages(t *testing.T) {
	n := effort.Of(2_000, 20_000, 100_000)
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	at := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	scan := &posture.Scan{Time: at}
	for i := range n {
		scan.Findings = append(scan.Findings, posture.Finding{
			ID: fmt.Sprintf("%016x", i), Control: "CMK/Microsoft.Storage/storageAccounts", Severity: posture.High, State: "fail",
			Resource: fmt.Sprintf("/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/sa%d", i), Detail: "customer-managed key: off",
		})
	}
	if _, err := history.Record(t.Context(), db.Posture(), "prod", "test", scan); err != nil {
		t.Fatal(err)
	}
	scan = nil
	const page = 500
	var after history.Place
	var before, now runtime.MemStats
	var most uint64
	runtime.GC()
	runtime.ReadMemStats(&before)
	seen, began := 0, time.Now()
	for {
		var got []history.Span
		if err := db.Posture().View(t.Context(), func(tx history.Tx) (err error) {
			got, err = tx.SelectSpans(history.Selection{Standing: history.Open, Control: "CMK/*"}, after, page)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		seen += len(got)
		if len(got) < page {
			break
		}
		after = got[page-1].Place()
		if seen%(20*page) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
		}
	}
	if seen != n {
		t.Errorf("%d of %d findings", seen, n)
	}
	if most > 16<<20 {
		t.Errorf("the heap has grown by %d MiB", most>>20)
	}
	t.Logf("%d findings in pages of %d: %s, heap grown by %d KiB at most", n, page, time.Since(began), most>>10)
}

// TestCheck finds what is damaged: a register that is missing or another, a span that ends
// before it begins.
func TestCheck(t *testing.T) {
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	at := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	sound := &posture.Scan{Time: at, Register: &posture.Register{}, Findings: []posture.Finding{{ID: "aa", Control: "G1"}}}
	if _, err := history.Record(t.Context(), db.Posture(), "prod", "test", sound); err != nil {
		t.Fatal(err)
	}
	look := func() (r check.Report) {
		t.Helper()
		if err := history.Check(t.Context(), db.Posture(), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look(); len(r.Findings) != 0 {
		t.Fatalf("sound rows: %+v", r.Findings)
	}
	if err := db.Posture().Update(t.Context(), func(tx history.Tx) error {
		for _, err := range []error{
			tx.AddScan(history.Scan{ID: "1", Estate: "prod", Time: at.Add(1), Register: "00"}), // there is none
			tx.PutRegister("11", []byte(`{"keys":[]}`)),
			tx.AddScan(history.Scan{ID: "2", Estate: "prod", Time: at.Add(2), Register: "11"}), // another's
			tx.PutSpan(history.Span{Estate: "prod", Finding: posture.Finding{ID: "bb"}, First: at, Last: at.Add(-time.Hour)}),
			tx.PutSpan(history.Span{Estate: "prod", Finding: posture.Finding{ID: "cc"}, First: at, Last: at.Add(time.Hour), Resolved: at}),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	r := look()
	for _, f := range r.Findings {
		got[f.Part]++
	}
	if got["scan"] != 2 || got["finding"] != 2 {
		t.Errorf("found %+v", r.Findings)
	}
}
