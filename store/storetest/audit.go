package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// Audit checks an implementation of [audit.Store]. open returns a new, empty one.
func Audit(t *testing.T, open func(t *testing.T) audit.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	entry := func(i int) audit.Entry {
		return audit.Entry{
			Time:      at.Add(time.Duration(i) * time.Minute),
			Operation: "test/act", Outcome: audit.Allowed, Resource: fmt.Sprintf("/things/%d", i),
		}
	}
	appendN := func(t *testing.T, s audit.Store, n int) {
		t.Helper()
		update(t, s, func(tx audit.Tx) error {
			size, err := tx.AuditSize()
			for i := range n {
				err = errors.Join(err, tx.AppendAudit(entry(int(size)+i)))
			}
			return err
		})
	}

	t.Run("empty", func(t *testing.T) {
		view(t, open(t), func(tx audit.Tx) error {
			size, err := tx.AuditSize()
			records, err2 := tx.AuditRecords(math.MinInt64, 10)
			hashes, err3 := tx.AuditHashes(math.MinInt64, 10)
			checkpoints, err4 := tx.AuditCheckpoints()
			_, _, ok, err5 := tx.AuditSpan(time.Time{}, at)
			if size != 0 || len(records)+len(hashes)+len(checkpoints) != 0 || ok {
				t.Errorf("an empty log has %d entries, %d records, %d hashes, %d checkpoints, span %t",
					size, len(records), len(hashes), len(checkpoints), ok)
			}
			return errors.Join(err, err2, err3, err4, err5)
		})
	})

	t.Run("append", func(t *testing.T) {
		s := open(t)
		const n = 70
		for range 10 {
			appendN(t, s, n/10)
		}
		view(t, s, func(tx audit.Tx) error {
			size, err := tx.AuditSize()
			if err != nil || size != n {
				t.Fatalf("%d entries, %v; want %d", size, err, n)
			}
			records, err := tx.AuditRecords(math.MinInt64, 1000)
			if err != nil || len(records) != n {
				t.Fatalf("%d records, %v; want %d", len(records), err, n)
			}
			var hashes []audit.StoredHash
			reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
				for _, i := range indexes {
					out = append(out, tlog.Hash(hashes[i].Hash))
				}
				return out, nil
			})
			for i, r := range records {
				want, err := audit.Encode(entry(i))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(audit.Record{Sequence: int64(i), Time: entry(i).Time.Truncate(time.Microsecond), Body: want}, r); diff != "" {
					t.Errorf("record %d (-want +got):\n%s", i, diff)
				}
				nodes, err := tlog.StoredHashes(int64(i), want, reader)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range nodes {
					hashes = append(hashes, audit.StoredHash{Index: int64(len(hashes)), Hash: h[:]})
				}
			}
			got, err := tx.AuditHashes(0, 1000)
			if diff := cmp.Diff(hashes, got); diff != "" {
				t.Errorf("hashes (-want +got):\n%s", diff)
			}
			return err
		})
	})

	t.Run("pages", func(t *testing.T) {
		s := open(t)
		appendN(t, s, 10)
		view(t, s, func(tx audit.Tx) error {
			records, err := tx.AuditRecords(7, 2)
			if len(records) != 2 || records[0].Sequence != 7 || records[1].Sequence != 8 {
				t.Errorf("records from 7, two: %+v", records)
			}
			hashes, err2 := tx.AuditHashes(3, 4)
			if len(hashes) != 4 || hashes[0].Index != 3 || hashes[3].Index != 6 {
				t.Errorf("hashes from 3, four: %+v", hashes)
			}
			rest, err3 := tx.AuditRecords(9, 100)
			if len(rest) != 1 {
				t.Errorf("records from 9: %+v", rest)
			}
			return errors.Join(err, err2, err3)
		})
	})

	t.Run("span", func(t *testing.T) {
		s := open(t)
		appendN(t, s, 10)
		base := at.Truncate(time.Microsecond)
		for _, test := range []struct {
			name        string
			from, until time.Time
			first, last int64
			ok          bool
		}{
			{"all", time.Time{}, base.AddDate(1, 0, 0), 0, 9, true},
			{"from is included, until is not", base.Add(2 * time.Minute), base.Add(5 * time.Minute), 2, 4, true},
			{"between two entries", base.Add(61 * time.Second), base.Add(119 * time.Second), 0, 0, false},
			{"after", base.AddDate(1, 0, 0), base.AddDate(2, 0, 0), 0, 0, false},
		} {
			view(t, s, func(tx audit.Tx) error {
				first, last, ok, err := tx.AuditSpan(test.from, test.until)
				if ok != test.ok || ok && (first != test.first || last != test.last) {
					t.Errorf("%s: %d to %d, %t; want %d to %d, %t", test.name, first, last, ok, test.first, test.last, test.ok)
				}
				return err
			})
		}
	})

	t.Run("the log gives the time", func(t *testing.T) {
		s := open(t)
		before := time.Now().Truncate(time.Microsecond)
		update(t, s, func(tx audit.Tx) error {
			return tx.AppendAudit(audit.Entry{Operation: "test/act", Outcome: audit.Denied})
		})
		view(t, s, func(tx audit.Tx) error {
			records, err := tx.AuditRecords(0, 1)
			if err != nil {
				return err
			}
			e, err := audit.Parse(records[0].Body)
			if e.Time.Before(before) || e.Time.After(time.Now()) || !e.Time.Equal(records[0].Time) {
				t.Errorf("time %v, filed under %v", e.Time, records[0].Time)
			}
			return err
		})
	})

	t.Run("refusals", func(t *testing.T) {
		s := open(t)
		err := s.Update(t.Context(), func(tx audit.Tx) error { return tx.AppendAudit(audit.Entry{Operation: "test/act"}) })
		if fault.ReasonOf(err) != fault.AuditFailed {
			t.Errorf("entry without an outcome: %v; want AuditFailed", err)
		}
		err = s.View(t.Context(), func(tx audit.Tx) error { return tx.AppendAudit(entry(0)) })
		if fault.ReasonOf(err) != fault.AuditFailed {
			t.Errorf("append in a view: %v; want AuditFailed", err)
		}
		own := errors.New("the act fails")
		err = s.Update(t.Context(), func(tx audit.Tx) error {
			if err := tx.AppendAudit(entry(0)); err != nil {
				return err
			}
			return own
		})
		if !errors.Is(err, own) {
			t.Errorf("a failed act: %v; want its own error", err)
		}
		view(t, s, func(tx audit.Tx) error {
			size, err := tx.AuditSize()
			if size != 0 {
				t.Errorf("refused entries left %d", size)
			}
			return err
		})
	})

	t.Run("concurrent", func(t *testing.T) {
		s := open(t)
		const writers, each = 8, 25
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := s.Update(context.Background(), func(tx audit.Tx) error { return tx.AppendAudit(entry(w*each + i)) }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		view(t, s, func(tx audit.Tx) error {
			records, err := tx.AuditRecords(0, 1000)
			seen := map[string]bool{}
			for i, r := range records {
				if r.Sequence != int64(i) {
					t.Fatalf("record %d has the number %d", i, r.Sequence)
				}
				seen[string(r.Body)] = true
			}
			if len(seen) != writers*each {
				t.Errorf("%d different entries, want %d", len(seen), writers*each)
			}
			return err
		})
	})

	t.Run("checkpoints", func(t *testing.T) {
		s := open(t)
		put := func(serial int64) error {
			return s.Update(t.Context(), func(tx audit.Tx) error {
				return tx.PutAuditCheckpoint(audit.StoredCheckpoint{Serial: serial, Note: []byte{byte(serial)}})
			})
		}
		for _, serial := range []int64{0, 2, 1} {
			if err := put(serial); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(2); fault.ReasonOf(err) != fault.Conflict {
			t.Errorf("a serial number twice: %v; want Conflict", err)
		}
		update(t, s, func(tx audit.Tx) error { return tx.DeleteAuditCheckpoint(1) })
		view(t, s, func(tx audit.Tx) error {
			if got, ok, err := tx.NewestAuditCheckpoint(); !ok || got.Serial != 2 || err != nil {
				t.Errorf("the newest is %v, %v, %v; want number 2", got, ok, err)
			}
			got, err := tx.AuditCheckpoints()
			if diff := cmp.Diff([]audit.StoredCheckpoint{{Serial: 0, Note: []byte{0}}, {Serial: 2, Note: []byte{2}}}, got); diff != "" {
				t.Errorf("checkpoints (-want +got):\n%s", diff)
			}
			return err
		})
	})
}
