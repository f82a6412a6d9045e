package hsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/softhsmtest"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/hsm"
)

func TestMain(m *testing.M) { softhsmtest.Main(m) }

var ref = vault.Ref{Vault: "v", Key: "k", Version: "1"}

var share = bytes.Repeat([]byte{0x5a}, 32)

func open(tb testing.TB) (*hsm.Keys, *softhsmtest.Running, softhsmtest.Token) {
	tb.Helper()
	token := softhsmtest.New(tb)
	running := softhsmtest.Start(tb, token)
	return hsm.New("instance", envelope.NewKey(), running.Client(tb)), running, token
}

func place(tb testing.TB, keys *hsm.Keys, ref vault.Ref) []byte {
	tb.Helper()
	p, err := keys.Place(tb.Context(), ref)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func makeKey(tb testing.TB, keys *hsm.Keys, s vault.Shape) vault.Material {
	tb.Helper()
	m, err := keys.Generate(tb.Context(), ref, s, place(tb, keys, ref))
	if err != nil {
		tb.Fatalf("%+v: %v", s, err)
	}
	return m
}

// encrypt makes what a caller makes: with RSA keys, of the public part alone.
func encrypt(ctx context.Context, keys *hsm.Keys, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	if m.Type == vault.RSAHSM {
		public, err := vault.ParsePublic(m.Public)
		if err != nil {
			return nil, err
		}
		method, _ := alg.Method()
		return rsa.EncryptOAEP(method.Hash.New(), rand.Reader, public.(*rsa.PublicKey), value, nil)
	}
	out, err := keys.Encrypt(ctx, ref, m, vault.Input{Algorithm: alg, Value: value})
	return out.Value, err
}

func decrypt(ctx context.Context, keys *hsm.Keys, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	out, err := keys.Decrypt(ctx, ref, m, vault.Input{Algorithm: alg, Value: value})
	return out.Value, err
}

func sign(ctx context.Context, keys *hsm.Keys, m vault.Material, alg vault.Algorithm, digest []byte) ([]byte, error) {
	return keys.Sign(ctx, ref, m, vault.Input{Algorithm: alg, Value: digest})
}

// roundTrip wraps and unwraps, and meets refusal with an altered value.
func roundTrip(t *testing.T, keys *hsm.Keys, m vault.Material, alg vault.Algorithm) {
	t.Helper()
	c, err := encrypt(t.Context(), keys, m, alg, share)
	if err != nil {
		t.Errorf("%s: %v", alg, err)
		return
	}
	if bytes.Contains(c, share[:16]) {
		t.Errorf("%s: the share lies open", alg)
	}
	p, err := decrypt(t.Context(), keys, m, alg, c)
	if err != nil || !bytes.Equal(p, share) {
		t.Errorf("%s: %x, %v", alg, p, err)
	}
	for _, bad := range [][]byte{
		append([]byte{c[0] ^ 1}, c[1:]...), append(bytes.Clone(c[:len(c)-1]), c[len(c)-1]^1), c[:len(c)-8],
		append(bytes.Clone(c), make([]byte, 8)...), bytes.Repeat([]byte{0xff}, len(c)), {},
	} {
		if _, err := decrypt(t.Context(), keys, m, alg, bad); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s, altered: %v", alg, err)
		}
	}
}

func TestRSA(t *testing.T) {
	keys, _, _ := open(t)
	for _, bits := range []int{2048, 3072, 4096} {
		if bits == 4096 && os.Getenv("CI") == "" {
			t.Log("4096 bits are left to CI: the token takes seconds to make such a key")
			continue
		}
		m := makeKey(t, keys, vault.Shape{Type: vault.RSAHSM, Bits: bits})
		public, err := vault.ParsePublic(m.Public)
		if err != nil || m.Bits != bits || m.Type != vault.RSAHSM || public.(*rsa.PublicKey).N.BitLen() != bits {
			t.Fatalf("%+v, %v", m, err)
		}
		roundTrip(t, keys, m, vault.RSAOAEP256)
		roundTrip(t, keys, m, vault.RSAOAEP)
		for alg, h := range map[vault.Algorithm]crypto.Hash{"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512, "PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
			d := h.New()
			d.Write(share)
			digest := d.Sum(nil)
			sig := signed(t, keys, m, alg, digest)
			if alg[0] == 'R' {
				err = rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), h, digest, sig)
			} else {
				err = rsa.VerifyPSS(public.(*rsa.PublicKey), h, digest, sig, &rsa.PSSOptions{SaltLength: h.Size()})
			}
			if err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
		if _, err := decrypt(t.Context(), keys, m, vault.RSA15, make([]byte, bits/8)); fault.ReasonOf(err) != fault.NotSupported {
			t.Errorf("RSA1_5: %v", err)
		}
	}
}

