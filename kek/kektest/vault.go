// Package kektest has vaults to test against: [Vault], a programmable one in
// memory that answers as a [kek.Client] does, without a network and so inside a
// testing/synctest bubble; and [Server], the same vault behind TLS with a token
// endpoint, which lies, stalls and refuses as scripted.
package kektest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// Tenant is the directory that every vault here belongs to unless told otherwise.
const Tenant = "72f988bf-0000-4000-8000-00000000c0de"

// suffix is the domain that the vaults' hosts lie under.
const suffix = ".vault.localhost"

// A Vault holds RSA-2048 keys in memory and has the methods of [kek.Client] with
// its errors. It is safe for concurrent use.
type Vault struct {
	t      testing.TB
	host   string
	tenant string

	mu           sync.Mutex
	keys         map[string]*key
	denied       bool
	gone         bool
	disconnected bool
	noFeed       bool
	cheap        bool
	counts       map[kek.Op]int
	tamper       map[kek.Op]func([]byte) []byte
	log          []kek.Change
	news         chan struct{} // closed at the next change
}

type key struct {
	deleted  bool
	versions []*version
}

type version struct {
	private *rsa.PrivateKey
	stand   cipher.AEAD // in place of private, in a cheap vault
	info    kek.KeyInfo
}

// NewVault returns an empty vault of the given name, at the name's host on port
// 8443, to which the platform has access.
func NewVault(t testing.TB, name string) *Vault { return newVault(t, name+suffix+":8443") }

func newVault(t testing.TB, host string) *Vault {
	return &Vault{t: t, host: host, tenant: Tenant, keys: make(map[string]*key), counts: make(map[kek.Op]int),
		tamper: make(map[kek.Op]func([]byte) []byte), news: make(chan struct{})}
}

// Host returns the vault's host and port.
func (v *Vault) Host() string { return v.host }

// Policy returns a policy that allows this vault.
func (v *Vault) Policy() kek.Policy {
	_, domain, _ := strings.Cut(v.host, ".")
	return kek.Policy{Suffixes: []string{"." + domain}}
}

// BelongTo moves the vault to another directory.
func (v *Vault) BelongTo(tenant string) { v.change("", "moved", func() { v.tenant = tenant }) }

// Create makes a key with one version.
func (v *Vault) Create(name string) kek.KeyIdentifier {
	v.t.Helper()
	v.change(name, "created", func() { v.keys[name] = &key{versions: []*version{v.newVersion(name)}} })
	id, err := kek.ParseKeyIdentifier("https://"+v.host+"/keys/"+name, v.Policy())
	if err != nil {
		v.t.Fatal(err)
	}
	return id
}

// Rotate makes a new version of a key and returns it.
func (v *Vault) Rotate(name string) (kid kek.KID) {
	v.change(name, "rotated", func() {
		k := v.key(name)
		k.versions = append(k.versions, v.newVersion(name))
		kid = k.newest().info.KID
	})
	return kid
}

// Newest returns a key's newest version.
func (v *Vault) Newest(name string) kek.KID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.key(name).newest().info.KID
}

// Disable switches one version off.
func (v *Vault) Disable(kid kek.KID) { v.State(kid, func(k *kek.KeyInfo) { k.Enabled = false }) }

// Enable switches one version on.
func (v *Vault) Enable(kid kek.KID) { v.State(kid, func(k *kek.KeyInfo) { k.Enabled = true }) }

// State changes what the vault states about a version and goes by.
func (v *Vault) State(kid kek.KID, edit func(*kek.KeyInfo)) {
	v.change(kid.Name(), "updated", func() { edit(&v.version(kid).info) })
}

// SetEnabled switches every version of a key on or off.
func (v *Vault) SetEnabled(name string, enabled bool) {
	v.change(name, "updated", func() {
		for _, x := range v.key(name).versions {
			x.info.Enabled = enabled
		}
	})
}

// Delete soft-deletes a key with all its versions.
func (v *Vault) Delete(name string) { v.change(name, "deleted", func() { v.key(name).deleted = true }) }

// Recover undoes Delete.
func (v *Vault) Recover(name string) {
	v.change(name, "recovered", func() { v.key(name).deleted = false })
}

// Grant gives or takes the platform's role on every key.
func (v *Vault) Grant(granted bool) { v.change("", "roles", func() { v.denied = !granted }) }

// Remove deletes the whole vault, or brings it back.
func (v *Vault) Remove(gone bool) { v.change("", "vault", func() { v.gone = gone }) }

// Disconnect stops the vault from answering at all, or lets it answer again. The
// feed tells nothing of it.
func (v *Vault) Disconnect(disconnected bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.disconnected = disconnected
}

// WithoutFeed makes the vault a foreign one, which has no change feed.
func (v *Vault) WithoutFeed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.noFeed = true
}

