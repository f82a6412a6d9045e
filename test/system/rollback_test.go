package system_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/store/enginetest"
)

// putBack replaces everything of a party, but for the extents, by what an older copy
// of the whole data directory has: whoever takes a snapshot of the disk back.
func (s *site) putBack(t *testing.T, old *site, party string) {
	t.Helper()
	to, from := filepath.Join(s.data, party), filepath.Join(old.data, party)
	entries, err := os.ReadDir(to)
	must(t, err)
	for _, e := range entries {
		if e.Name() != "extents" {
			must(t, os.RemoveAll(filepath.Join(to, e.Name())))
		}
	}
	entries, err = os.ReadDir(from)
	must(t, err)
	for _, e := range entries {
		if e.Name() == "extents" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, e.Name()), text, 0o600))
	}
	must(t, enginetest.Copied(from, to))
}

// unserved starts the server, and checks that it does not serve and says what to do.
func (s *site) unserved(t *testing.T, what string, env ...string) {
	t.Helper()
	p := start(t, s.data, s.port, env...)
	if p.alive() {
		p.kill()
		t.Fatalf("%s: it is served", what)
	}
	if said := p.log.String(); !strings.Contains(said, "witness") || !strings.Contains(said, "restore --declare") {
		t.Errorf("%s: it says %s", what, said)
	}
}

// TestRollback puts an older database of the vault, and of the platform, back under
// the object store as it is: it is refused each time, until a restore is declared.
func TestRollback(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	outside := t.TempDir()
	env := "KLUIS_WITNESS=" + outside
	s, p := underKey(ctx, t, env)
	p.stop(t)
	old := s.copy(t)

	// The custodian revokes, and the power goes the moment it is acknowledged.
	p = start(t, s.data, s.port, env)
	s.connect(t)
	_, err := s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, nil)
	must(t, err)
	p.kill()

	rounds := 2
	if slow {
		rounds = 100
	}
	newest := s.copy(t)
	for range rounds {
		s.putBack(t, old, "vault")
		s.unserved(t, "an older vault, which has the key enabled", env)
		s.putBack(t, newest, "vault")
	}
	p = start(t, s.data, s.port, env) // the mere crash, and the newest put back
	s.connect(t)
	_, err = s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)}}, nil)
	must(t, err)
	eventually(ctx, t, 30*time.Second, func() error { return s.readBack(ctx) })
	// The platform goes on to a new key version.
	_, err = s.keys.RotateKey(ctx, keyName, nil)
	must(t, err)
	s.await(ctx, t, "Active")
	p.stop(t)
	newest = s.copy(t)
	for range rounds {
		s.putBack(t, old, "platform")
		s.unserved(t, "an older platform", env)
		s.putBack(t, newest, "platform")
	}

	// What a witness may suffer.
	head := ""
	must(t, filepath.WalkDir(outside, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, "/vault/head.json") {
			head = path
		}
		return err
	}))
	whole, err := os.ReadFile(head)
	must(t, err)
	for what, text := range map[string][]byte{
		"a truncated witness":     whole[:len(whole)/2],
		"another's witness":       bytes.Replace(whole, []byte(`"instance": "`), []byte(`"instance": "0`), 1),
		"the platform's own head": must1(t, os.ReadFile, filepath.Join(filepath.Dir(filepath.Dir(head)), "platform", "head.json")),
		"a lost witness":          nil,
	} {
		must(t, os.Remove(head))
		if text != nil {
			must(t, os.WriteFile(head, text, 0o600))
		}
		s.unserved(t, what, env)
		must(t, os.WriteFile(head, whole, 0o600))
	}

	// Declared, the older ones are served, and the newer ones are refused.
	s.putBack(t, old, "vault")
	s.putBack(t, old, "platform")
	s.unserved(t, "both together", env)
	cmd := kluis(t, s.data, "restore", "--declare", "--data", s.data, "--why", "the drill", "--by", "anna")
	cmd.Env = append(cmd.Env, env)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "declared by anna") != 2 || !strings.Contains(string(out), "login: not older") {
		t.Fatalf("declaring: %v\n%s", err, out)
	}
	p = start(t, s.data, s.port, env)
	s.connect(t)
	must(t, s.readBack(ctx))
	p.stop(t)
	s.putBack(t, newest, "vault")
	s.unserved(t, "what the restore has left behind", env)
}

// must1 is must for a call that returns something.
func must1[A, B any](t *testing.T, f func(A) (B, error), a A) B {
	t.Helper()
	b, err := f(a)
	must(t, err)
	return b
}