// signed signs, and meets refusal with a digest of another length.
func signed(t *testing.T, keys *hsm.Keys, m vault.Material, alg vault.Algorithm, digest []byte) []byte {
	t.Helper()
	sig, err := sign(t.Context(), keys, m, alg, digest)
	if err != nil {
		t.Fatalf("%s: %v", alg, err)
	}
	if _, err := sign(t.Context(), keys, m, alg, digest[1:]); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("%s, a short digest: %v", alg, err)
	}
	return sig
}

func TestEC(t *testing.T) {
	keys, _, _ := open(t)
	d256, d384, d512 := sha256.Sum256(share), sha512.Sum384(share), sha512.Sum512(share)
	for curve, c := range map[vault.Curve]struct {
		alg    vault.Algorithm
		digest []byte
		size   int
	}{
		"P-256": {"ES256", d256[:], 32}, "P-256K": {"ES256K", d256[:], 32}, "P-384": {"ES384", d384[:], 48}, "P-521": {"ES512", d512[:], 66},
	} {
		m := makeKey(t, keys, vault.Shape{Type: vault.ECHSM, Curve: curve})
		sig := signed(t, keys, m, c.alg, c.digest)
		if len(sig) != 2*c.size {
			t.Errorf("%s: a signature of %d bytes", curve, len(sig))
		}
		if _, err := sign(t.Context(), keys, m, "PS256", d256[:]); fault.ReasonOf(err) != fault.NotSupported {
			t.Errorf("%s with PS256: %v", curve, err)
		}
		public, err := vault.ParsePublic(m.Public)
		if err != nil {
			t.Fatal(err)
		}
		shape, err := vault.ShapeOf(vault.ECHSM, public)
		if err != nil || shape.Curve != curve || m.Curve != curve {
			t.Errorf("%s: %+v, %+v, %v", curve, m, shape, err)
		}
		good := false
		switch p := public.(type) {
		case *ecdsa.PublicKey:
			good = ecdsa.Verify(p, c.digest, new(big.Int).SetBytes(sig[:c.size]), new(big.Int).SetBytes(sig[c.size:]))
		case *secp256k1.PublicKey:
			var r, s secp256k1.ModNScalar
			good = !r.SetByteSlice(sig[:32]) && !s.SetByteSlice(sig[32:]) && k1ecdsa.NewSignature(&r, &s).Verify(c.digest, p)
		}
		if !good {
			t.Errorf("%s: the signature does not verify", curve)
		}
	}
}

