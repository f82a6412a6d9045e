package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

func TestCertificate(t *testing.T) {
	c := config(t, &memory{})
	l := openLog(t, c)
	record(t, l, 5)
	checkpoint(t, l)
	record(t, l, 6) // which no checkpoint covers yet
	var all []audit.Certificate
	for n := range int64(11) {
		made, err := l.Certify(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(made, "", "   ") // a person's copy
		if err != nil {
			t.Fatal(err)
		}
		var read audit.Certificate
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		head, err := read.Verify(c.Verifier)
		if err != nil || head.Size < 6 || read.Entry.Operation != "test/act" {
			t.Fatalf("entry %d: %+v, %v", n, head, err)
		}
		all = append(all, read)
	}
	_, other := keys(t)
	for name, edit := range map[string]func(*audit.Certificate){
		"another resource": func(c *audit.Certificate) { c.Entry.Resource = "/things/7" },
		"another detail":   func(c *audit.Certificate) { c.Entry.Detail = map[string]string{"keys": "1"} },
		"another place":    func(c *audit.Certificate) { c.Sequence++ },
		"another's proof":  func(c *audit.Certificate) { c.Proof = all[4].Proof; c.Sequence = 4 },
		"no proof":         func(c *audit.Certificate) { c.Proof = "" },
		"no checkpoint":    func(c *audit.Certificate) { c.Proof, _, _ = strings.Cut(c.Proof, "\n\n") },
		"an edited size":   func(c *audit.Certificate) { c.Proof = strings.Replace(c.Proof, "\n11\n", "\n12\n", 1) },
		"a hash left out": func(c *audit.Certificate) {
			i := strings.Index(c.Proof, "\n\n")
			c.Proof = c.Proof[:i-45] + c.Proof[i:]
		},
		"a number with a 0": func(c *audit.Certificate) { c.Proof = strings.Replace(c.Proof, "index 3", "index 03", 1) },
	} {
		bad := all[3]
		edit(&bad)
		if head, err := bad.Verify(c.Verifier); err == nil {
			t.Errorf("%s: it verifies: %+v", name, head)
		}
	}
	if _, err := all[3].Verify(other); err == nil {
		t.Error("it verifies with another log's key")
	}
	if _, err := l.Certify(t.Context(), 11); fault.ReasonOf(err) != fault.NotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
}

func FuzzCertificate(f *testing.F) {
	f.Add("c2sp.org/tlog-proof@v1\nindex 0\n\nx\n1\n")
	f.Add("c2sp.org/tlog-proof@v1\nindex 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n")
	_, v, err := audit.CreateSigner(f.TempDir()+"/key", "test.example/log")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, proof string) {
		if _, err := (audit.Certificate{Proof: proof}).Verify(v); err == nil {
			t.Fatalf("nobody signed %q", proof)
		}
	})
}
