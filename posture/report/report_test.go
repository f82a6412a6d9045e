package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/report"
)

// scan has a finding, one that is excepted, one of which nobody knows, and names
// that would do harm if they were taken for more than names.
func scan(t *testing.T) *posture.Scan {
	t.Helper()
	p, err := posture.ParsePolicy([]byte("rules:\n- {name: all, requires: cmk, why: w}\nexceptions:\n- {resources: '*/excepted', owner: ann, reason: soon, expires: 2027-01-01}\n"))
	if err != nil {
		t.Fatal(err)
	}
	inv := &posture.Inventory{Gaps: []posture.Gap{{What: "x", Why: "403"}}}
	for id, body := range map[string]map[string]any{
		"/p/providers/Microsoft.Storage/storageAccounts/=cmd":                  {"name": "=cmd"},
		"/p/providers/Microsoft.Cache/redisEnterprise/<script>alert(1)\x1b[2J": {},
		"/p/providers/Microsoft.Cache/redisEnterprise/excepted":                {},
		"/p/providers/Microsoft.Sql/servers/unknown":                           {},
	} {
		body["id"] = id
		inv.Add(body, posture.Evidence{Source: "export", Path: "a b.json#/value/1", SHA256: "00"})
	}
	inv.Link()
	return posture.Judge(inv, p, nil, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
}

func write(t *testing.T, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, format, scan(t)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSARIF(t *testing.T) {
	var got struct {
		Schema  string `json:"$schema"`
		Version string `json:"version"`
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct{ ID string }
				}
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Kind      string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind string }
			}
		}
	}
	if err := json.Unmarshal(write(t, "sarif"), &got); err != nil {
		t.Fatal(err)
	}
	run := got.Runs[0]
	if got.Version != "2.1.0" || run.Tool.Driver.Name != "kluis" || len(run.Results) != 4 {
		t.Fatalf("%+v", got)
	}
	kinds := map[string]int{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID || r.Message.Text == "" || r.PartialFingerprints["kluisFinding/v1"] == "" || r.Locations[0].PhysicalLocation.ArtifactLocation.URI != "a%20b.json" {
			t.Errorf("%+v", r)
		}
		if r.Kind != "fail" && r.Level != "none" {
			t.Errorf("kind %s allows no level %s", r.Kind, r.Level)
		}
		kinds[r.Kind]++
		kinds["suppressed"] += len(r.Suppressions)
	}
	if kinds["fail"] != 3 || kinds["open"] != 1 || kinds["suppressed"] != 1 {
		t.Error(kinds)
	}
}

func TestJUnit(t *testing.T) {
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Suites   []struct {
			Skipped int `xml:"skipped,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(write(t, "junit"), &got); err != nil {
		t.Fatal(err)
	}
	skipped := 0
	for _, s := range got.Suites {
		skipped += s.Skipped
	}
	if got.Tests != 4 || got.Failures != 2 || got.Errors != 1 || skipped != 1 {
		t.Errorf("%+v", got)
	}
}

func TestOCSF(t *testing.T) {
	var got []map[string]any
	if err := json.Unmarshal(write(t, "ocsf"), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d events", len(got))
	}
	for _, e := range got {
		for _, name := range []string{"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata", "finding_info", "compliance", "resources"} {
			if e[name] == nil {
				t.Errorf("no %s", name)
			}
		}
		if e["type_uid"] != e["class_uid"].(float64)*100+e["activity_id"].(float64) {
			t.Errorf("type %v", e["type_uid"])
		}
	}
}

func TestHarmlessNames(t *testing.T) {
	if page := string(write(t, "html")); strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("a name became markup")
	}
	if table := string(write(t, "table")); strings.Contains(table, "\x1b") || !strings.Contains(table, "4 resources") || !strings.Contains(table, "not read: x: 403") {
		t.Errorf("%q", table)
	}
	rows, err := csv.NewReader(bytes.NewReader(write(t, "csv"))).ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("%q is a formula", cell)
			}
		}
	}
}

func TestUnknownFormat(t *testing.T) {
	if err := report.Write(&bytes.Buffer{}, "xls", scan(t)); err == nil {
		t.Error("no error")
	}
}
