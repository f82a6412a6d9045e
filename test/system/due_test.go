package system_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

// TestCrashWhenDue crashes the server in what it does when a time has come that no test
// waits for: it purges what has been deleted for a week, and replaces the issuer's signing
// key after a quarter. The times in the databases are moved back instead. After a restart
// each is done, and once.
func TestCrashWhenDue(t *testing.T) {
	ctx := t.Context()
	base := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, base.data, base.port)
	base.connect(t)
	base.makeVault(ctx, t)
	deleted := []string{"first", "second"}
	for _, name := range append(deleted, "kept") {
		_, err := base.keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
		must(t, err)
	}
	for _, name := range deleted {
		_, err := base.keys.DeleteKey(ctx, name, nil)
		must(t, err)
	}
	signing := base.signingKeys(ctx, t)
	p.stop(t)
	sql := func(party string, schema store.Schema, statement string) {
		db, err := enginetest.Party(ctx, filepath.Join(base.data, party), schema)
		must(t, err)
		defer db.Close()
		must(t, db.Exec(ctx, statement))
	}
	sql("vault", store.VaultSchema, "UPDATE vault_key SET purge_at = 1 WHERE purge_at > 0")
	sql("login", store.DirectorySchema, fmt.Sprintf("UPDATE signing_key SET created = created - %d", identity.SigningKeyLife.Microseconds()))

	for _, point := range []string{"vault/sweep/after-purge", "identity/rotate-signing-key/after-commit"} {
		for _, action := range []string{"exit", "once", "pause"} {
			t.Run(point+"/"+action, func(t *testing.T) {
				s := base.copy(t)
				p := start(t, s.data, s.port, "KLUIS_FAILPOINTS="+point+"="+action)
				p.awaitStrike(t, point)
				p.kill()

				p = start(t, s.data, s.port)
				s.connect(t)
				eventually(ctx, t, 30*time.Second, func() error {
					left := 0
					for pager := s.keys.NewListDeletedKeyPropertiesPager(nil); pager.More(); {
						page, err := pager.NextPage(ctx)
						if err != nil {
							return err
						}
						left += len(page.Value)
					}
					if left > 0 {
						return fmt.Errorf("%d keys are not purged", left)
					}
					if now := s.signingKeys(ctx, t); len(now) != 2 || now[1] != signing[0] {
						return fmt.Errorf("signing keys %v, which were %v", now, signing)
					}
					return nil
				})
				_, err := s.keys.GetKey(ctx, "kept", "", nil)
				must(t, err)
				p.stop(t)
				s.fsck(t)
			})
		}
	}
}

// awaitStrike waits until the server has died of the failpoint that it is armed at, hangs
// there, or has failed there and says so.
func (p *process) awaitStrike(t *testing.T, point string) {
	t.Helper()
	eventually(t.Context(), t, 30*time.Second, func() error {
		if p.alive() && !p.paused.Load() && !strings.Contains(p.log.String(), "failpoint "+point) {
			return errNotDone("nothing passes " + point)
		}
		return nil
	})
}

// signingKeys are the ids of the keys that the issuer publishes, the one that signs first.
func (s *site) signingKeys(ctx context.Context, t *testing.T) (ids []string) {
	t.Helper()
	target := s.clients.Target
	r, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/%s/discovery/v2.0/keys", strings.TrimSuffix(target.Authority, "/"), target.TenantID), nil)
	must(t, err)
	answer, err := s.clients.HTTP.Do(r)
	must(t, err)
	defer answer.Body.Close()
	var set struct{ Keys []struct{ Kid string } }
	must(t, json.NewDecoder(answer.Body).Decode(&set))
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	return ids
}