func TestOct(t *testing.T) {
	keys, _, _ := open(t)
	algs := map[int]vault.Algorithm{128: "A128KW", 192: "A192KW", 256: "A256KW"}
	for bits := range algs {
		m := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: bits})
		if m.Public != nil {
			t.Errorf("%d: a public part: %x", bits, m.Public)
		}
		for b, alg := range algs {
			if b == bits {
				roundTrip(t, keys, m, alg)
			} else if _, err := encrypt(t.Context(), keys, m, alg, share); fault.ReasonOf(err) != fault.NotSupported {
				t.Errorf("%d with %s: %v", bits, alg, err)
			}
		}
		// RFC 3394 is deterministic, and takes from 16 bytes on.
		for _, n := range []int{16, 24, 64, 512} {
			v := make([]byte, n)
			rand.Read(v)
			c, err := encrypt(t.Context(), keys, m, algs[bits], v)
			if err != nil || len(c) != n+8 {
				t.Fatalf("%d bytes: %d, %v", n, len(c), err)
			}
			if p, err := decrypt(t.Context(), keys, m, algs[bits], c); err != nil || !bytes.Equal(p, v) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		for _, n := range []int{0, 8, 15, 17} {
			if _, err := encrypt(t.Context(), keys, m, algs[bits], make([]byte, n)); fault.ReasonOf(err) != fault.InvalidArgument {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

// The other modes of AES, each way, with what must not pass.
func TestOctModes(t *testing.T) {
	keys, _, _ := open(t)
	for _, bits := range []int{128, 192, 256} {
		m := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: bits})
		name := func(suffix string) vault.Algorithm { return vault.Algorithm(fmt.Sprintf("A%d%s", bits, suffix)) }
		iv := make([]byte, 16)
		rand.Read(iv)
		for _, n := range []int{0, 1, 15, 16, 17, 32 << 10} {
			value := make([]byte, n)
			rand.Read(value)
			for _, in := range []vault.Input{
				{Algorithm: name("CBC"), IV: iv}, {Algorithm: name("CBCPAD"), IV: iv}, {Algorithm: name("GCM"), AAD: []byte("context")}, {Algorithm: name("GCM")},
			} {
				if in.Algorithm == name("CBC") && (n == 0 || n%16 != 0) {
					continue
				}
				in.Value = value
				out, err := keys.Encrypt(t.Context(), ref, m, in)
				if err != nil {
					t.Errorf("%s, %d bytes: %v", in.Algorithm, n, err)
					continue
				}
				back := vault.Input{Algorithm: in.Algorithm, Value: out.Value, IV: out.IV, Tag: out.Tag, AAD: in.AAD}
				if p, err := keys.Decrypt(t.Context(), ref, m, back); err != nil || !bytes.Equal(p.Value, value) {
					t.Errorf("%s, %d bytes: %v", in.Algorithm, n, err)
				}
				if len(out.Tag) == 0 {
					continue
				}
				if len(out.IV) != 12 || len(out.Tag) != 16 || len(out.Value) != n {
					t.Errorf("%s: nonce, value and tag of %d, %d and %d bytes", in.Algorithm, len(out.IV), len(out.Value), len(out.Tag))
				}
				for what, spoil := range map[string]func(*vault.Input){
					"tag":   func(i *vault.Input) { i.Tag = append([]byte{i.Tag[0] ^ 1}, i.Tag[1:]...) },
					"aad":   func(i *vault.Input) { i.AAD = append(bytes.Clone(i.AAD), 0) },
					"nonce": func(i *vault.Input) { i.IV = append([]byte{i.IV[0] ^ 1}, i.IV[1:]...) },
					"cut":   func(i *vault.Input) { i.Tag = i.Tag[:15] },
				} {
					bad := back
					spoil(&bad)
					if p, err := keys.Decrypt(t.Context(), ref, m, bad); fault.ReasonOf(err) != fault.InvalidArgument || p.Value != nil {
						t.Errorf("%s, another %s: %x, %v", in.Algorithm, what, p.Value, err)
					}
				}
			}
		}
		// A block that decrypts to no padding.
		in := vault.Input{Algorithm: name("CBC"), IV: iv, Value: make([]byte, 32)}
		out, err := keys.Encrypt(t.Context(), ref, m, in)
		if err != nil {
			t.Fatal(err)
		}
		in.Algorithm, in.Value = name("CBCPAD"), out.Value
		if _, err := keys.Decrypt(t.Context(), ref, m, in); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("no padding: %v", err)
		}
		// The key's size is not in this name.
		roundTrip(t, keys, m, vault.AESKeyWrap)
		for _, alg := range []vault.Algorithm{vault.AESKeyWrapPad, vault.HS256} {
			if _, err := keys.Sign(t.Context(), ref, m, vault.Input{Algorithm: alg, Value: share}); fault.ReasonOf(err) != fault.NotSupported {
				t.Errorf("%s: %v", alg, err)
			}
		}
	}
}