// Cheap has the keys that are made from now on wrap by AES-256-GCM while they claim
// to be RSA-2048, for tests that wrap a million times and are not about RSA.
func (v *Vault) Cheap() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cheap = true
}

// Tamper puts every result of Wrap or Unwrap through a function; nil ends that.
func (v *Vault) Tamper(op kek.Op, with func([]byte) []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tamper[op] = with
}

// Count returns how often the vault was asked.
func (v *Vault) Count(op kek.Op) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts[op]
}

// Latest is [kek.Client.Latest].
func (v *Vault) Latest(ctx context.Context, tenant string, id kek.KeyIdentifier) (kek.KeyInfo, error) {
	return v.get(ctx, tenant, id.Vault(), id.Name(), "", id.URL())
}

// Get is [kek.Client.Get].
func (v *Vault) Get(ctx context.Context, tenant string, kid kek.KID) (kek.KeyInfo, error) {
	return v.get(ctx, tenant, kid.Vault(), kid.Name(), kid.Version(), string(kid))
}

func (v *Vault) get(ctx context.Context, tenant, host, name, ver, subject string) (kek.KeyInfo, error) {
	x, a := v.ask(ctx, tenant, host, kek.OpGet, name, ver)
	if a != nil {
		return kek.KeyInfo{}, a.Fault(subject)
	}
	return x.info, nil
}

// Wrap is [kek.Client.Wrap].
func (v *Vault) Wrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, share []byte) ([]byte, error) {
	if len(share) != kek.ShareSize || alg != kek.RSAOAEP256 {
		return nil, fault.New(fault.InvalidArgument, "not a share, or not RSA-OAEP-256")
	}
	return v.operate(ctx, tenant, kid, kek.OpWrap, share)
}

// Unwrap is [kek.Client.Unwrap].
func (v *Vault) Unwrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, wrapped []byte) ([]byte, error) {
	if alg != kek.RSAOAEP256 {
		return nil, fault.New(fault.InvalidArgument, "not RSA-OAEP-256")
	}
	return v.operate(ctx, tenant, kid, kek.OpUnwrap, wrapped)
}

func (v *Vault) operate(ctx context.Context, tenant string, kid kek.KID, op kek.Op, in []byte) ([]byte, error) {
	x, a := v.ask(ctx, tenant, kid.Vault(), op, kid.Name(), kid.Version())
	if a != nil {
		return nil, a.Fault(string(kid))
	}
	out, a := x.operate(op, in)
	if a != nil {
		return nil, a.Fault(string(kid))
	}
	v.mu.Lock()
	tamper := v.tamper[op]
	v.mu.Unlock()
	if tamper != nil {
		out = tamper(out)
	}
	if op == kek.OpUnwrap && len(out) != kek.ShareSize {
		return nil, kek.Answer{From: kek.Vault, Op: op, Status: 200, Err: kek.ErrWrongLength}.Fault(string(kid))
	}
	return out, nil
}

// Changes is [kek.Client.Changes].
func (v *Vault) Changes(ctx context.Context, tenant string, id kek.KeyIdentifier, cursor string, wait time.Duration) (kek.Changes, error) {
	subject := "https://" + v.host
	v.mu.Lock()
	v.counts[kek.OpChanges]++
	refused := v.reach(tenant, id.Vault())
	noFeed := v.noFeed
	v.mu.Unlock()
	switch {
	case refused != nil && refused.Status == 0:
		refused.Op = kek.OpChanges
		return kek.Changes{}, refused.Fault(subject)
	case refused != nil || noFeed:
		return kek.Changes{}, fault.Wrap(fault.KEKUnreachable, kek.ErrNoFeed, "The vault has no change feed.").About(subject)
	}
	return v.poll(ctx, cursor, wait)
}

func (v *Vault) poll(ctx context.Context, cursor string, wait time.Duration) (kek.Changes, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		v.mu.Lock()
		log, news := slices.Clone(v.log), v.news
		v.mu.Unlock()
		from, err := strconv.Atoi(cursor)
		reset := cursor != "" && (err != nil || from < 0 || from > len(log))
		if cursor == "" || reset {
			from = len(log)
		}
		out := kek.Changes{Cursor: strconv.Itoa(len(log)), Reset: reset, Changes: log[from:]}
		if cursor == "" || reset || len(out.Changes) > 0 {
			return out, nil
		}
		select {
		case <-news:
		case <-end.C:
			return out, nil
		case <-ctx.Done():
			return kek.Changes{}, kek.Answer{From: kek.Vault, Op: kek.OpChanges, Err: ctx.Err()}.Fault("https://" + v.host)
		}
	}
}

