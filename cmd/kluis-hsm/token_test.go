//go:build cgo

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/softhsmtest"
)

// Faults come before a real library's answers, and its use is watched.
type faults struct {
	*pkcs11.Ctx
	mu     sync.Mutex
	next   map[string][]pkcs11.Error // by function; each is given once
	away   bool                      // no session opens
	loose  bool                      // new keys look extractable
	logins int
	opens  int
	inUse  map[pkcs11.SessionHandle]int
	shared bool // a session had two operations at once
}

func (f *faults) fail(function string, codes ...pkcs11.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = map[string][]pkcs11.Error{}
	}
	f.next[function] = codes
}

func (f *faults) take(function string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.next[function]) == 0 {
		return nil
	}
	e := f.next[function][0]
	f.next[function] = f.next[function][1:]
	return e
}

func (f *faults) count(n *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *n
}

func (f *faults) OpenSession(slot, flags uint) (pkcs11.SessionHandle, error) {
	f.mu.Lock()
	away := f.away
	f.opens++
	f.mu.Unlock()
	if away {
		return 0, pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED)
	}
	return f.Ctx.OpenSession(slot, flags)
}

func (f *faults) Login(s pkcs11.SessionHandle, user uint, pin string) error {
	f.mu.Lock()
	f.logins++
	f.mu.Unlock()
	return f.Ctx.Login(s, user, pin)
}

func (f *faults) DecryptInit(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, k pkcs11.ObjectHandle) error {
	if err := f.take("DecryptInit"); err != nil {
		return err
	}
	f.mu.Lock()
	if f.inUse == nil {
		f.inUse = map[pkcs11.SessionHandle]int{}
	}
	f.inUse[s]++
	f.shared = f.shared || f.inUse[s] > 1
	f.mu.Unlock()
	return f.Ctx.DecryptInit(s, m, k)
}

func (f *faults) Decrypt(s pkcs11.SessionHandle, c []byte) ([]byte, error) {
	defer func() {
		f.mu.Lock()
		f.inUse[s]--
		f.mu.Unlock()
	}()
	if err := f.take("Decrypt"); err != nil {
		f.Ctx.Decrypt(s, c) // its state is then as after any
		return nil, err
	}
	return f.Ctx.Decrypt(s, c)
}

func (f *faults) GetAttributeValue(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute) ([]*pkcs11.Attribute, error) {
	got, err := f.Ctx.GetAttributeValue(s, o, a)
	if f.loose && err == nil && a[0].Type == pkcs11.CKA_EXTRACTABLE {
		got[0].Value = []byte{1}
	}
	return got, err
}

