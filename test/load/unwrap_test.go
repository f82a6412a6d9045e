package load_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/sdk"
)

// A custodian is a principal with a vault and a managed HSM, whose keys it makes
// and uses.
type custodian struct {
	t      testing.TB
	pid    int
	client *http.Client
	site   sdk.Target
	tokens map[string]string // by audience
	vault  string            // its URI
	hsm    string
}

// The roles that use keys: Azure's Key Vault Crypto User, and the managed HSM's own.
const (
	cryptoUser    = "12338af0-0e69-4776-bea7-57ae8d297424"
	hsmCryptoUser = "21dbd100-6940-42c2-9190-5d6cb909625b"
)

// startVault starts a server with a configuration, and a vault and a managed HSM.
func startVault(t testing.TB, config string) *custodian {
	file := filepath.Join(t.TempDir(), "kluis.yaml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	clients, pid := launch(t, "--config", file, "--activate-hsms")
	c := &custodian{t: t, pid: pid, client: client(t, clients.Target.CAFile), site: clients.Target, tokens: map[string]string{}}
	cred, err := clients.Credential("custodian")
	must(t, err)
	for _, audience := range []string{c.site.Endpoints["arm"], "https://vault.azure.net", "https://managedhsm.azure.net"} {
		token, err := cred.GetToken(context.Background(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		must(t, err)
		c.tokens[audience] = token.Token
	}
	c.vault, c.hsm = strings.TrimSuffix(c.site.VaultURI("custody"), "/"), strings.TrimSuffix(c.site.HSMURI("steel"), "/")
	me := c.site.Principals["custodian"].ObjectID
	group := c.site.Endpoints["arm"] + "/subscriptions/" + c.site.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/"
	c.must("PUT", group+"vaults/custody?api-version=2023-07-01", map[string]any{"location": "local", "properties": map[string]any{
		"tenantId": c.site.TenantID, "enableRbacAuthorization": true}})
	const id = "/providers/Microsoft.Authorization/roleAssignments/77777777-0000-4000-8000-00000000000"
	c.must("PUT", group+"vaults/custody"+id+"1?api-version=2022-04-01", map[string]any{"properties": map[string]string{
		"roleDefinitionId": "/subscriptions/" + c.site.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + cryptoUser, "principalId": me}})
	c.must("PUT", group+"managedHSMs/steel?api-version=2023-07-01", map[string]any{"location": "local", "properties": map[string]any{
		"tenantId": c.site.TenantID, "initialAdminObjectIds": []string{me}}})
	c.must("PUT", c.hsm+"/keys"+id+"2?api-version=7.4", map[string]any{"properties": map[string]string{
		"roleDefinitionId": "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + hsmCryptoUser, "principalId": me}})
	return c
}

// send makes one call and returns its status.
func (c *custodian) send(method, address string, body []byte, out any) (int, error) {
	audience := "https://vault.azure.net"
	switch {
	case strings.HasPrefix(address, c.site.Endpoints["arm"]):
		audience = c.site.Endpoints["arm"]
	case strings.HasPrefix(address, c.hsm):
		audience = "https://managedhsm.azure.net"
	}
	req, err := http.NewRequest(method, address, strings.NewReader(string(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.tokens[audience])
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return res.StatusCode, err
}

func (c *custodian) must(method, address string, body any) (out map[string]any) {
	c.t.Helper()
	text, err := json.Marshal(body)
	must(c.t, err)
	status, err := c.send(method, address, text, &out)
	if err != nil || status/100 != 2 {
		c.t.Fatalf("%s %s: %d %v %v", method, address, status, err, out)
	}
	return out
}

// A kind is a key with what is unwrapped with it, and the bare operation.
type kind struct {
	name    string
	address string // of its unwrapKey
	body    []byte
	bare    func() error
	clients int
}

// share is what is wrapped: a key of 256 bits.
var share = make([]byte, 32)

// kind makes a key and wraps share with it.
func (c *custodian) kind(name, algorithm string, create map[string]any) kind {
	c.t.Helper()
	base := c.vault
	if create["kty"] == "oct-HSM" {
		base = c.hsm
	}
	at := base + "/keys/" + strings.ToLower(name)
	c.must("POST", at+"/create?api-version=7.4", create)
	wrapped := c.must("POST", at+"/wrapkey?api-version=7.4", map[string]string{"alg": algorithm, "value": base64.RawURLEncoding.EncodeToString(share)})
	body, err := json.Marshal(map[string]any{"alg": algorithm, "value": wrapped["value"]})
	must(c.t, err)
	return kind{name: name, address: wrapped["kid"].(string) + "/unwrapkey?api-version=7.4", body: body, clients: 8}
}

func (c *custodian) unwrap(k kind) (int, error) { return c.send("POST", k.address, k.body, nil) }

// BenchmarkUnwrap measures unwraps per CPU-second of the server's process, over
// HTTPS and with all that an unwrap takes, beside the bare operation in the same
// run. Turns are short and in alternation; the medians are told.
func BenchmarkUnwrap(b *testing.B) {
	c := startVault(b, "limits: {tenant: 0, software: {rsa2048: 0, rsa3072: 0, rsa4096: 0, ec: 0, oct: 0}, hsm: {rsa2048: 0, rsa3072: 0, rsa4096: 0, ec: 0, oct: 0}}\n")
	var kinds []kind
	for _, bits := range []int{2048, 3072, 4096} {
		k := c.kind(fmt.Sprintf("RSA-%d", bits), "RSA-OAEP-256", map[string]any{"kty": "RSA", "key_size": bits})
		key, err := rsa.GenerateKey(rand.Reader, bits)
		must(b, err)
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, share, nil)
		must(b, err)
		k.bare = func() error { _, err := rsa.DecryptOAEP(sha256.New(), nil, key, wrapped, nil); return err }
		kinds = append(kinds, k)
	}
	oct := c.kind("A256KW", "A256KW", map[string]any{"kty": "oct-HSM", "key_size": 256})
	oct.bare, oct.clients = bareUnwrap(), 64 // many share a commit, as they do where unwraps are many
	kinds = append(kinds, oct)
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			c.t = b
			var served, bare, p50, share []float64
			c.rate(k, 200*time.Millisecond)
			for range max(b.N, 3) {
				rate, latency := c.rate(k, time.Second)
				served, p50 = append(served, rate), append(p50, latency)
				bare = append(bare, bareRate(b, k))
				share = append(share, served[len(served)-1]/bare[len(bare)-1])
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(middle(served), "unwraps/cpu-s")
			b.ReportMetric(middle(bare), "bare/cpu-s")
			b.ReportMetric(middle(share), "ratio")
			b.ReportMetric(middle(p50), "p50-ms")
		})
	}
}

// middle returns the median.
func middle(all []float64) float64 { return slices.Sorted(slices.Values(all))[len(all)/2] }

// rate unwraps for a while with the kind's clients, and returns the rate per CPU-second of
// the server and the median latency in milliseconds.
func (c *custodian) rate(k kind, d time.Duration) (perCPU, p50 float64) {
	c.t.Helper()
	var mu sync.Mutex
	var took []float64
	var n atomic.Int64
	before := cpu(c.t, c.pid)
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for range k.clients {
		all.Go(func() {
			var mine []float64
			for time.Now().Before(end) {
				began := time.Now()
				switch status, err := c.unwrap(k); {
				case err == nil && status == 429: // the machine had no time for it: it has cost next to nothing
					continue
				case err != nil || status != 200:
					c.t.Errorf("%s: %d %v", k.name, status, err)
					return
				}
				n.Add(1)
				mine = append(mine, time.Since(began).Seconds()*1000)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	all.Wait()
	if len(took) == 0 {
		c.t.FailNow()
	}
	return float64(n.Load()) / (cpu(c.t, c.pid) - before).Seconds(), middle(took)
}

// bareRate returns how often the bare operation runs in a CPU-second of this
// process, on as many cores as the server has.
func bareRate(t testing.TB, k kind) float64 {
	var n atomic.Int64
	before := cpu(t, os.Getpid())
	end := time.Now().Add(500 * time.Millisecond)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for time.Now().Before(end) {
				for range 4 {
					if err := k.bare(); err != nil {
						t.Error(err)
						return
					}
					n.Add(1)
				}
			}
		})
	}
	all.Wait()
	return float64(n.Load()) / (cpu(t, os.Getpid()) - before).Seconds()
}

// bareUnwrap returns the unwrapping of 32 bytes by RFC 3394 over a block cipher
// that is ready.
func bareUnwrap() func() error {
	key := make([]byte, 32)
	rand.Read(key)
	block, _ := aes.NewCipher(key)
	wrapped := wrap3394(block, share)
	return func() error {
		if !slices.Equal(unwrap3394(block, wrapped), share) {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
}

const iv3394 = 0xa6a6a6a6a6a6a6a6

func wrap3394(block cipher.Block, plain []byte) []byte {
	r := append(make([]byte, 8), plain...)
	binary.BigEndian.PutUint64(r, iv3394)
	var b [16]byte
	n := len(plain) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:8], r[:8])
			copy(b[8:], r[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(r, binary.BigEndian.Uint64(b[:])^uint64(n*j+i))
			copy(r[8*i:], b[8:])
		}
	}
	return r
}

func unwrap3394(block cipher.Block, wrapped []byte) []byte {
	r := slices.Clone(wrapped)
	var b [16]byte
	n := len(wrapped)/8 - 1
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(r)^uint64(n*j+i))
			copy(b[8:], r[8*i:8*i+8])
			block.Decrypt(b[:], b[:])
			copy(r[:8], b[:8])
			copy(r[8*i:], b[8:])
		}
	}
	if binary.BigEndian.Uint64(r) != iv3394 {
		return nil
	}
	return r[8:]
}

// BenchmarkOverload offers a vault half of what it admits, and twice as much, at an
// even pace, and measures how long the admitted requests take. All others must be
// told to come back later.
func BenchmarkOverload(b *testing.B) {
	const admitted = 300 // a second
	c := startVault(b, fmt.Sprintf("limits: {period: 1s, software: {rsa2048: %d}}\n", admitted))
	k := c.kind("RSA-2048", "RSA-OAEP-256", map[string]any{"kty": "RSA", "key_size": 2048})
	c.offer(k, admitted/2, time.Second)
	var half, twice []float64
	var admittedRate, shed []float64
	for range max(b.N, 3) {
		h, _, _ := c.offer(k, admitted/2, 3*time.Second)
		c.offer(k, 2*admitted, time.Second) // uses up what was saved
		t, yes, no := c.offer(k, 2*admitted, 3*time.Second)
		half, twice = append(half, h), append(twice, t)
		admittedRate, shed = append(admittedRate, float64(yes)/3), append(shed, float64(no)/3)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(half), "half-p99-ms")
	b.ReportMetric(middle(twice), "twice-p99-ms")
	b.ReportMetric(middle(admittedRate), "admitted/s")
	b.ReportMetric(middle(shed), "shed/s")
}

// offer sends unwraps at an even pace, whatever becomes of those before, and
// returns the 99th percentile of the latency of those that were admitted, in
// milliseconds, and how many were and were not.
func (c *custodian) offer(k kind, perSecond int, d time.Duration) (p99 float64, yes, no int) {
	c.t.Helper()
	var mu sync.Mutex
	var took []float64
	var all sync.WaitGroup
	start := time.Now()
	for i := range int(d.Seconds() * float64(perSecond)) {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(at))
		all.Go(func() {
			status, err := c.unwrap(k)
			latency := time.Since(at).Seconds() * 1000 // from when it was due
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && status == 200:
				took = append(took, latency)
			case err == nil && status == 429:
				no++
			default:
				c.t.Errorf("%d %v", status, err)
			}
		})
	}
	all.Wait()
	if len(took) == 0 {
		c.t.Fatal("nothing was admitted")
	}
	slices.Sort(took)
	return took[len(took)*99/100], len(took), no
}
