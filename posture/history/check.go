package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/kluis-io/kluis/internal/check"
)

// Check checks that what is kept can be read, that every scan has its register as it was
// kept, and that spans end after they begin.
func Check(ctx context.Context, store Store, r *check.Report) error {
	return store.View(ctx, func(tx Tx) error {
		scans, err := tx.Scans("", time.Time{}, 1<<31-1)
		if err != nil {
			return err
		}
		estates, registers := map[string]bool{}, map[string]bool{}
		for _, s := range scans {
			r.Checked("scan")
			estates[s.Estate] = true
			if s.Register == "" || registers[s.Register] {
				continue
			}
			registers[s.Register] = true
			body, err := tx.Register(s.Register)
			if sum := sha256.Sum256(body); err != nil {
				r.Found("scan", s.ID, "Its register of keys cannot be read: %v", err)
			} else if hex.EncodeToString(sum[:]) != s.Register {
				r.Found("scan", s.ID, "Its register of keys is not the one that was kept.")
			}
		}
		for e := range estates {
			spans, err := tx.Spans(e, time.UnixMicro(1))
			if err != nil {
				return err
			}
			for _, s := range spans {
				r.Checked("finding")
				if s.Last.Before(s.First) || !s.Resolved.IsZero() && s.Resolved.Before(s.Last) {
					r.Found("finding", s.Finding.ID, "It ends before it begins.")
				}
			}
		}
		return nil
	})
}
