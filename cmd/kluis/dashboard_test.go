package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
)

// A dashboard is what is read of Grafana's model.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// notYet are metrics that a server has once there is something to tell: scans, alerts
// and refusals of customers' vaults come later than the test ends.
var notYet = []string{"kluis_alerts", "kluis_posture_resources", "kluis_object_bytes_total", "kluis_object_operation_duration_seconds_count"}

// Prometheus itself reads a running server, and answers every query of the dashboard;
// every metric that one names is there.
func TestDashboard(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		effort.Missing(t, "prometheus (Debian: prometheus)", "deploy/grafana/kluis.json")
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	free := func() string { return "127.0.0.1:" + devtest.FreePort(t) }
	c := defaultConfig()
	c.Data, c.Dev, c.Listen, c.Metrics = filepath.Join(dir, "data"), true, "127.0.0.1:0", free()
	c.Audit.Files = filepath.Join(dir, "siem")
	s, err := start(t.Context(), c)
	must(err)
	defer func() { must(s.stop()) }()

	// Something of each party's: a key, and a workspace under it.
	clients, _, keys := clientsOf(t, c)
	_, err = keys.CreateKey(t.Context(), "a", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(err)
	engineer, err := clients.Engineer()
	must(err)
	must(engineer.Fabric.Call(t.Context(), http.MethodPost, "/workspaces", map[string]string{"displayName": "a"}, nil))
	if _, err := s.ring.Inspect().Use(t.Context(), "00000000-0000-4000-8000-000000000000"); err == nil {
		t.Fatal("a workspace that is not there has opened")
	}
	s.metrics.question()("unwrapKey", "yes", 1) // what assigning a key would tell

	config, address := filepath.Join(dir, "prometheus.yml"), free()
	must(os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: kluis
    static_configs: [{targets: [%q]}]
`, c.Metrics), 0o600))
	server := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+address)
	log, err := os.Create(filepath.Join(dir, "prometheus.log"))
	must(err)
	server.Stdout, server.Stderr = log, log
	must(server.Start())
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	ask := func(path string, query url.Values, into any) error {
		r, err := http.Get("http://" + address + path + "?" + query.Encode())
		if err != nil {
			return err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err == nil && r.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", r.Status, b)
		}
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		return err
	}
	type result struct {
		Data struct{ Result []json.RawMessage }
	}
	eventually(t, "Prometheus's second scrape", func() bool {
		var r result
		return ask("/api/v1/query", url.Values{"query": {"count_over_time(kluis_vault_operations_total[1m]) > 1 and on() kluis_platform_operations_total"}}, &r) == nil && len(r.Data.Result) > 0
	})
	var names struct{ Data []string }
	must(ask("/api/v1/label/__name__/values", nil, &names))

	text, err := os.ReadFile("../../deploy/grafana/kluis.json")
	must(err)
	var d dashboard
	must(json.Unmarshal(text, &d))
	grafana := strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m")
	metric := regexp.MustCompile(`\b(kluis|go|process)_[a-z_]+\b`)
	queries, silent := 0, 0
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			queries++
			var r result
			if err := ask("/api/v1/query", url.Values{"query": {grafana.Replace(q.Expr)}}, &r); err != nil {
				t.Errorf("%s: %v", p.Title, err)
				continue
			}
			known := true
			for _, name := range metric.FindAllString(q.Expr, -1) {
				if !slices.Contains(names.Data, name) && !slices.Contains(notYet, name) {
					t.Errorf("%s speaks of %s, which is not served", p.Title, name)
				}
				known = known && slices.Contains(names.Data, name)
			}
			if known && len(r.Data.Result) == 0 {
				silent++
				t.Logf("%s has nothing to show yet", p.Title)
			}
		}
	}
	if queries < 20 || silent > 3 {
		t.Errorf("%d queries, of which %d show nothing", queries, silent)
	}
}
