package clients_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/kpi"
)

// run runs the kluis binary on the estate's server, which must succeed, and reads its JSON.
func (e *estate) run(into any, args ...string) {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), e.binary, append(args, "-o", "json")...)
	data := filepath.Dir(filepath.Dir(e.target.CAFile))
	cmd.Env = append(os.Environ(), "KLUIS_PROFILE="+filepath.Join(data, "bootstrap.json"), "XDG_STATE_HOME="+filepath.Join(e.dir, "state"))
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		log := ""
		if exit, ok := err.(*exec.ExitError); ok {
			log = string(exit.Stderr)
		}
		e.t.Fatalf("kluis %s: %v\n%s", strings.Join(args, " "), err, log)
	}
}

// The whole of governance on one account: az makes it, a scan finds it on the platform's
// key, a remediation moves it, az confirms, a backout moves it back, and the figures have
// followed each time.
func TestAzureCLIGovernance(t *testing.T) {
	e := newEstate(t)
	policy := filepath.Join(e.dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("rules:\n- {name: production, when: {resourceGroups: "+cisGroup+"}, requires: cmk, why: it holds customers' data}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(e.dir, "history.db")
	const control = "CMK/Microsoft.Storage/storageAccounts"
	// scan scans, keeps what it found, and compares coverage, the finding and the KPI.
	scan := func(coverage float64) (finding string) {
		t.Helper()
		var s posture.Scan
		e.run(&s, "posture", "scan", "--source", "profile", "--policy", policy, "--history", kept)
		if len(s.Gaps) > 0 || s.Summary.InScope != 1 || s.Summary.Coverage != coverage {
			t.Errorf("coverage %v of %d, want %v; gaps %v", s.Summary.Coverage, s.Summary.InScope, coverage, s.Gaps)
		}
		for _, f := range s.Findings {
			if f.Control == control && strings.HasSuffix(f.Resource, "/"+cisAccount) {
				finding = f.ID
			}
		}
		if (finding == "") != (coverage == 100) {
			t.Errorf("finding %q at a coverage of %v", finding, coverage)
		}
		var r kpi.Report
		e.run(&r, "posture", "kpi", "--history", kept)
		if k := r.Find("coverage"); k == nil || k.Value == nil || *k.Value != coverage {
			t.Errorf("the KPI says %+v, want %v", k, coverage)
		}
		return finding
	}
	var run struct {
		Status string
		Steps  []struct{ Name, State string }
	}
	e.write("before")
	finding := scan(0)
	e.source("Microsoft.Storage")

	key := e.vault + "/keys/k1"
	e.run(&run, "posture", "remediate", finding, "--source", "profile", "--policy", policy, "--key", key, "--dry-run")
	e.source("Microsoft.Storage")
	e.run(&run, "posture", "remediate", finding, "--source", "profile", "--policy", policy, "--key", key, "--apply", "--yes")
	if run.Status != "applied" {
		t.Errorf("the remediation is %+v", run)
	}
	e.source("Microsoft.Keyvault")
	shown := e.engineer.do("storage", "account", "show", "--name", cisAccount, "--resource-group", cisGroup, "--query", "encryption.keyVaultProperties")
	e.engineer.want(at(shown, "currentVersionedKeyIdentifier"), e.kid)
	e.write("between")
	e.readAll()
	scan(100)

	e.run(&run, "posture", "backout", finding, "--apply", "--yes")
	if run.Status != "backed-out" {
		t.Errorf("the backout is %+v", run)
	}
	e.source("Microsoft.Storage")
	e.engineer.want(e.engineer.do("storage", "account", "show", "--name", cisAccount, "--resource-group", cisGroup, "--query", "identity"), nil)
	v := e.custodian.do("keyvault", "show", "-n", "cisvault")
	e.custodian.want(count(at(v, "properties", "accessPolicies")), 1) // the custodian's own
	e.write("after")
	e.readAll()
	if again := scan(0); again != finding {
		t.Errorf("the same finding is %s, and was %s", again, finding)
	}
	var r kpi.Report
	e.run(&r, "posture", "kpi", "--history", kept)
	if k := r.Find("timeToRemediate"); k == nil || k.Value == nil {
		t.Errorf("the time to remediate is not measured: %+v", k)
	}
}
