package lake_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
)

// A gate is a domain that re-encryption comes to first, and that lets it wait.
type gate chan struct{}

func (g gate) Reencrypt(ctx context.Context, _ *encryption.Job) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A file is looked at under its old key, which is retired before it can be opened: the
// file has another by then.
func TestKeyRetiredUnderReader(t *testing.T) {
	p := start(t, t.TempDir())
	p.put(t, "Files/x", random(1000, 1))
	must(t, p.db.Close())
	open, armed := gate(make(chan struct{})), false
	p.watch = func(ctx context.Context, c store.Cost) {
		if armed && c.Err != nil && strings.Contains(c.Err.Error(), "is not loaded") {
			armed = false
			close(open)
			for len(p.behind(t)) > 0 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
	}
	p.open(t)
	scopes := encryption.NewScopes(p.ring, rbac.PlatformRoles, func(string) bool { return true }, open, p.Lake)
	u, err := p.ring.Use(t.Context(), wsID)
	must(t, err)
	old, err := u.Current(t.Context(), items[0].ID, encryption.ContentKey)
	must(t, err)
	must(t, scopes.Assign(t.Context(), p.caller, wsID, keyID))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); scopes.Run(ctx) }()
	defer func() { cancel(); <-done }()
	u, err = p.ring.Use(ctx, wsID)
	must(t, err)
	for { // until the item has its fresh key
		key, err := u.Current(ctx, items[0].ID, encryption.ContentKey)
		must(t, err)
		if key.ID() != old.ID() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	armed = true
	_, err = p.Stat(ctx, p.caller, at("Files/x"), lake.Conditions{})
	must(t, err)
	if armed {
		t.Error("no key had to be loaded: it proves nothing")
	}
}
