package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/webhook"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

// TestAlerts runs a server that watches, refuses a principal a key and disables one
// on which something depends, and hears of both.
func TestAlerts(t *testing.T) {
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
	heard := map[string]int{}
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct{ Type, Subject string }
		if err := webhook.Verify(secret, r.Header, body, time.Now()); err != nil || json.Unmarshal(body, &e) != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		heard[strings.TrimPrefix(e.Type, "io.kluis.posture.alert.")+" "+e.Subject]++
	}))
	defer receiver.Close()
	writePEM(t, filepath.Join(dir, "receiver.pem"), "CERTIFICATE", receiver.Certificate().Raw)
	must(os.WriteFile(filepath.Join(dir, "secret"), []byte(webhookSecret+"\n"), 0o600))
	syslog, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	defer syslog.Close()

	c := defaultConfig()
	c.Data, c.Dev, c.Listen = filepath.Join(dir, "data"), true, "127.0.0.1:0"
	c.Alerts = &alertsConfig{}
	if s, err := start(t.Context(), c); err == nil {
		s.stop()
		t.Fatal("alerts that go nowhere were taken")
	}
	must(os.RemoveAll(c.Data)) // its first start did not finish
	c.Alerts = &alertsConfig{
		Every: 50 * time.Millisecond, Syslog: &syslogConfig{Network: "udp", Address: syslog.LocalAddr().String()},
		Webhooks: []receiverConfig{{URL: receiver.URL, SecretFile: filepath.Join(dir, "secret"), CA: filepath.Join(dir, "receiver.pem")}},
	}
	s, err := start(t.Context(), c)
	must(err)
	defer func() { must(s.stop()) }()
	clients, _, keys := clientsOf(t, c)
	key, err := keys.CreateKey(t.Context(), "tde", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(err)
	identifier := strings.TrimSuffix(string(*key.Key.KID), "/"+key.Key.KID.Version())
	_, err = history.Record(t.Context(), s.governance.db.Posture(), "dev", "test", &posture.Scan{Time: time.Now(), Register: &posture.Register{
		Keys: []posture.KeyRecord{{Key: identifier, Read: true, Dependants: 3}},
	}})
	must(err)

	stranger, err := clients.Credential("engineer")
	must(err)
	theirs, err := azkeys.NewClient(clients.Target.VaultURI("default"), stranger, &azkeys.ClientOptions{ClientOptions: clients.Options()})
	must(err)
	for range 3 {
		if _, err := theirs.GetKey(t.Context(), "tde", "", nil); err == nil {
			t.Fatal("the engineer reads the custodian's key")
		}
	}
	_, err = keys.UpdateKey(t.Context(), "tde", key.Key.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, nil)
	must(err)
	refused, down := "AttemptFirstSeen "+clients.Target.Principals["engineer"].ObjectID, "KeyUnavailable "+identifier
	eventually(t, "the alerts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return heard[refused] == 1 && heard[down] == 1
	})
	datagram := make([]byte, 64<<10)
	n, _, err := syslog.ReadFrom(datagram)
	must(err)
	if got := string(datagram[:n]); !regexp.MustCompile(`^<108>1 \S+ \S+ kluis - Alert(AttemptFirstSeen|KeyUnavailable) `).MatchString(got) || !strings.Contains(got, `"specversion":"1.0"`) {
		t.Error(got)
	}

	// The list and the word are given beside the running server.
	list := command(t, "posture", "alerts", "list", "--data", c.Data)
	id := regexp.MustCompile(`(?m)^([0-9a-f]{8}) +critical +active .* KeyUnavailable`).FindStringSubmatch(list)
	if id == nil {
		t.Fatal(list)
	}
	if got := command(t, "posture", "alerts", "ack", id[1], "--data", c.Data, "--by", "ann", "--for", "1h"); !strings.Contains(got, "acknowledged by ann") {
		t.Error(got)
	}
	if got := command(t, "posture", "alerts", "list", "--data", c.Data); !regexp.MustCompile(id[1] + ` +critical +until \S+ ann`).MatchString(got) {
		t.Error(got)
	}
	_, err = keys.UpdateKey(t.Context(), "tde", key.Key.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)}}, nil)
	must(err)
	eventually(t, "the end of the alert", func() bool {
		return !strings.Contains(command(t, "posture", "alerts", "list", "--data", c.Data), "KeyUnavailable")
	})
	if got := command(t, "posture", "alerts", "list", "--all", "--data", c.Data, "--output", "json"); !strings.Contains(got, `"resolvedAt"`) {
		t.Error(got)
	}
	mu.Lock()
	defer mu.Unlock()
	if heard[refused] != 1 || heard[down] != 1 {
		t.Errorf("told again: %v", heard)
	}
}
