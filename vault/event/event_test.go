package event_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/webhook"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/event"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A store is the events' part of the vault's database, with faults: a transaction
// may fail before it happens, or after.
type store struct {
	vault.Store
	before, after func() bool
}

var errFault = errors.New("fault")

func (s *store) View(ctx context.Context, fn func(event.Tx) error) error {
	return s.Store.View(ctx, func(tx vault.Tx) error { return fn(tx.(event.Tx)) })
}

func (s *store) Update(ctx context.Context, fn func(event.Tx) error) error {
	if s.before != nil && s.before() {
		return errFault
	}
	err := s.Store.Update(ctx, func(tx vault.Tx) error { return fn(tx.(event.Tx)) })
	if err == nil && s.after != nil && s.after() {
		return errFault
	}
	return err
}

// A receiver plays the other end.
type receiver struct {
	mu     sync.Mutex
	answer func(id string) (time.Duration, error)
	got    []event.CloudEvent
	tried  int
}

func (r *receiver) Send(_ context.Context, id string, body []byte) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	var e event.CloudEvent
	if err := json.Unmarshal(body, &e); err != nil || e.ID != id {
		return 0, fmt.Errorf("event %s: %s", id, body)
	}
	if r.answer != nil {
		if wait, err := r.answer(id); err != nil {
			return wait, err
		}
	}
	r.got = append(r.got, e)
	return 0, nil
}

// types returns what came since the last call, as type and subject.
func (r *receiver) types() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.got {
		all = append(all, strings.TrimPrefix(strings.TrimPrefix(string(e.Type), "io.kluis.vault."), "Microsoft.KeyVault.")+" "+e.Subject)
	}
	r.got = nil
	slices.Sort(all)
	return all
}

type world struct {
	*vaulttest.Fixture
	store  *store
	sinks  []event.Sink
	events *event.Events
}

func newWorld(t *testing.T, sinks ...event.Sink) *world {
	f := vaulttest.New(t)
	w := &world{Fixture: f, store: &store{Store: f.Store}, sinks: sinks}
	w.start(t)
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	var err error
	w.events, err = event.New(event.Config{
		Store: w.store, Sinks: w.sinks, Now: w.Now, Host: func(n vault.Name) string { return string(n) + ".vault.test" },
	})
	check(t, err)
}

