package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/webhook"
	"github.com/kluis-io/kluis/vault"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// writePair writes a certificate with its key, signed by parent or by itself, and
// returns it.
func writePair(t *testing.T, path, cn string, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	by, signer := template, any(key)
	if parent != nil {
		by, signer = parent.Leaf, parent.PrivateKey
	} else {
		template.IsCA, template.BasicConstraintsValid, template.ExtKeyUsage = true, true, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path+".pem", "CERTIFICATE", der)
	writePEM(t, path+".key", "PRIVATE KEY", keyDER)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command runs kluis and returns what it prints.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	c := newCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("kluis %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}

// TestOutlets runs a server with everything that talks to the outside, and plays
// the outside: a receiver of events, a syslog server, a reader of the files, and a
// Managed HSM.
func TestOutlets(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secret, err := webhook.ParseSecret(webhookSecret)
	must(err)
	var mu sync.Mutex
	heard := map[string]bool{}
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct{ Type, Subject string }
		if err := webhook.Verify(secret, r.Header, body, time.Now()); err != nil || json.Unmarshal(body, &e) != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		heard[e.Type+" "+e.Subject] = true
	}))
	defer receiver.Close()
	writePEM(t, filepath.Join(dir, "receiver.pem"), "CERTIFICATE", receiver.Certificate().Raw)
	must(os.WriteFile(filepath.Join(dir, "secret"), []byte(webhookSecret+"\n"), 0o600))
	syslog, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	defer syslog.Close()
	var logged strings.Builder
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, _, err := syslog.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			logged.Write(b[:n])
			mu.Unlock()
		}
	}()

	posted := false
	collector := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		posted = posted || r.URL.Path == "/v1/logs" && r.Header.Get("Authorization") == "Bearer collector-token" &&
			bytes.Contains(body, []byte(`"eventName":"kluis.audit.KeyCreate"`)) && bytes.Contains(body, []byte(`kluis-vault`))
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}))
	defer collector.Close()
	writePEM(t, filepath.Join(dir, "collector.pem"), "CERTIFICATE", collector.Certificate().Raw)
	must(os.WriteFile(filepath.Join(dir, "collector-token"), []byte("collector-token\n"), 0o600))

	c := defaultConfig()
	c.Data, c.Dev, c.Listen = filepath.Join(dir, "data"), true, "127.0.0.1:0"
	at := receiverConfig{URL: receiver.URL, SecretFile: filepath.Join(dir, "secret"), CA: filepath.Join(dir, "receiver.pem")}
	c.Webhooks = []webhookConfig{{receiverConfig: at, Name: "siem", Vaults: []vault.Name{defaultVault}}}
	c.Audit = auditConfig{Files: filepath.Join(dir, "siem"), Syslog: &syslogConfig{Network: "udp", Address: syslog.LocalAddr().String()},
		OTLP: &otlpConfig{URL: collector.URL + "/v1/logs", TokenFile: filepath.Join(dir, "collector-token"), CA: filepath.Join(dir, "collector.pem")}}
	s, err := start(t.Context(), c)
	must(err)
	clients, officer, keys := clientsOf(t, c)
	// What happened before the first look becomes no event: wait until there was one.
	eventually(t, "the first look", func() bool {
		text, err := os.ReadFile(filepath.Join(c.Data, vaultDir, "export-files.position"))
		return err == nil && len(text) > 0
	})
	key, err := keys.CreateKey(t.Context(), "tde", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(err)
	scope := "/subscriptions/" + clients.Target.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default/keys/tde"
	_, err = officer.Roles.Create(t.Context(), scope, "0c5fb5f0-4c8c-4b2e-9f0c-6f7a4a0b1c11", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + clients.Target.SubscriptionID +
				"/providers/Microsoft.Authorization/roleDefinitions/e147488a-f6f5-4113-8e2d-b22465e65bf6"),
			PrincipalID: &clients.Target.Platform.ObjectID, PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	must(err)
	read := func(party string) string {
		text, _ := os.ReadFile(filepath.Join(dir, "siem", party, "audit.ndjson"))
		return string(text)
	}
	eventually(t, "the event", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard["Microsoft.KeyVault.KeyNewVersionCreated tde"] && heard["io.kluis.vault.RoleAssignmentCreated tde"]
	})
	eventually(t, "the files", func() bool {
		return strings.Contains(read(vaultDir), `"operationName":"KeyCreate"`) && strings.Contains(read(platformDir), `"sequence":0`)
	})
	eventually(t, "syslog", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(logged.String(), ` kluis - KeyCreate [meta sequenceId="`)
	})
	eventually(t, "the collector", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return posted
	})
	must(s.stop())

	ca := writePair(t, filepath.Join(dir, "ca"), "authority", nil)
	writePair(t, filepath.Join(dir, "ekm"), "ekm.example.test", ca)
	hsm := writePair(t, filepath.Join(dir, "hsm"), "hsm1.managedhsm.azure.net", ca)
	c.Webhooks, c.Audit = nil, auditConfig{}
	c.EKM = &ekmConfig{
		Listen: "127.0.0.1:" + devtest.FreePort(t), Host: "ekm.example.test", Prefix: "kluis",
		Certificate: filepath.Join(dir, "ekm.pem"), Key: filepath.Join(dir, "ekm.key"), ClientCA: filepath.Join(dir, "ca.pem"),
		Clients: []ekmClient{{CommonName: "hsm1.managedhsm.azure.net", Pool: "pool1", Principal: "", Vault: defaultVault}},
	}
	if s, err := start(t.Context(), c); err == nil {
		s.stop()
		t.Fatal("a client without a principal was taken")
	}
	c.EKM.Clients[0].Principal = identity.PrincipalID(clients.Target.Platform.ObjectID)
	s, err = start(t.Context(), c)
	must(err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, ServerName: "ekm.example.test", Certificates: []tls.Certificate{*hsm},
	}}}
	use := func(call, value string) string {
		t.Helper()
		r, err := client.Post("https://"+c.EKM.Listen+"/kluis/tde-"+key.Key.KID.Version()+"/"+call+"?api-version=0.1-preview", "application/json",
			strings.NewReader(`{"request_context":{"correlation_id":"c-77","pool_name":"pool1"},"alg":"RSA-OAEP-256","value":"`+value+`"}`))
		must(err)
		defer r.Body.Close()
		var a struct{ Value string }
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s: %s %v", call, r.Status, err)
		}
		return a.Value
	}
	plain := base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef"))
	if got := use("unwrapkey", use("wrapkey", plain)); got != plain {
		t.Errorf("unwrapped %s", got)
	}
	client.CloseIdleConnections()
	must(s.stop())

	exported := command(t, "audit", "export", "--data", c.Data, "--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	if !strings.Contains(exported, `"operationName":"KeyUnwrap"`) || !strings.Contains(exported, `"correlationId":"c-77"`) || !strings.Contains(exported, `"ekmPool":"pool1"`) {
		t.Error(exported)
	}
	if own := command(t, "audit", "export", "--data", c.Data, "--format", "json", "--party", platformDir); !strings.Contains(own, `"sequence":0`) {
		t.Error(own)
	}
	if who := command(t, "audit", "who", "--data", c.Data, "--key", string(*key.Key.KID)); !strings.Contains(who, clients.Target.Platform.ObjectID) ||
		!strings.Contains(who, "Key Vault Crypto Service Encryption User") {
		t.Error(who)
	}
	if before := command(t, "audit", "who", "--data", c.Data, "--key", string(*key.Key.KID), "--at", "2020-01-01"); !strings.Contains(before, "no such key") {
		t.Error(before)
	}
	if waiting := command(t, "webhooks", "--data", c.Data); strings.Contains(waiting, "siem") {
		t.Error(waiting)
	}
}