// A handle opens for its own instance, vault, key, version and root only.
func TestHandleIsBound(t *testing.T) {
	root := envelope.NewKey()
	running := softhsmtest.Start(t, softhsmtest.New(t))
	client := running.Client(t)
	keys := hsm.New("instance", root, client)
	m := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: 256})
	c, err := encrypt(t.Context(), keys, m, "A256KW", share)
	if err != nil {
		t.Fatal(err)
	}
	moved := vault.Ref{Vault: "w", Key: "l", Version: "2"}
	for name, try := range map[string]struct {
		keys *hsm.Keys
		ref  vault.Ref
	}{
		"instance": {hsm.New("other", root, client), ref},
		"root":     {hsm.New("instance", envelope.NewKey(), client), ref},
		"vault":    {keys, vault.Ref{Vault: "w", Key: "k", Version: "1"}},
		"key":      {keys, vault.Ref{Vault: "v", Key: "l", Version: "1"}},
		"version":  {keys, vault.Ref{Vault: "v", Key: "k", Version: "2"}},
	} {
		if _, err := try.keys.Decrypt(t.Context(), try.ref, m, vault.Input{Algorithm: "A256KW", Value: c}); fault.ReasonOf(err) != fault.Integrity {
			t.Errorf("another %s: %v", name, err)
		}
	}
	again, err := keys.Move(t.Context(), ref, moved, m, nil, place(t, keys, moved))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := keys.Decrypt(t.Context(), moved, again, vault.Input{Algorithm: "A256KW", Value: c}); err != nil || !bytes.Equal(out.Value, share) {
		t.Errorf("moved: %v", err)
	}
	// Each dies for itself.
	if err := keys.Destroy(t.Context(), ref, m); err != nil {
		t.Fatal(err)
	}
	if _, err := decrypt(t.Context(), keys, m, "A256KW", c); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("destroyed: %v", err)
	}
	if out, err := keys.Decrypt(t.Context(), moved, again, vault.Input{Algorithm: "A256KW", Value: c}); err != nil || !bytes.Equal(out.Value, share) {
		t.Errorf("moved, and the first destroyed: %v", err)
	}
	if _, err := keys.Move(t.Context(), ref, moved, m, nil, place(t, keys, moved)); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("moved when destroyed: %v", err)
	}
	pair := makeKey(t, keys, vault.Shape{Type: vault.ECHSM, Bits: 256, Curve: vault.P256})
	if pair, err = keys.Move(t.Context(), ref, ref, pair, nil, place(t, keys, ref)); err != nil {
		t.Fatal(err)
	}
	signed(t, keys, pair, "ES256", share)
}

// contents returns what lies in a folder and below.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		all[p], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The private part lies nowhere on the disk: whichever bytes of the token's files,
// of what a store keeps or of the helper's log are taken for a prime, none divides
// the modulus. What a store keeps of an AES key names it and holds no more.
func TestPrivatePartIsNotOnDisk(t *testing.T) {
	root := envelope.NewKey()
	token := softhsmtest.New(t)
	running := softhsmtest.Start(t, token)
	keys := hsm.New("instance", root, running.Client(t))
	m := makeKey(t, keys, vault.Shape{Type: vault.RSAHSM, Bits: 2048})
	roundTrip(t, keys, m, vault.RSAOAEP256)
	public, err := vault.ParsePublic(m.Public)
	if err != nil {
		t.Fatal(err)
	}
	n := public.(*rsa.PublicKey).N
	h, err := keys.Handle(ref, m)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, token.Dir)
	found := false
	for _, b := range files {
		found = found || bytes.Contains(b, n.Bytes())
	}
	if !found {
		t.Fatal("the modulus is not in the token's files, so this test looks at others")
	}
	files["what a store keeps"] = m.Sealed
	files["its handle"] = []byte(string(h.Token) + string(h.Key))
	files["the helper's log"] = []byte(running.Log())
	var p, rest big.Int
	for name, b := range files {
		for i := 0; i+128 <= len(b); i++ {
			for _, window := range [][]byte{b[i : i+128], reversed(b[i : i+128])} {
				p.SetBytes(window)
				if p.BitLen() == 1024 && rest.Mod(n, &p).Sign() == 0 {
					t.Fatalf("%s holds a prime of the key", name)
				}
			}
		}
		if bytes.Contains(b, []byte(token.PIN)) {
			t.Errorf("%s holds the PIN", name)
		}
	}
	oct := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: 256})
	if h, err = keys.Handle(ref, oct); err != nil || len(h.Key) != 32 || len(h.Token) != 16 {
		t.Errorf("%+v, %v", h, err)
	}
}