// settle collects and delivers until nothing is due.
func (w *world) settle(t *testing.T) {
	t.Helper()
	check(t, w.Vaults.Sweep(t.Context(), w.Now())) // tells of expiries
	check(t, w.events.Collect(t.Context()))
	for _, s := range w.sinks {
		for {
			n, err := w.events.Deliver(t.Context(), s)
			check(t, err)
			if n == 0 {
				break
			}
		}
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestOverTheWire does everything that a vault can tell of, and reads it as a
// receiver behind HTTPS that checks signatures.
func TestOverTheWire(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	key, err := webhook.ParseSecret(secret)
	check(t, err)
	var mu sync.Mutex
	var bodies []string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := webhook.Verify(key, r.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		if r.Header.Get("Content-Type") != event.ContentType {
			t.Error(r.Header)
		}
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, string(body))
	}))
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	sender, err := webhook.New(webhook.Config{URL: srv.URL, Secret: secret, Roots: pool, ContentType: event.ContentType})
	check(t, err)

	w := newWorld(t, event.Sink{Name: "siem", Sender: sender})
	ctx := t.Context()
	w.Vault(t, "old")
	w.Key(t, "old", "before") // before anybody listened
	w.settle(t)
	if len(bodies) != 0 {
		t.Errorf("events of before: %v", bodies)
	}
	v := w.Vault(t, "kv1")
	exp, nbf := w.Now().Add(365*24*time.Hour).Truncate(time.Second), w.Now().Add(-time.Hour).Truncate(time.Second)
	first, err := w.Vaults.CreateKey(ctx, w.Officer, "kv1", "Tde", vault.KeySpec{Type: vault.RSA, KeyUpdate: vault.KeyUpdate{Expires: &exp, NotBefore: &nbf}})
	check(t, err)
	second, err := w.Vaults.RotateKey(ctx, w.Officer, "kv1", "tde")
	check(t, err)
	for _, on := range []bool{false, true} {
		_, err = w.Vaults.UpdateKey(ctx, w.Officer, "kv1", "tde", first.Version.Version, vault.KeyUpdate{Enabled: &on})
		check(t, err)
	}
	_, err = w.Vaults.DeleteKey(ctx, w.Officer, "kv1", "tde")
	check(t, err)
	_, err = w.Vaults.RecoverKey(ctx, w.Officer, "kv1", "tde")
	check(t, err)
	a := w.Grant(t, vaulttest.Caller(9), rbac.KeyVaultCryptoUser, v.Scope())
	w.Ungrant(t, a)
	policies := []vault.AccessPolicy{{Tenant: string(vaulttest.Tenant), Object: vaulttest.ID(9), Keys: []string{"get"}}}
	_, err = w.Vaults.PatchVault(ctx, w.Officer, vaulttest.Path("kv1"), vault.Spec{AccessPolicies: &policies})
	check(t, err)
	w.settle(t)

	type seen struct{ Type, ID, Version string }
	var keys, rest []seen
	ids := map[string]bool{}
	for _, b := range bodies {
		var e event.CloudEvent
		check(t, json.Unmarshal([]byte(b), &e))
		ids[e.ID] = true
		s := seen{string(e.Type), e.Data.ID, string(e.Data.Version)}
		if e.Data.ObjectType == "Key" {
			keys = append(keys, s)
		} else {
			rest = append(rest, s)
		}
	}
	one, two := string(first.Version.Version), string(second.Version.Version)
	at := "https://kv1.vault.test"
	same(t, keys, []seen{
		{"Microsoft.KeyVault.KeyNewVersionCreated", at + "/keys/Tde/" + one, one},
		{"Microsoft.KeyVault.KeyNewVersionCreated", at + "/keys/Tde/" + two, two},
		{"io.kluis.vault.KeyVersionDisabled", at + "/keys/Tde/" + one, one},
		{"io.kluis.vault.KeyVersionEnabled", at + "/keys/Tde/" + one, one},
		{"io.kluis.vault.KeyDeleted", at + "/keys/Tde/" + two, two},
		{"io.kluis.vault.KeyRecovered", at + "/keys/Tde/" + two, two},
	})
	same(t, rest, []seen{
		{"io.kluis.vault.VaultUpdated", at, ""},
		{"io.kluis.vault.RoleAssignmentCreated", at, ""},
		{"io.kluis.vault.RoleAssignmentDeleted", at, ""},
		{"io.kluis.vault.VaultUpdated", at, ""},
		{"Microsoft.KeyVault.VaultAccessPolicyChanged", at, ""},
	})
	if len(ids) != len(bodies) {
		t.Error("events share an id")
	}
	i := slices.IndexFunc(bodies, func(b string) bool { return strings.Contains(b, "KeyNewVersionCreated") })
	var e event.CloudEvent
	check(t, json.Unmarshal([]byte(bodies[i]), &e))
	same(t, bodies[i], fmt.Sprintf(`{"specversion":"1.0","id":"%s-2","source":"%s","type":"Microsoft.KeyVault.KeyNewVersionCreated","subject":"Tde",`+
		`"time":"%s","datacontenttype":"application/json","data":{"Id":"%s/keys/Tde/%s","VaultName":"kv1","ObjectType":"Key",`+
		`"ObjectName":"Tde","Version":"%s","NBF":%d,"EXP":%d}}`, v.ID, v.Scope(), e.Time.Format(time.RFC3339Nano), at, one, one, nbf.Unix(), exp.Unix()))
}

func TestPurgesAndLosses(t *testing.T) {
	r := &receiver{}
	w := newWorld(t, event.Sink{Name: "a", Sender: r})
	w.settle(t)
	v := w.Vault(t, "kv1")
	w.Key(t, "kv1", "k")
	_, err := w.Vaults.DeleteKey(t.Context(), w.Officer, "kv1", "k")
	check(t, err)
	check(t, w.Vaults.PurgeKey(t.Context(), w.Officer, "kv1", "k"))
	w.settle(t)
	same(t, r.types(), []string{"KeyDeleted k", "KeyNewVersionCreated k", "KeyPurged k", "VaultUpdated kv1"})

	// What the feed has dropped is owned up to.
	w.Key(t, "kv1", "k2")
	w.Key(t, "kv1", "k3")
	check(t, w.Store.Update(t.Context(), func(tx vault.Tx) error { return tx.TrimVaultChanges(v.ID, 5, time.Time{}) }))
	w.settle(t)
	same(t, r.types(), []string{"ChangesLost kv1", "KeyNewVersionCreated k3"})

	_, err = w.Vaults.DeleteVault(t.Context(), w.Officer, vaulttest.Path("kv1"))
	check(t, err)
	w.settle(t)
	check(t, w.Vaults.PurgeVault(t.Context(), w.Officer, vaulttest.Subscription, "kv1"))
	w.settle(t)
	w.settle(t)
	same(t, r.types(), []string{"VaultDeleted kv1", "VaultPurged kv1"})
}