// ask decides about one request as Azure does: a disabled version still wraps, an
// expired one still unwraps.
func (v *Vault) ask(ctx context.Context, tenant, host string, op kek.Op, name, ver string) (*version, *kek.Answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counts[op]++
	no := func(status int, code string) (*version, *kek.Answer) {
		return nil, &kek.Answer{From: kek.Vault, Op: op, Status: status, Code: code}
	}
	if err := ctx.Err(); err != nil {
		return nil, &kek.Answer{From: kek.Vault, Op: op, Err: err}
	}
	if a := v.reach(tenant, host); a != nil {
		a.Op = op
		return nil, a
	}
	if v.denied {
		return no(403, "ForbiddenByRbac")
	}
	k := v.keys[name]
	if k == nil || k.deleted {
		return no(404, "KeyNotFound")
	}
	x := k.newest()
	if ver != "" {
		i := slices.IndexFunc(k.versions, func(x *version) bool { return x.info.KID.Version() == ver })
		if i < 0 {
			return no(404, "KeyNotFound")
		}
		x = k.versions[i]
	}
	now := time.Now()
	switch {
	case op == kek.OpGet:
	case !slices.Contains(x.info.Ops, string(op)):
		return no(403, "KeyOperationForbidden")
	case op == kek.OpUnwrap && !x.info.Enabled:
		return no(403, "KeyDisabled")
	case op == kek.OpWrap && !x.info.NotBefore.IsZero() && now.Before(x.info.NotBefore):
		return no(403, "KeyNotYetValid")
	case op == kek.OpWrap && !x.info.Expires.IsZero() && !now.Before(x.info.Expires):
		return no(403, "KeyExpired")
	}
	c := *x
	return &c, nil
}

// reach says why the vault cannot be asked at all. The caller holds the lock.
func (v *Vault) reach(tenant, host string) *kek.Answer {
	switch {
	case v.disconnected || host != v.host:
		return &kek.Answer{From: kek.Vault, Err: fmt.Errorf("kektest: nothing answers at %s", host)}
	case v.gone:
		return &kek.Answer{From: kek.Vault, Status: 404, Code: "VaultNotFound"}
	case !strings.EqualFold(tenant, v.tenant):
		return &kek.Answer{From: kek.Vault, Status: 401, Err: kek.ErrForeignTenant}
	}
	return nil
}

func (x *version) operate(op kek.Op, in []byte) (out []byte, a *kek.Answer) {
	var err error
	switch {
	case x.stand != nil && op == kek.OpWrap:
		out = x.stand.Seal(nil, nil, in, nil)
	case x.stand != nil:
		out, err = x.stand.Open(nil, nil, in, nil)
	case op == kek.OpWrap:
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &x.private.PublicKey, in, nil)
	default:
		out, err = rsa.DecryptOAEP(sha256.New(), nil, x.private, in, nil)
	}
	if err != nil {
		return nil, &kek.Answer{From: kek.Vault, Op: op, Status: 400, Code: "BadParameter"}
	}
	return out, nil
}

func (v *Vault) change(name, kind string, act func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	act()
	v.log = append(v.log, kek.Change{Key: name, Kind: kind})
	close(v.news)
	v.news = make(chan struct{})
}

func (v *Vault) key(name string) *key {
	k := v.keys[name]
	if k == nil {
		panic("kektest: no key " + name)
	}
	return k
}

func (v *Vault) version(kid kek.KID) *version {
	for _, x := range v.key(kid.Name()).versions {
		if x.info.KID == kid {
			return x
		}
	}
	panic("kektest: no version " + string(kid))
}

func (k *key) newest() *version { return k.versions[len(k.versions)-1] }

func (v *Vault) newVersion(name string) *version {
	id := make([]byte, 16)
	rand.Read(id)
	x := &version{info: kek.KeyInfo{
		KID:             kek.KID("https://" + v.host + "/keys/" + name + "/" + hex.EncodeToString(id)),
		Type:            "RSA",
		Size:            2048,
		Enabled:         true,
		RecoveryLevel:   "Recoverable",
		RecoverableDays: 90,
		Ops:             []string{"wrapKey", "unwrapKey"},
		Algorithm:       kek.RSAOAEP256,
		Modulus:         kek.FingerprintOf(id, nil),
	}}
	if v.cheap {
		x.stand = newStand(v.t)
		return x
	}
	x.private = takeKey(v.t)
	x.info.Modulus = kek.FingerprintOf(x.private.N.Bytes(), big.NewInt(int64(x.private.E)).Bytes())
	return x
}

func newStand(t testing.TB) cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	stand, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return stand
}

// idle are keys that no test holds just now: making one is slow.
var idle struct {
	sync.Mutex
	keys []*rsa.PrivateKey
}

func takeKey(t testing.TB) *rsa.PrivateKey {
	idle.Lock()
	defer idle.Unlock()
	var k *rsa.PrivateKey
	if n := len(idle.keys); n > 0 {
		k, idle.keys = idle.keys[n-1], idle.keys[:n-1]
	} else {
		var err error
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		idle.Lock()
		defer idle.Unlock()
		idle.keys = append(idle.keys, k)
	})
	return k
}
