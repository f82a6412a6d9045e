package azpolicy_test

import (
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azpolicy"
	"github.com/kluis-io/kluis/posture/posturetest"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// definitions reads Azure's own, which lie outside the tree.
func definitions(t testing.TB, set string) []*azpolicy.Definition {
	t.Helper()
	dir := os.Getenv("KLUIS_TESTDATA")
	if dir == "" {
		effort.Missing(t, "KLUIS_TESTDATA, with azure-policy/cmk and azure-policy/key-vault of github.com/Azure/azure-policy,", "agreement with Azure Policy")
	}
	files, err := filepath.Glob(filepath.Join(dir, "azure-policy", set, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in %s/azure-policy/%s: %v", dir, set, err)
	}
	var out []*azpolicy.Definition
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		// Deprecated ones are disabled; here they are asked all the same. The parameter
		// without a default is the sets that disks may be under.
		d, err := azpolicy.Parse(text, map[string]any{"allowedEncryptionSets": []any{posturetest.SetOn}})
		if err == nil && d.Effect == "disabled" {
			d, err = azpolicy.Parse(text, map[string]any{"effect": "Audit"})
		}
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		out = append(out, d)
	}
	return out
}

// A verdict is what both engines say of one definition and one resource.
type verdict struct{ definition, typ, dialect, state, ours, azures string }

func (v verdict) key() string {
	return strings.Join([]string{v.definition, v.typ, v.dialect, v.state, v.ours, v.azures}, ",")
}

// TestAgreement asks both engines about resources of every type, under a key, under
// none and undecidable, in each dialect. They agree, or the table of differences says
// why they do not; it may say so of nothing on which they do.
func TestAgreement(t *testing.T) {
	all := definitions(t, "cmk")
	if len(all) != 60 {
		t.Errorf("%d definitions, want 60", len(all))
	}
	var got []verdict
	asked := map[string]map[string]bool{}
	for _, dialect := range []string{"arm", "az", "plan"} {
		change, source := posturetest.Dialects[dialect], "export"
		if dialect == "plan" {
			change, source = posturetest.Dialects["arm"], "tfplan"
		}
		for _, state := range []posture.State{posture.On, posture.Off, posture.Unknown} {
			e := posturetest.EachType(state, dialect == "plan")
			inv := &posture.Inventory{Keep: true}
			for _, b := range e.Bodies {
				inv.Add(change(b), posture.Evidence{Source: source})
			}
			inv.Link()
			posture.Judge(inv, nil, nil, now)
			estate := azpolicy.NewEstate(inv, now)
			for _, r := range inv.Resources {
				if _, wanted := e.Want[r.ID]; !wanted {
					continue
				}
				for _, d := range all {
					answer, _ := d.Evaluate(estate, inv.Object(r.ID))
					if answer == azpolicy.NotApplicable {
						continue
					}
					ours := r.CMK.State
					for i, p := range r.Parts {
						if posturetest.Find(r.Type+"#"+r.Parts[i].Name).Policy == d.Policy {
							ours = p.CMK.State
						}
					}
					if asked[d.Policy] == nil {
						asked[d.Policy] = map[string]bool{}
					}
					asked[d.Policy][answer] = true
					if agrees(ours, answer) {
						continue
					}
					got = append(got, verdict{d.Policy, r.Type, dialect, string(e.Want[r.ID]), string(ours), answer})
				}
			}
		}
	}
	for _, d := range all {
		if len(asked[d.Policy]) < 2 {
			t.Logf("%s %s: %v only", d.Policy, d.Title, slices.Collect(maps.Keys(asked[d.Policy])))
		}
		if len(asked[d.Policy]) == 0 {
			t.Errorf("%s (%s) was asked about nothing", d.Policy, d.Title)
		}
	}
	explained, used := differences(t), map[string]bool{}
	for _, v := range got {
		used[v.key()] = true
		if !explained[v.key()] {
			t.Errorf("not explained: %s", v.key())
		}
	}
	for key := range explained {
		if !used[key] {
			t.Errorf("explained, and they agree: %s", key)
		}
	}
}

func agrees(ours posture.State, azures string) bool {
	switch ours {
	case posture.On:
		return azures == azpolicy.Compliant
	case posture.Off, posture.Partial:
		return azures == azpolicy.NonCompliant
	case posture.NotSupported:
		return true
	}
	return azures == azpolicy.Unknown
}

// differences reads the table: a row may be about several dialects.
func differences(t *testing.T) map[string]bool {
	f, err := os.Open("testdata/differences.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, row := range rows[1:] {
		if row[6] == "" {
			t.Errorf("no reason: %v", row)
		}
		for dialect := range strings.FieldsSeq(row[2]) {
			v := verdict{row[0], row[1], dialect, row[3], row[4], row[5]}
			if out[v.key()] {
				t.Errorf("twice: %s", v.key())
			}
			out[v.key()] = true
		}
	}
	return out
}