func TestExpiry(t *testing.T) {
	r := &receiver{}
	w := newWorld(t, event.Sink{Name: "a", Sender: r, Types: []string{"Microsoft.KeyVault.KeyNearExpiry", "Microsoft.KeyVault.KeyEx*"}})
	w.Vault(t, "kv1")
	w.Key(t, "kv1", "k")
	expire := func(in time.Duration) {
		t.Helper()
		at := w.Now().Add(in)
		_, err := w.Vaults.UpdateKey(t.Context(), w.Officer, "kv1", "k", "", vault.KeyUpdate{Expires: &at})
		check(t, err)
		w.settle(t)
	}
	day := 24 * time.Hour
	expire(31 * day)
	same(t, r.types(), []string(nil))
	w.Advance(2 * day)
	w.settle(t)
	w.settle(t)
	same(t, r.types(), []string{"KeyNearExpiry k"})
	expire(10 * day) // another expiry is another event
	same(t, r.types(), []string{"KeyNearExpiry k"})
	w.Advance(11 * day)
	w.settle(t)
	w.settle(t)
	same(t, r.types(), []string{"KeyExpired k"})
	_, err := w.Vaults.RotateKey(t.Context(), w.Officer, "kv1", "k")
	check(t, err)
	expire(-time.Hour) // of the new version; never near, since nobody could have known
	same(t, r.types(), []string{"KeyExpired k"})
	check(t, w.events.Sweep(t.Context()))
	w.settle(t)
	same(t, r.types(), []string(nil))
}

func TestFilters(t *testing.T) {
	all, some := &receiver{}, &receiver{}
	w := newWorld(t, event.Sink{Name: "all", Sender: all}, event.Sink{Name: "some", Sender: some, Vaults: []vault.Name{"KV2"}, Types: []string{"io.kluis.vault.*"}})
	w.settle(t)
	w.Vault(t, "kv1")
	w.Vault(t, "kv2")
	w.Key(t, "kv2", "k")
	w.settle(t)
	same(t, all.types(), []string{"KeyNewVersionCreated k", "VaultUpdated kv1", "VaultUpdated kv2"})
	same(t, some.types(), []string{"VaultUpdated kv2"})
	if _, err := event.New(event.Config{Sinks: []event.Sink{{Name: "a"}, {Name: "a"}}}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Error(err)
	}
}

// TestOutage follows one event of a receiver that is away for a day, and the next
// of the same key, which must wait for it.
func TestOutage(t *testing.T) {
	r := &receiver{}
	wait, down := time.Duration(0), fault.New(fault.Unavailable, "It is down.")
	r.answer = func(string) (time.Duration, error) { return wait, down }
	w := newWorld(t, event.Sink{Name: "a", Sender: r, Types: []string{string(event.KeyNewVersionCreated)}})
	w.settle(t)
	w.Vault(t, "kv1")
	w.Key(t, "kv1", "k")
	w.Key(t, "kv1", "other")
	_, err := w.Vaults.RotateKey(t.Context(), w.Officer, "kv1", "k")
	check(t, err)
	w.settle(t)
	if r.tried != 2 {
		t.Errorf("%d attempts, want one of each key", r.tried)
	}
	w.Advance(time.Second)
	wait = 30 * time.Minute
	w.settle(t)
	if r.tried != 4 {
		t.Errorf("%d attempts after a second", r.tried)
	}
	w.Advance(29 * time.Minute)
	w.settle(t)
	if r.tried != 4 {
		t.Error("Retry-After was not waited for")
	}
	w.Advance(2 * time.Minute)
	w.settle(t)
	if r.tried != 6 {
		t.Error("after Retry-After nothing was tried")
	}
	waiting, err := event.Deliveries(t.Context(), w.store, false, 10)
	check(t, err)
	if len(waiting) != 3 || waiting[0].Attempts != 3 || waiting[0].Error != "Unavailable: It is down." || waiting[2].Attempts != 0 {
		t.Errorf("waiting: %+v", waiting)
	}
	wait = 0
	tried := r.tried
	for range 24 * 6 {
		w.Advance(10*time.Minute + time.Second)
		w.settle(t)
	}
	if n := r.tried - tried; n < 250 || n > 300 {
		t.Errorf("%d attempts in a day", n)
	}
	check(t, w.events.Sweep(t.Context()))
	dead, err := event.Deliveries(t.Context(), w.store, true, 10)
	check(t, err)
	if len(dead) != 3 || len(r.got) != 0 {
		t.Errorf("given up: %+v", dead)
	}
	down = nil
	r.answer = nil
	w.Key(t, "kv1", "k")
	w.settle(t)
	same(t, r.types(), []string{"KeyNewVersionCreated k"})
	w.Advance(31 * 24 * time.Hour)
	check(t, w.events.Sweep(t.Context()))
	if dead, err = event.Deliveries(t.Context(), w.store, true, 10); err != nil || len(dead) != 0 {
		t.Errorf("after a month: %+v, %v", dead, err)
	}

	r.answer = func(string) (time.Duration, error) { return 0, fault.New(fault.NotFound, "Gone.") }
	w.Key(t, "kv1", "k")
	w.settle(t)
	if dead, err = event.Deliveries(t.Context(), w.store, true, 10); err != nil || len(dead) != 1 || dead[0].Attempts != 1 {
		t.Errorf("a receiver that is gone: %+v, %v", dead, err)
	}
}

