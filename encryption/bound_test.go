package encryption_test

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// TestBounds checks that a lease is no longer than whoever sets it lowest lets it be:
// once the vault no longer answers, nothing is read after that.
func TestBounds(t *testing.T) {
	const bound = 8 * time.Second
	row := func(set func(*encryption.Scope)) func(*world) {
		return func(w *world) {
			w.must(w.store.update(func(tx *memoryTx) error {
				s := tx.scopes[ws]
				s.TenantBound, s.Bound = 20*time.Second, 20*time.Second
				set(&s)
				tx.scopes[ws] = s
				return nil
			}))
		}
	}
	for name, set := range map[string]func(*world){
		"the tenant's": row(func(s *encryption.Scope) { s.TenantBound = bound }),
		"the admin's":  row(func(s *encryption.Scope) { s.Bound = bound }),
		"the key's owner's": func(w *world) {
			w.vault.State(w.vault.Newest("a"), func(k *kek.KeyInfo) { k.Tags = map[string]string{encryption.BoundTag: "8"} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ *testing.T, w *world) {
				w.settled("a")
				w.must(w.write(ws, lake, "1"))
				set(w)
				for range 40 { // until the lease has been renewed, twice
					w.must(w.read(ws, "1"))
					w.sleep(time.Second)
				}
				if got := w.status().Bound; got != bound {
					w.t.Fatalf("the status says %v", got)
				}
				w.vault.Disconnect(true)
				w.sleep(bound + time.Second)
				w.reason("reading", w.read(ws, "1"), fault.KEKUnreachable)
			})
		})
	}
}