// TestToken has one library for all its parts, since one is initialised once in a
// process's life.
func TestToken(t *testing.T) {
	soft := softhsmtest.New(t)
	t.Setenv("SOFTHSM2_CONF", soft.Conf)
	lib := pkcs11.New(soft.Module)
	if lib == nil {
		t.Fatal("SoftHSM does not load")
	}
	if err := lib.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer lib.Finalize()
	f := &faults{Ctx: lib}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	tok := newToken(config{label: soft.Label, pinFile: soft.PINFile, sessions: 4}, f, quiet)
	tok.steady = 0 // each loss is the first of its kind
	go tok.keepOpen(ctx)

	info := tok.do(t.Context(), &cryptoki.Request{Op: cryptoki.OpInfo}).Info
	if info.Serial == "" || info.Label != soft.Label {
		t.Fatalf("%+v", info)
	}
	id := cryptoki.NewKeyID()
	ask := func(r cryptoki.Request) cryptoki.Response {
		r.Token = info.Serial
		if r.Key == "" {
			r.Key = id
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return tok.do(ctx, &r)
	}
	made := ask(cryptoki.Request{Op: cryptoki.OpGenerate, Spec: &cryptoki.Spec{Kind: cryptoki.RSA, Bits: 2048}, Label: "test"})
	if made.Code != cryptoki.OK {
		t.Fatal(made)
	}
	public, err := x509.ParsePKIXPublicKey(made.Public)
	if err != nil {
		t.Fatal(err)
	}
	share := bytes.Repeat([]byte{7}, 32)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), share, nil)
	if err != nil {
		t.Fatal(err)
	}
	unwrap := func() cryptoki.Response {
		return ask(cryptoki.Request{Op: cryptoki.OpDecrypt, Algorithm: cryptoki.RSAOAEP256, Value: bytes.Clone(wrapped)})
	}
	good := func(t *testing.T, r cryptoki.Response) {
		t.Helper()
		if r.Code != cryptoki.OK || !bytes.Equal(r.Value, share) {
			t.Errorf("%s, %s, %x", r.Code, r.Detail, r.Value)
		}
	}
	good(t, unwrap())

	for _, code := range []pkcs11.Error{
		pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN,
	} {
		t.Run(code.Error(), func(t *testing.T) {
			before := f.count(&f.logins)
			f.fail("Decrypt", code)
			good(t, unwrap())
			if n := f.count(&f.logins) - before; n != 1 {
				t.Errorf("logged in %d times", n)
			}
		})
	}
	// Who is not logged in finds no private key: that is not its absence.
	t.Run("logged out behind its back", func(t *testing.T) {
		tok.mu.Lock()
		anchor := tok.now.anchor
		tok.mu.Unlock()
		if err := lib.Logout(anchor); err != nil {
			t.Fatal(err)
		}
		good(t, unwrap())
	})
	t.Run("stale handle", func(t *testing.T) {
		before := f.count(&f.logins)
		f.fail("DecryptInit", pkcs11.CKR_KEY_HANDLE_INVALID)
		good(t, unwrap())
		if f.count(&f.logins) != before {
			t.Error("logged in again for it")
		}
	})
	t.Run("unexplained failures", func(t *testing.T) {
		before := f.count(&f.logins)
		for range spoilLimit {
			f.fail("Decrypt", pkcs11.CKR_GENERAL_ERROR)
			if r := unwrap(); r.Code != cryptoki.Unavailable {
				t.Errorf("%s, %s", r.Code, r.Detail)
			}
		}
		good(t, unwrap())
		if n := f.count(&f.logins) - before; n != 1 {
			t.Errorf("logged in %d times", n)
		}
	})
	t.Run("refused", func(t *testing.T) {
		f.fail("DecryptInit", pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED)
		if r := unwrap(); r.Code != cryptoki.Refused {
			t.Errorf("%s, %s", r.Code, r.Detail)
		}
		good(t, unwrap())
	})
	t.Run("no raw operation", func(t *testing.T) {
		c, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), share, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.fail("DecryptInit", pkcs11.CKR_MECHANISM_INVALID)
		good(t, ask(cryptoki.Request{Op: cryptoki.OpDecrypt, Algorithm: cryptoki.RSAOAEP, Value: c}))
		f.fail("DecryptInit", pkcs11.CKR_MECHANISM_INVALID)
		if r := unwrap(); r.Code != cryptoki.Unsupported { // SoftHSM has no OAEP with SHA-256
			t.Errorf("%s, %s", r.Code, r.Detail)
		}
	})
	t.Run("away", func(t *testing.T) {
		f.mu.Lock()
		f.away = true
		f.mu.Unlock()
		f.fail("Decrypt", pkcs11.CKR_DEVICE_REMOVED)
		began := time.Now()
		if r := unwrap(); r.Code != cryptoki.Unavailable {
			t.Errorf("%s, %s", r.Code, r.Detail)
		}
		if d := time.Since(began); d > 2*grace {
			t.Errorf("waited %v", d)
		}
		if r := unwrap(); r.Code != cryptoki.Unavailable || time.Since(began) > 2*grace {
			t.Errorf("the second: %s", r.Code)
		}
		if r := tok.do(t.Context(), &cryptoki.Request{Op: cryptoki.OpInfo}); r.Code != cryptoki.OK || r.Info.Serial != "" || r.Info.Version != cryptoki.Version {
			t.Errorf("%+v", r)
		}
		f.mu.Lock()
		f.away, f.opens = false, 0
		f.mu.Unlock()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if r := unwrap(); r.Code == cryptoki.OK {
				break
			}
		}
		good(t, unwrap())
	})
	t.Run("one operation a session", func(t *testing.T) {
		var work sync.WaitGroup
		for range 32 {
			work.Go(func() { good(t, unwrap()) })
		}
		work.Wait()
		if f.shared {
			t.Error("two operations had one session")
		}
	})
	t.Run("id taken", func(t *testing.T) {
		if r := ask(cryptoki.Request{Op: cryptoki.OpGenerate, Spec: &cryptoki.Spec{Kind: cryptoki.AES, Bits: 256}}); r.Code != cryptoki.Exists {
			t.Errorf("%s, %s", r.Code, r.Detail)
		}
		good(t, unwrap())
	})
	t.Run("another token", func(t *testing.T) {
		r := tok.do(t.Context(), &cryptoki.Request{Op: cryptoki.OpDestroy, Token: "0000", Key: id})
		if r.Code != cryptoki.OtherToken {
			t.Errorf("%s", r.Code)
		}
		good(t, unwrap())
	})
	t.Run("cannot be read", func(t *testing.T) {
		secret := cryptoki.NewKeyID()
		if r := ask(cryptoki.Request{Op: cryptoki.OpGenerate, Key: secret, Spec: &cryptoki.Spec{Kind: cryptoki.AES, Bits: 256}}); r.Code != cryptoki.OK || r.Public != nil || r.Value != nil {
			t.Fatalf("%+v", r)
		}
		o, err := tok.ready(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, attributes := range map[cryptoki.KeyID][]uint{
			id:     {pkcs11.CKA_PRIVATE_EXPONENT, pkcs11.CKA_PRIME_1, pkcs11.CKA_EXPONENT_1, pkcs11.CKA_COEFFICIENT},
			secret: {pkcs11.CKA_VALUE},
		} {
			k, err := tok.object(o, o.anchor, key)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range attributes {
				if v, err := tok.attribute(o.anchor, k.private, a); !isCode(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
					t.Errorf("attribute %#x: %d bytes, %v", a, len(v), err)
				}
			}
			wrapper, err := tok.object(o, o.anchor, secret)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := lib.WrapKey(o.anchor, mechanism(pkcs11.CKM_AES_KEY_WRAP, nil), wrapper.private, k.private); err == nil {
				t.Errorf("wrapped out: %d bytes", len(v))
			}
			if err := lib.SetAttributeValue(o.anchor, k.private, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)}); err == nil {
				t.Error("it can be made extractable")
			}
		}
	})
	t.Run("a token that keeps keys badly", func(t *testing.T) {
		f.loose = true
		defer func() { f.loose = false }()
		for _, s := range []cryptoki.Spec{{Kind: cryptoki.EC, Curve: cryptoki.P256}, {Kind: cryptoki.AES, Bits: 128}} {
			id := cryptoki.NewKeyID()
			if r := ask(cryptoki.Request{Op: cryptoki.OpGenerate, Key: id, Spec: &s}); r.Code != cryptoki.Failed {
				t.Errorf("%s, %s", r.Code, r.Detail)
			}
			if r := ask(cryptoki.Request{Op: cryptoki.OpDestroy, Key: id}); r.Code != cryptoki.Missing {
				t.Errorf("the key stays: %s", r.Code)
			}
		}
	})
	t.Run("PIN file", func(t *testing.T) {
		for _, mode := range []os.FileMode{0o604, 0o644, 0o602} {
			if err := os.Chmod(soft.PINFile, mode); err != nil {
				t.Fatal(err)
			}
			if pin, err := readPIN(soft.PINFile); err == nil {
				t.Errorf("mode %o: %d bytes", mode, len(pin))
			}
		}
		os.Chmod(soft.PINFile, 0o400)
		if pin, err := readPIN(soft.PINFile); err != nil || string(pin) != soft.PIN {
			t.Error(err)
		}
	})
}
