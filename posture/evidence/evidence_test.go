package evidence_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/evidence"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
)

func key(t testing.TB) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "kluis/test/evidence")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

var made = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func pack(t testing.TB, s note.Signer, files ...evidence.File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := evidence.Write(&b, s, evidence.Manifest{Made: made, Maker: "kluis test", Subject: "e"}, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// No byte of a pack can be changed, taken away or added.
func TestTampering(t *testing.T) {
	signer, verifier := key(t)
	archive := pack(t, signer, evidence.File{Name: "a.csv", Body: []byte("a,b\n")}, evidence.File{Name: "empty"})
	m, files, err := evidence.Open(archive, verifier)
	if err != nil || len(files) != 2 || m.Subject != "e" || !m.Made.Equal(made) {
		t.Fatalf("%+v %v: %v", m, files, err)
	}
	refused := func(what string, at int, archive []byte) {
		t.Helper()
		if _, _, err := evidence.Open(archive, verifier); !errors.Is(err, fault.Integrity) {
			t.Errorf("%s %d: %v", what, at, err)
		}
	}
	for i := range archive {
		for _, bit := range []byte{1, 0x80} {
			changed := slices.Clone(archive)
			changed[i] ^= bit
			refused("a bit flipped at", i, changed)
		}
	}
	for _, i := range []int{0, 1, len(archive) / 2, len(archive) - 1} {
		refused("cut at", i, archive[:i])
		refused("a byte more at", i, slices.Insert(slices.Clone(archive), i, 0))
	}
	refused("a byte more at the end", 0, append(slices.Clone(archive), 0))
	other, _ := key(t)
	refused("another's signature", 0, pack(t, other, files...))
}

func scan(t testing.TB) *posture.Scan {
	t.Helper()
	p, err := posture.ParsePolicy([]byte("rules:\n- {name: all, requires: cmk, why: w}\nexceptions:\n- {resources: '*/excepted', owner: ann, reason: soon, expires: 2027-01-01}\n"))
	if err != nil {
		t.Fatal(err)
	}
	inv := &posture.Inventory{}
	for id, body := range map[string]map[string]any{
		"/p/providers/Microsoft.Storage/storageAccounts/=cmd":   {"name": "=cmd"},
		"/p/providers/Microsoft.Cache/redisEnterprise/excepted": {},
	} {
		body["id"] = id
		inv.Add(body, posture.Evidence{Source: "export", Path: "a.json#/0", SHA256: "00"})
	}
	inv.Link()
	return posture.Judge(inv, p, nil, made)
}

func TestContents(t *testing.T) {
	signer, verifier := key(t)
	c := evidence.Contents{
		Scan: scan(t), Policy: []byte("rules: []\n"), Window: kpi.Window{From: made.AddDate(0, -1, 0), Until: made.Add(time.Hour)},
		KPIs: kpi.Input{
			Scans: []history.Scan{{Estate: "e", Time: made, Summary: scan(t).Summary}}, LogFrom: made.AddDate(0, -2, 0),
			Attempts: []kpi.Attempt{{Time: made, Request: "1", Principal: "eve", Key: "k"}},
		},
		Extra: []evidence.File{{Name: "drills/one.json", Body: []byte("{}")}},
	}
	files, err := c.Files()
	if err != nil {
		t.Fatal(err)
	}
	_, files, err = evidence.Open(pack(t, signer, files...), verifier)
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]string{}
	for _, f := range files {
		if _, twice := body[f.Name]; twice || len(f.Body) == 0 {
			t.Errorf("%s is there twice, or empty", f.Name)
		}
		body[f.Name] = string(f.Body)
	}
	for name, want := range map[string]string{
		"inventory.csv": "non-compliant", "exceptions.csv": "ann,soon,2027-01-01", "mappings.csv": "DNB Good Practice", "kpis.json": `"coverage"`,
		"scope/policy.yaml": "rules", "report.html": "<title>", "drills/one.json": "{}", "findings.csv": "CMK/", "keys.csv": "rotation", "README.txt": "Verify",
	} {
		if !strings.Contains(body[name], want) {
			t.Errorf("%s: %q", name, body[name])
		}
	}
	if strings.Contains(body["inventory.csv"], "\n=") {
		t.Error("a name became a formula")
	}
	if same, err := evidence.Recompute(files); !same || err != nil {
		t.Errorf("the figures are not reckoned again: %v", err)
	}
	for i := range files {
		if files[i].Name == "kpis-input.json" {
			files[i].Body = bytes.Replace(files[i].Body, []byte(`"eve"`), []byte(`"bob"`), 1)
		}
	}
	if same, _ := evidence.Recompute(files); same {
		t.Error("other input gives the same figures")
	}
}

// Every clause speaks of controls that there are.
func TestClauses(t *testing.T) {
	for _, c := range evidence.Clauses() {
		if c.Framework == "" || c.Clause == "" || c.Title == "" || len(c.Files) == 0 || c.Sure != "read" && c.Sure != "not checked against the text" {
			t.Errorf("%+v", c)
		}
		for _, name := range c.Controls {
			if _, known := posture.ControlByID(name); !known && name != "CMK/*" {
				t.Errorf("%s %s: there is no control %s", c.Framework, c.Clause, name)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	signer, verifier := key(f)
	f.Add(pack(f, signer, evidence.File{Name: "a", Body: []byte("b")}))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if m, files, err := evidence.Open(archive, verifier); err == nil && (len(m.Files) != len(files) || !bytes.Contains(archive, []byte(evidence.Format))) {
			t.Errorf("%+v", m)
		}
	})
}
