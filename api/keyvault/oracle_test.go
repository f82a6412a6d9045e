package keyvault_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// Where RSA1_5 is allowed, its unwrap says nothing of a ciphertext's padding: valid
// and invalid ones get answers of one status and one shape, in times that no
// Welch test tells apart (Bleichenbacher, CRYPTO 1998).
func TestRSA15IsNoOracle(t *testing.T) {
	samples := effort.Of(2_000, 6_000, 20_000)
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "k")
	_, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", vault.KeyUpdate{Tags: &map[string]string{vault.TagRSA15: "allowed"}})
	if err != nil {
		t.Fatal(err)
	}
	public, err := vault.ParsePublic(b.Version.Public)
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{wire: wire{t, serve(t, f), f.Officer}, key: public.(*rsa.PublicKey)}
	o.ask(50) // connections, caches and the heap
	// One time in some ten thousand, |t| exceeds the limit by chance alone: what is
	// really there shows again in more samples.
	for range 2 {
		score := o.ask(samples)
		t.Logf("%d samples: t = %.2f", samples, score)
		if math.Abs(score) < 4.5 {
			return
		}
		samples *= 2
	}
	t.Error("the time of an unwrap tells whether the padding was valid")
}

// An oracle is one who asks, and looks at the clock.
type oracle struct {
	wire
	key *rsa.PublicKey
}

// ask asks about n ciphertexts, half of them valid, and returns Welch's t of the
// times that the answers took.
func (o *oracle) ask(n int) float64 {
	o.t.Helper()
	var took [2][]float64 // invalid, valid
	for range n / 2 {
		first := mathrand.IntN(2)
		for _, valid := range []int{first, 1 - first} {
			body := fmt.Sprintf(`{"alg":"RSA1_5","value":%q}`, base64.RawURLEncoding.EncodeToString(o.ciphertext(valid == 1)))
			began := time.Now()
			res, answer := o.send("POST", kv1, "/keys/k/unwrapkey?api-version=7.4", body)
			took[valid] = append(took[valid], float64(time.Since(began)))
			var shape struct{ KID, Value *string }
			var all map[string]any
			if res.StatusCode != 200 || json.Unmarshal([]byte(answer), &shape) != nil || json.Unmarshal([]byte(answer), &all) != nil ||
				shape.KID == nil || shape.Value == nil || len(all) != 2 {
				o.t.Fatalf("valid %d: %d %s", valid, res.StatusCode, answer)
			}
		}
	}
	return welch(took[0], took[1])
}

// ciphertext returns one whose padding is valid, of a plaintext as long as the
// substitutes of invalid ones, or a random one.
func (o *oracle) ciphertext(valid bool) []byte {
	o.t.Helper()
	if valid {
		message := make([]byte, mathrand.IntN(o.key.Size()-11))
		rand.Read(message)
		//lint:ignore SA1019 it is what is tested
		c, err := rsa.EncryptPKCS1v15(rand.Reader, o.key, message)
		if err != nil {
			o.t.Fatal(err)
		}
		return c
	}
	c, err := rand.Int(rand.Reader, o.key.N)
	if err != nil {
		o.t.Fatal(err)
	}
	return new(big.Int).Set(c).FillBytes(make([]byte, o.key.Size()))
}

// welch returns the statistic of Welch's test over two samples, without what is
// slower than nine tenths of both together: that is the machine, and not the
// work.
func welch(a, b []float64) float64 {
	both := slices.Sorted(slices.Values(slices.Concat(a, b)))
	limit := both[len(both)*9/10]
	moments := func(all []float64) (mean, variance float64) {
		all = slices.DeleteFunc(slices.Clone(all), func(x float64) bool { return x > limit })
		n := float64(len(all))
		for _, x := range all {
			mean += x / n
		}
		for _, x := range all {
			variance += (x - mean) * (x - mean) / (n - 1)
		}
		return mean, variance / n
	}
	ma, va := moments(a)
	mb, vb := moments(b)
	return (ma - mb) / math.Sqrt(va+vb)
}
