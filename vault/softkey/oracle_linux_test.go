package softkey_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/softkey"
)

// A defect is a class of RSA plaintexts, by what of their padding is wrong.
type defect struct {
	name  string
	valid bool
	block func(size int) []byte // what is encrypted, as long as the modulus
}

// pkcs1 are the classes of RFC 8017 §7.2.2: what Bleichenbacher (CRYPTO 1998) tells
// apart, and what his successors do.
var pkcs1 = []defect{
	{"valid, long", true, func(n int) []byte { return pkcs1Block(n, n-11) }},
	{"valid, empty", true, func(n int) []byte { return pkcs1Block(n, 0) }},
	{"first byte", false, func(n int) []byte { return put(pkcs1Block(n, 32), 0, 1) }},
	{"block type", false, func(n int) []byte { return put(pkcs1Block(n, 32), 1, 1) }},
	{"short padding", false, func(n int) []byte { return put(pkcs1Block(n, 32), 5, 0) }},
	{"no end of padding", false, func(n int) []byte { return put(pkcs1Block(n, 0), n-1, 1) }},
}

// oaep are the classes of RFC 8017 §7.1.2: what Manger (CRYPTO 2001) tells apart.
var oaep = []defect{
	{"first byte", false, func(n int) []byte { return oaepBlock(n, func(db []byte) {}, 1) }},
	{"label", false, func(n int) []byte { return oaepBlock(n, func(db []byte) { db[0] ^= 1 }, 0) }},
	{"padding", false, func(n int) []byte { return oaepBlock(n, func(db []byte) { db[40] = 7 }, 0) }},
	{"no end of padding", false, func(n int) []byte { return oaepBlock(n, func(db []byte) { clear(db[32:]) }, 0) }},
	{"all", false, func(n int) []byte { return oaepBlock(n, func(db []byte) { rand.Read(db) }, 2) }},
}

func put(b []byte, at int, v byte) []byte { b[at] = v; return b }

func pkcs1Block(size, message int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	for i := range b {
		b[i] |= 1 // nowhere zero
	}
	b[0], b[1], b[size-message-1] = 0, 2, 0
	return b
}

func oaepBlock(size int, spoil func(db []byte), first byte) []byte {
	const h = sha256.Size
	b := make([]byte, size)
	seed, db := b[1:1+h], b[1+h:]
	rand.Read(seed)
	label := sha256.Sum256(nil)
	copy(db, label[:])
	copy(db[len(db)-33:], append([]byte{1}, bytes.Repeat([]byte{5}, 32)...))
	spoil(db)
	mask(db, seed)
	mask(seed, db)
	b[0] = first
	return b
}

// mask is MGF1 (RFC 8017 §B.2.1), applied.
func mask(out, seed []byte) {
	for i := 0; i*sha256.Size < len(out); i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(slices.Clone(seed), uint32(i)))
		for j, x := range sum[:min(sha256.Size, len(out)-i*sha256.Size)] {
			out[i*sha256.Size+j] ^= x
		}
	}
}

