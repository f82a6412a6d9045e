package kek_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

func decode(t *testing.T, s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChanges(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	id := s.Create("k")
	start, err := c.Changes(t.Context(), kektest.Tenant, id, "", time.Minute)
	if err != nil || start.Cursor == "" || len(start.Changes) != 0 {
		t.Fatalf("Changes = %+v, %v", start, err)
	}
	go func() { s.Disable(s.Newest("k")) }()
	next, err := c.Changes(t.Context(), kektest.Tenant, id, start.Cursor, time.Minute)
	if err != nil || next.Reset || !slices.Equal(next.Changes, []kek.Change{{Key: "k", Kind: "updated"}}) || next.Cursor == start.Cursor {
		t.Errorf("Changes = %+v, %v", next, err)
	}
	if again, err := c.Changes(t.Context(), kektest.Tenant, id, next.Cursor, 0); err != nil || len(again.Changes) != 0 || again.Cursor != next.Cursor {
		t.Errorf("Changes of nothing = %+v, %v", again, err)
	}
	if lost, err := c.Changes(t.Context(), kektest.Tenant, id, "of another vault & more", 0); err != nil || !lost.Reset {
		t.Errorf("Changes since an unknown cursor = %+v, %v", lost, err)
	}
}

// TestFeedCannotRevoke: whatever the feed's path answers, it is no decision.
func TestFeedCannotRevoke(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	id := s.Create("k")
	for _, tc := range []struct {
		lie    kektest.Lie
		noFeed bool
	}{
		{kektest.Status(404, "NotFound"), true},
		{kektest.Status(400, "BadParameter"), true},
		{kektest.Status(403, "ForbiddenByRbac"), true},
		{kektest.Status(405, ""), true},
		{kektest.Raw(501, ""), true},
		{kektest.Status(401, "Unauthorized"), false},
		{kektest.Status(503, ""), false},
		{kektest.Throttle("1"), false},
		{kektest.Garbage(), false},
		{kektest.Raw(200, "{}"), false},
		{kektest.Raw(200, `{"cursor":"1","changes":[1]}`), false},
		{kektest.Cut(), false},
	} {
		s.Always(kektest.Changes, tc.lie)
		got, err := c.Changes(t.Context(), kektest.Tenant, id, "1", 0)
		if fault.ReasonOf(err) != fault.KEKUnreachable || errors.Is(err, kek.ErrNoFeed) != tc.noFeed || got.Cursor != "" {
			t.Errorf("Changes = %+v, %v; want no feed %v", got, err, tc.noFeed)
		}
	}
	s.Always(kektest.Changes, nil)
	s.ForgetTokens()
	s.Always(kektest.Token, kektest.OAuth(401, "invalid_client", ""))
	if _, err := c.Changes(t.Context(), kektest.Tenant, id, "1", 0); fault.ReasonOf(err) != fault.KEKUnreachable {
		t.Errorf("with a refused principal: %v", err)
	}
}

// TestForeignVaultGetsNoTokenForItsFeed: one that answers 404 at once is not shown
// who is asking.
func TestForeignVaultGetsNoTokenForItsFeed(t *testing.T) {
	s := kektest.New(t)
	id := s.Create("k")
	s.Always(kektest.Challenge, kektest.Raw(404, ""))
	if _, err := s.Client().Changes(t.Context(), kektest.Tenant, id, "", 0); !errors.Is(err, kek.ErrNoFeed) {
		t.Errorf("Changes: %v", err)
	}
	if n := len(s.Issued()); n != 0 {
		t.Errorf("%d tokens", n)
	}
}

// TestVaultInMemory is what other packages' tests rely on: the vault without a
// network answers as the client does, in virtual time.
func TestVaultInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := kektest.NewVault(t, "acme")
		id := v.Create("k")
		ctx := t.Context()
		info, err := v.Latest(ctx, kektest.Tenant, id)
		if err != nil || info.Usable(time.Now()) != nil {
			t.Fatalf("Latest = %+v, %v", info, err)
		}
		wrapped, err := v.Wrap(ctx, kektest.Tenant, info.KID, info.Algorithm, share)
		if err != nil {
			t.Fatal(err)
		}
		unwrap := func() fault.Reason {
			got, err := v.Unwrap(ctx, kektest.Tenant, info.KID, info.Algorithm, wrapped)
			if err == nil && string(got) != string(share) {
				t.Errorf("Unwrap = %q", got)
			}
			return fault.ReasonOf(err)
		}
		for _, tc := range []struct {
			act, undo func()
			reason    fault.Reason
		}{
			{func() { v.Disable(info.KID) }, func() { v.Enable(info.KID) }, fault.KEKRefused},
			{func() { v.SetEnabled("k", false) }, func() { v.SetEnabled("k", true) }, fault.KEKRefused},
			{func() { v.Delete("k") }, func() { v.Recover("k") }, fault.KEKRefused},
			{func() { v.Grant(false) }, func() { v.Grant(true) }, fault.KEKRefused},
			{func() { v.Remove(true) }, func() { v.Remove(false) }, fault.KEKVaultGone},
			{func() { v.Disconnect(true) }, func() { v.Disconnect(false) }, fault.KEKUnreachable},
			{func() { v.BelongTo("other") }, func() { v.BelongTo(kektest.Tenant) }, fault.KEKUnreachable},
			{func() { v.Tamper(kek.OpUnwrap, func(b []byte) []byte { return b[:31] }) },
				func() { v.Tamper(kek.OpUnwrap, nil) }, fault.KEKIntegrity},
			{func() { v.Rotate("k") }, func() {}, ""},
		} {
			tc.act()
			if got := unwrap(); got != tc.reason {
				t.Errorf("Unwrap: %q, want %q", got, tc.reason)
			}
			tc.undo()
			if got := unwrap(); got != "" {
				t.Errorf("Unwrap after %q was undone: %q", tc.reason, got)
			}
		}

		start, err := v.Changes(ctx, kektest.Tenant, id, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		go func() { time.Sleep(20 * time.Second); v.Delete("k") }()
		began := time.Now()
		got, err := v.Changes(ctx, kektest.Tenant, id, start.Cursor, time.Minute)
		if err != nil || time.Since(began) != 20*time.Second || !slices.Equal(got.Changes, []kek.Change{{Key: "k", Kind: "deleted"}}) {
			t.Errorf("Changes after %v = %+v, %v", time.Since(began), got, err)
		}
		v.WithoutFeed()
		if _, err := v.Changes(ctx, kektest.Tenant, id, "", 0); !errors.Is(err, kek.ErrNoFeed) {
			t.Errorf("Changes of a foreign vault: %v", err)
		}
	})
}