// TestNothingIsLost lets receivers, transactions and the process fail at random,
// and then checks that each change came, and in the order of its key.
func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 2))
		var mu sync.Mutex
		sometimes := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(4) == 0
		}
		a, b := &receiver{}, &receiver{}
		fail := func(string) (time.Duration, error) {
			if sometimes() {
				return 0, fault.New(fault.Unavailable, "No.")
			}
			return 0, nil
		}
		a.answer, b.answer = fail, fail
		w := newWorld(t, event.Sink{Name: "a", Sender: a}, event.Sink{Name: "b", Sender: b})
		w.settle(t)
		v := w.Vault(t, "kv1")
		for _, k := range []vault.KeyName{"k0", "k1", "k2"} {
			w.Key(t, "kv1", k)
		}
		w.store.before, w.store.after = sometimes, sometimes
		for range 30 {
			k := vault.KeyName(fmt.Sprintf("k%d", random.IntN(3)))
			on := random.IntN(2) == 0
			_, err := w.Vaults.UpdateKey(t.Context(), w.Officer, "kv1", k, "", vault.KeyUpdate{Enabled: &on})
			check(t, err)
			if err := w.events.Collect(t.Context()); err != nil && !errors.Is(err, errFault) {
				t.Fatal(err)
			}
			for _, s := range w.sinks {
				if _, err := w.events.Deliver(t.Context(), s); err != nil && !errors.Is(err, errFault) {
					t.Fatal(err)
				}
			}
			w.Advance(time.Second)
			w.start(t)
		}
		w.store.before, w.store.after = nil, nil
		a.answer, b.answer = nil, nil
		w.Advance(time.Hour)
		w.settle(t)
		var changes []vault.Change
		check(t, w.Store.View(t.Context(), func(tx vault.Tx) (err error) {
			changes, err = tx.VaultChanges(v.ID, 0, 1000)
			return err
		}))
		want := map[string][]string{}
		for _, c := range changes {
			want[string(c.Key)] = append(want[string(c.Key)], fmt.Sprintf("%s-%d", v.ID, c.Seq))
		}
		for _, r := range []*receiver{a, b} {
			got, seen := map[string][]string{}, map[string]bool{}
			for _, e := range r.got {
				if !seen[e.ID] { // as a receiver does, by the event's id
					line := ""
					if e.Data.ObjectType == "Key" {
						line = e.Data.ObjectName
					}
					got[line] = append(got[line], e.ID)
					seen[e.ID] = true
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("seed %d: %s", seed, d)
			}
		}
	}
}

func TestRunStops(t *testing.T) {
	r := &receiver{}
	w := newWorld(t, event.Sink{Name: "a", Sender: r})
	w.settle(t)
	w.Vault(t, "kv1")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.events.Run(ctx) }()
	for deadline := time.Now().Add(5 * time.Second); len(r.types()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing came")
		}
	}
	stop()
	<-done
}