// Nothing tells what is wrong with a ciphertext: neither the error nor, where RSA1_5
// rejects implicitly, that there is one, nor the time. Times are compared class by
// class, in rounds that have one of each in a random order, over the differences
// within the rounds, so that what the machine does meanwhile strikes all alike; and
// they are the thread's CPU time, which others do not add to.
func TestPaddingIsNoOracle(t *testing.T) {
	rounds := effort.Of(300, 1_500, 5_000)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := softkey.New("instance", envelope.NewKey())
	ref := vault.Ref{Vault: "v", Key: "k", Version: "1"}
	m, err := keys.Seal(ref, vault.RSA, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		alg     vault.Algorithm
		classes []defect
		reason  fault.Reason
	}{
		{vault.RSA15, pkcs1, ""},
		{vault.RSAOAEP256, oaep, fault.InvalidArgument},
	} {
		t.Run(string(c.alg), func(t *testing.T) {
			texts := map[string]bool{}
			decrypt := func(d defect, ciphertext []byte) {
				out, err := keys.Decrypt(t.Context(), ref, m, vault.Input{Algorithm: c.alg, Value: ciphertext})
				if fault.ReasonOf(err) != c.reason || err != nil && out.Value != nil || len(out.Value) > key.Size()-11 {
					t.Fatalf("%s: %d bytes, %v", d.name, len(out.Value), err)
				}
				if err != nil {
					texts[fmt.Sprintf("%+v", fault.As(err))] = true
				}
			}
			noOracle(t, key, c.classes, rounds, decrypt)
			if len(texts) > 1 {
				t.Errorf("the errors differ: %v", texts)
			}
		})
	}
	if rounds < 5_000 {
		return
	}
	t.Run("an oracle is found", func(t *testing.T) { // what the comparison is worth
		leaky := func(_ defect, ciphertext []byte) {
			//lint:ignore SA1019 it is what is tested
			if _, err := rsa.DecryptPKCS1v15(nil, key, ciphertext); err != nil {
				for range 24 { // the substitute, made only when it is needed
					hmac.New(sha256.New, ciphertext).Sum(nil)
				}
			}
		}
		if _, _, worst := compare(t, key, pkcs1, rounds, leaky); math.Abs(worst) < limit {
			t.Errorf("a decryption that takes longer for bad padding passes, with t = %.1f", worst)
		}
	})
}

// limit is when a difference is taken for one: by chance it is once in some hundred
// thousand comparisons.
const limit = 4.5

// noOracle compares all classes. What chance has made differ shows it no more in
// fresh and more samples.
func noOracle(t *testing.T, key *rsa.PrivateKey, classes []defect, rounds int, decrypt func(defect, []byte)) {
	t.Helper()
	for range 3 {
		a, b, worst := compare(t, key, classes, rounds, decrypt)
		t.Logf("%d rounds: at most t = %.2f, of %q and %q", rounds, worst, a, b)
		if math.Abs(worst) < limit {
			return
		}
		rounds *= 2
	}
	t.Error("the time that a decryption takes tells what is wrong with the padding")
}

// compare returns the two classes whose times differ most, and by which t.
func compare(t *testing.T, key *rsa.PrivateKey, classes []defect, rounds int, decrypt func(defect, []byte)) (a, b string, worst float64) {
	t.Helper()
	e := big.NewInt(int64(key.E))
	took := make([][]float64, len(classes))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for round := range rounds + 20 {
		if round%500 == 0 {
			runtime.GC()
		}
		ciphertexts := make([][]byte, len(classes))
		for i, d := range classes {
			block := new(big.Int).SetBytes(d.block(key.Size()))
			ciphertexts[i] = new(big.Int).Exp(block, e, key.N).FillBytes(make([]byte, key.Size()))
		}
		for _, i := range mathrand.Perm(len(classes)) {
			began := threadTime(t)
			decrypt(classes[i], ciphertexts[i])
			took[i] = append(took[i], threadTime(t)-began)
		}
	}
	for i := range classes {
		for j := range i {
			if t := trimmed(took[i][20:], took[j][20:]); math.Abs(t) > math.Abs(worst) {
				a, b, worst = classes[i].name, classes[j].name, t
			}
		}
	}
	return a, b, worst
}

// threadTime returns the CPU time that the thread has used so far, in nanoseconds.
func threadTime(t *testing.T) float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return float64(now.Nano())
}

// trimmed returns t of the paired differences of two samples, without the fifth at
// each end (Yuen 1974): those are the machine, and not the work.
func trimmed(a, b []float64) float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	slices.Sort(d)
	n, cut := len(d), len(d)/5
	mean := 0.0
	for _, x := range d[cut : n-cut] {
		mean += x / float64(n-2*cut)
	}
	all, squares := 0.0, 0.0 // of the winsorised differences
	for i := range d {
		all += d[min(max(i, cut), n-1-cut)] / float64(n)
	}
	for i := range d {
		x := d[min(max(i, cut), n-1-cut)] - all
		squares += x * x
	}
	return mean * (1 - 2*float64(cut)/float64(n)) * math.Sqrt(float64(n)) / math.Sqrt(squares/float64(n-1))
}
