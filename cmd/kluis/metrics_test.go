package main

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/sdk"
)

// TestMetrics runs a server with its metrics, uses it, and reads them as Prometheus
// would: named as its conventions ask for, and without a tenant's name or id.
func TestMetrics(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := defaultConfig()
	c.Data, c.Dev, c.Listen, c.Metrics = filepath.Join(dir, "data"), true, "127.0.0.1:0", "127.0.0.1:"+devtest.FreePort(t)
	must(os.WriteFile(filepath.Join(dir, "secret"), []byte(webhookSecret), 0o600))
	c.Alerts = &alertsConfig{Webhooks: []receiverConfig{{URL: "https://127.0.0.1:1/", SecretFile: filepath.Join(dir, "secret")}}}
	c.Audit.Files = filepath.Join(dir, "siem")
	s, err := start(t.Context(), c)
	must(err)
	defer func() { must(s.stop()) }()
	clients, _, keys := clientsOf(t, c)
	read := func() string {
		r, err := http.Get("http://" + c.Metrics + "/metrics")
		must(err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		must(err)
		return string(text)
	}
	read()
	_, err = keys.CreateKey(t.Context(), "secretname", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(err)
	var text string
	eventually(t, "the metrics", func() bool {
		text = read()
		return strings.Contains(text, `kluis_vault_operations_total{operation="KeyCreate",outcome="allowed"} 1`)
	})
	for _, want := range []string{
		`kluis_http_requests_total{code="200",method="post",service="vault"}`, `kluis_http_request_duration_seconds_bucket{service="vault",le="0.1"}`,
		`kluis_vault_operation_duration_seconds_count{operation="KeyCreate"} 1`, `kluis_scopes_pending{serving="Revoked"} 0`, `kluis_audit_entries{party="platform"}`,
		`kluis_audit_export_lag_seconds{copy="vault files"}`, `kluis_build_info{`, `process_open_fds`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, secret := range []string{string(s.identity.Tenant), clients.Target.SubscriptionID, "secretname", clients.Target.Principals["custodian"].ObjectID} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics tell %s", secret)
		}
	}
	problems, err := testutil.GatherAndLint(s.metrics.registry)
	must(err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	c.Metrics = "0.0.0.0:9464"
	if err := c.check(); err == nil {
		t.Error("metrics were served to the world")
	}

	// Every metric that a rule speaks of is there, but for those of alerts, of which
	// there is none.
	rules, err := os.ReadFile("../../docs/samples/prometheus-rules.yaml")
	must(err)
	known := text + "kluis_alerts kluis_posture_resources kluis_posture_last_scan_timestamp_seconds kluis_platform_operations_total"
	for _, name := range regexp.MustCompile(`kluis_[a-z_]+`).FindAllString(string(rules), -1) {
		if !strings.Contains(known, name) {
			t.Errorf("a rule speaks of %s, which is not served", name)
		}
	}
}

// TestRules has Prometheus's own tool check the rules, and try them on series.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		effort.Missing(t, "promtool (Debian: prometheus)", "docs/samples/prometheus-rules.yaml")
	}
	for _, args := range [][]string{{"check", "rules", "../../docs/samples/prometheus-rules.yaml"}, {"test", "rules", "testdata/prometheus-rules-test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// clientsOf returns the clients of a server in dev mode, and the custodian's, with those of
// the default vault's keys.
func clientsOf(t *testing.T, c Config) (*sdk.Clients, *sdk.Officer, *azkeys.Client) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	target, err := sdk.ReadTarget(c.Data)
	must(err)
	clients, err := sdk.New(target)
	must(err)
	officer, err := clients.Officer()
	must(err)
	keys, err := officer.Keys(target.VaultURI("default"))
	must(err)
	return clients, officer, keys
}
