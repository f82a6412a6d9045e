package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// custodial are the parties of that installation.
var custodial = []string{vaultDir, governanceDir, loginDir}

// installation makes one that has a backup, and returns both.
func installation(t *testing.T) (data, backup string) {
	t.Helper()
	dir := t.TempDir()
	phrase := filepath.Join(dir, "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := defaultConfig()
	c.Data, c.PassphraseFile, c.Roles = filepath.Join(dir, "d"), phrase, []string{roleVault, roleGovernance}
	if _, err := initialise(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	backup = filepath.Join(dir, "backup.tar")
	if _, err := backUp(t.Context(), c, backup, custodial); err != nil {
		t.Fatal(err)
	}
	return c.Data, backup
}

// repacked writes a backup anew with its manifest and its files changed.
func repacked(t *testing.T, backup string, edit func(m *manifest), file func(name string, text []byte) []byte) string {
	t.Helper()
	in, err := os.Open(backup)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(t.TempDir(), "changed.tar")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, w := tar.NewReader(in), tar.NewWriter(out)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		text, err2 := io.ReadAll(r)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if h.Name == manifestFile {
			var m manifest
			if err := json.Unmarshal(text, &m); err != nil {
				t.Fatal(err)
			}
			edit(&m)
			text, _ = json.Marshal(m)
		} else {
			text = file(h.Name, text)
		}
		h.Size = int64(len(text))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a restore refuses leaves the directory as it was.
func TestRestoreRefuses(t *testing.T) {
	_, backup := installation(t)
	other, _ := installation(t)
	for _, party := range custodial {
		if err := os.Remove(filepath.Join(other, party, databaseFile)); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(_ string, text []byte) []byte { return text }
	same := func(*manifest) {}
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.tar")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ from, into, want string }{
		"of another installation": {backup, other, "installation"},
		"cut":                     {cut, "", "unexpected EOF"},
		"a changed row": {repacked(t, backup, same, func(name string, text []byte) []byte {
			if strings.HasSuffix(name, databaseFile) {
				text = bytes.Clone(text)
				text[len(text)/2] ^= 1
			}
			return text
		}), "", "changed after"},
		"a name outside": {repacked(t, backup, func(m *manifest) { m.Files[0].Name = "../../" + m.Files[0].Name }, keep), "", "names the file"},
		"a file less":    {repacked(t, backup, func(m *manifest) { m.Files = m.Files[:len(m.Files)-1] }, keep), "", "more than its manifest"},
		"another root": {repacked(t, backup, func(m *manifest) {
			p := m.Parties[vaultDir]
			p.RootID = strings.Repeat("ab", 16)
			m.Parties[vaultDir] = p
		}, keep), "", "root"},
		"the platform":   {repacked(t, backup, func(m *manifest) { m.Parties[platformDir] = partyManifest{} }, keep), "", "platform's root"},
		"a party unsaid": {repacked(t, backup, func(m *manifest) { delete(m.Parties, loginDir) }, keep), "", "says nothing"},
		"a newer form":   {repacked(t, backup, func(m *manifest) { m.Version++ }, keep), "", "version 2"},
	} {
		into := test.into
		if into == "" {
			into = filepath.Join(t.TempDir(), "d")
		}
		_, err := restore(t.Context(), Config{Data: into}, test.from, nil, declaration{"anna", "a drill"})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		for _, party := range backedUp {
			if _, err := os.Stat(filepath.Join(into, party, databaseFile)); err == nil {
				t.Errorf("%s: the %s was put in place", name, party)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(into, ".restore-*")); left != nil {
			t.Errorf("%s: %v was left", name, left)
		}
	}
}

// A restored directory holds, and its logs verify.
func TestRestore(t *testing.T) {
	_, backup := installation(t)
	into := filepath.Join(t.TempDir(), "d")
	m, err := restore(t.Context(), Config{Data: into}, backup, nil, declaration{"anna", "a drill"})
	if err != nil {
		t.Fatal(err)
	}
	reports, err := verifyLogs(t.Context(), into)
	if err != nil || len(reports) != len(custodial) {
		t.Fatalf("%+v, %v", reports, err)
	}
	for _, r := range reports {
		if want := int(m.Parties[r.Party].Audit) + 1; !r.Holds || int(r.Report.Entries) != want {
			t.Errorf("%s: %+v, want %d entries", r.Party, r.Report, want)
		}
	}
}