func reversed(b []byte) []byte {
	r := bytes.Clone(b)
	for i := range r {
		r[i] = b[len(b)-1-i]
	}
	return r
}

// A purged key is gone from the token, and the store's copy of the handle with it.
func TestDelete(t *testing.T) {
	keys, _, token := open(t)
	before := len(contents(t, token.Dir))
	for _, s := range []vault.Shape{{Type: vault.RSAHSM, Bits: 2048}, {Type: vault.ECHSM, Curve: vault.P256}, {Type: vault.OctHSM, Bits: 256}} {
		m := makeKey(t, keys, s)
		if len(contents(t, token.Dir)) == before {
			t.Fatal("the token's files do not show its keys")
		}
		use := func() error {
			var err error
			switch s.Type {
			case vault.ECHSM:
				_, err = sign(t.Context(), keys, m, "ES256", make([]byte, 32))
			case vault.RSAHSM:
				_, err = sign(t.Context(), keys, m, "RS256", make([]byte, 32))
			default:
				_, err = encrypt(t.Context(), keys, m, "A256KW", share)
			}
			return err
		}
		if err := use(); err != nil {
			t.Errorf("%s: %v", s.Type, err)
		}
		for range 2 { // the second time there is nothing left
			if err := keys.Destroy(t.Context(), ref, m); err != nil {
				t.Errorf("%s: %v", s.Type, err)
			}
			if err := use(); fault.ReasonOf(err) != fault.Integrity {
				t.Errorf("%s, destroyed: %v", s.Type, err)
			}
		}
		if n := token.Objects(t); n != 0 {
			t.Errorf("%s: the token still holds %d objects", s.Type, n)
		}
	}
}

// Killing the helper in the middle of work is not noticed by who works, and what
// was made before serves after.
func TestKilled(t *testing.T) {
	keys, running, _ := open(t)
	m := makeKey(t, keys, vault.Shape{Type: vault.RSAHSM, Bits: 2048})
	c, err := encrypt(t.Context(), keys, m, vault.RSAOAEP256, share)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var done atomic.Int64
	for range 8 {
		work.Go(func() {
			for ctx.Err() == nil {
				p, err := decrypt(t.Context(), keys, m, vault.RSAOAEP256, c)
				if err != nil || !bytes.Equal(p, share) {
					t.Errorf("after %d: %v", done.Load(), err)
					return
				}
				done.Add(1)
			}
		})
	}
	reach := func(n int64) {
		for end := time.Now().Add(20 * time.Second); done.Load() < n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Error("no progress")
				return
			}
		}
	}
	pids := map[int]bool{}
	for range 3 {
		reach(done.Load() + 20)
		pids[running.PID()] = true
		running.Signal(t, syscall.SIGKILL)
	}
	reach(done.Load() + 20)
	pids[running.PID()] = true
	stop()
	work.Wait()
	if len(pids) < 4 {
		t.Errorf("only %d helpers ran", len(pids))
	}
}

