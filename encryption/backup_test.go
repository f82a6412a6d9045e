package encryption_test

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
)

// A version is needed by the backups that were made while it was in use, and safe to
// disable when none of those is left.
func TestVersionsThatBackupsNeed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		record := func(all ...encryption.Backup) {
			t.Helper()
			w.must(encryption.RecordBackups(t.Context(), w.store, "folder", all))
		}
		made := func() encryption.Backup {
			return encryption.Backup{Made: time.Now(), Begun: time.Now(), Ended: time.Now()}
		}
		rotate := func() {
			t.Helper()
			w.sleep(3 * time.Minute)
			next := w.vault.Rotate("a")
			for w.status().KID != next {
				w.must(w.read(ws, "o")) // a scope that nobody uses is looked after once a day
				w.sleep(time.Second)
			}
			w.sleep(3 * time.Minute)
		}
		want := func(what string, counts ...int) { // newest version first
			t.Helper()
			versions := w.status().Versions
			if len(versions) != len(counts) {
				t.Fatalf("%s: %d versions", what, len(versions))
			}
			for i, v := range versions {
				if v.Backups != counts[i] || v.SafeToDisable != (v.LiveWraps == 0 && counts[i] == 0) {
					t.Errorf("%s: version %d is needed by %d backups, want %d; safe to disable: %v", what, i, v.Backups, counts[i], v.SafeToDisable)
				}
			}
		}
		w.settled("a")
		w.must(w.write(ws, lake, "o"))
		w.sleep(3 * time.Minute)
		first := made()
		w.sleep(3 * time.Minute)
		record(first)
		rotate()
		second := made()
		record(first, second)
		want("one of each", 1, 1)
		rotate()
		want("the newest is in none", 0, 1, 1)
		underWay := encryption.Backup{Made: time.Now(), Begun: time.Now()}
		record(first, second, underWay)
		rotate()
		want("one that is under way may have any later version", 1, 1, 1, 1)
		record(second, encryption.Backup{Made: underWay.Made, Ended: time.Now().Add(-3 * time.Minute)})
		want("the first has gone", 1, 1, 1, 0)
		record(second)
		want("the second is left", 0, 0, 1, 0)
		record(encryption.Backup{Made: time.Now().Add(-1000 * time.Hour)})
		want("one that was found", 1, 1, 1, 1)
		record()
		want("none is left", 0, 0, 0, 0)
	})
}