// No answer is never taken for a no.
func TestUnreachable(t *testing.T) {
	token := softhsmtest.New(t)
	running := softhsmtest.Start(t, token)
	client := cryptoki.New(cryptoki.Config{Socket: running.Socket, Patience: 3 * time.Second})
	defer client.Close()
	root := envelope.NewKey()
	keys := hsm.New("instance", root, client)
	m := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: 256})
	c, err := encrypt(t.Context(), keys, m, "A256KW", share)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("hangs", func(t *testing.T) {
		running.Signal(t, syscall.SIGSTOP)
		defer running.Signal(t, syscall.SIGCONT)
		var err error
		for end := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(end); { // it takes a moment to stop
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, err = decrypt(ctx, keys, m, "A256KW", c)
			cancel()
		}
		if fault.ReasonOf(err) != fault.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("again", func(t *testing.T) {
		if p, err := decrypt(t.Context(), keys, m, "A256KW", c); err != nil || !bytes.Equal(p, share) {
			t.Error(err)
		}
	})
	t.Run("not there", func(t *testing.T) {
		nowhere := cryptoki.New(cryptoki.Config{Socket: filepath.Join(t.TempDir(), "none"), Patience: 100 * time.Millisecond})
		if _, err := decrypt(t.Context(), hsm.New("instance", root, nowhere), m, "A256KW", c); fault.ReasonOf(err) != fault.Unavailable {
			t.Error(err)
		}
	})
	t.Run("another token", func(t *testing.T) {
		other := softhsmtest.Start(t, softhsmtest.New(t)).Client(t)
		if _, err := decrypt(t.Context(), hsm.New("instance", root, other), m, "A256KW", c); fault.ReasonOf(err) != fault.Unavailable {
			t.Error(err)
		}
	})
	t.Run("wrong PIN", func(t *testing.T) {
		locked := token
		locked.PINFile = filepath.Join(t.TempDir(), "pin")
		if err := os.WriteFile(locked.PINFile, []byte("0000"), 0o600); err != nil {
			t.Fatal(err)
		}
		wrong := softhsmtest.Start(t, locked)
		k := hsm.New("instance", root, wrong.Client(t))
		if _, err := decrypt(t.Context(), k, m, "A256KW", c); fault.ReasonOf(err) != fault.Unavailable {
			t.Error(err)
		}
		if n := strings.Count(wrong.Log(), "CKR_PIN_INCORRECT"); n != 1 {
			t.Errorf("the wrong PIN was tried %d times", n)
		}
		// The file mended, the token opens by itself.
		if err := os.WriteFile(locked.PINFile, []byte(token.PIN), 0o600); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); ; {
			p, err := decrypt(t.Context(), k, m, "A256KW", c)
			if err == nil && bytes.Equal(p, share) {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	})
}

// Many at once, of several keys, each gets its own answer.
func TestConcurrent(t *testing.T) {
	keys, _, _ := open(t)
	oct := makeKey(t, keys, vault.Shape{Type: vault.OctHSM, Bits: 256})
	ec := makeKey(t, keys, vault.Shape{Type: vault.ECHSM, Curve: "P-256"})
	rs := makeKey(t, keys, vault.Shape{Type: vault.RSAHSM, Bits: 2048})
	public, err := vault.ParsePublic(ec.Public)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	for range 32 {
		work.Go(func() {
			for range 5 {
				v := make([]byte, 32)
				rand.Read(v)
				for _, m := range []vault.Material{oct, rs} {
					alg := vault.RSAOAEP256
					if m.Type == vault.OctHSM {
						alg = "A256KW"
					}
					c, err := encrypt(t.Context(), keys, m, alg, v)
					if err != nil {
						t.Error(err)
						return
					}
					if p, err := decrypt(t.Context(), keys, m, alg, c); err != nil || !bytes.Equal(p, v) {
						t.Errorf("%s: %x for %x, %v", m.Type, p, v, err)
					}
				}
				sig, err := sign(t.Context(), keys, ec, "ES256", v)
				if err != nil {
					t.Error(err)
					return
				}
				if !ecdsa.Verify(public.(*ecdsa.PublicKey), v, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
					t.Error("ES256: the signature is another's")
				}
			}
		})
	}
	work.Wait()
}

// What a root needs of a token.
func TestWrappingKey(t *testing.T) {
	client := softhsmtest.Start(t, softhsmtest.New(t)).Client(t)
	h, err := client.NewWrappingKey(t.Context(), "kluis root")
	if err != nil {
		t.Fatal(err)
	}
	key := [32]byte(share)
	w, err := client.Wrap(t.Context(), h, &key)
	if err != nil || len(w) != 40 {
		t.Fatalf("%d, %v", len(w), err)
	}
	if k, err := client.Unwrap(t.Context(), h, w); err != nil || *k != key {
		t.Error(err)
	}
	w[3] ^= 1
	if _, err := client.Unwrap(t.Context(), h, w); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("altered: %v", err)
	}
	a, err := client.Random(t.Context(), 128)
	if err != nil || len(a) != 128 {
		t.Fatal(err)
	}
	if b, _ := client.Random(t.Context(), 128); bytes.Equal(a, b) {
		t.Error("the same random bytes twice")
	}
	info, err := client.Info(t.Context())
	if err != nil || len(info.Kinds) != len(cryptoki.Specs()) || len(info.Algorithms) != 24 || info.Sessions != 8 {
		t.Errorf("%+v, %v", info, err)
	}
}
