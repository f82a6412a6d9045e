package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/softhsmtest"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/root"
)

// sealed makes a root under a seal and checks that another process's seal of the
// same configuration opens it.
func sealed(t *testing.T, seal func(context.Context) root.Seal) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), rootFile)
	made, _, err := root.Create(path, "test", seal(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := root.Open(path, seal(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if made.ID() != opened.ID() || *made.Derive("p") != *opened.Derive("p") {
		t.Error("another root")
	}
	return path
}

func wantOpen(t *testing.T, what, path string, seal root.Seal, want fault.Reason) {
	t.Helper()
	if _, err := root.Open(path, seal); fault.ReasonOf(err) != want {
		t.Errorf("%s: %v; want %s", what, err, want)
	}
}

func TestSealByToken(t *testing.T) {
	token := softhsmtest.New(t)
	helper := softhsmtest.Start(t, token)
	c := Config{Domain: "localhost", HSMSocket: helper.Socket}
	seal := func(ctx context.Context) root.Seal {
		s, err := c.sealAs(ctx, root.TokenType)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	path := sealed(t, seal)

	// The helper dies and comes back: nothing is lost.
	helper.Signal(t, syscall.SIGKILL)
	if _, err := root.Open(path, seal(t.Context())); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := root.Open(path, seal(gone)); err == nil {
		t.Error("opened without an answer")
	}
	// Another token is no answer; a token without the key is one.
	other := softhsmtest.Start(t, softhsmtest.New(t))
	c.HSMSocket = other.Socket
	wantOpen(t, "another token", path, seal(t.Context()), fault.Unavailable)
	c.HSMSocket = helper.Socket
	w := tokenWrapper{helper.Socket}
	if _, err := w.Unwrap(t.Context(), root.Wrapped{Key: "x/y", Algorithm: "A256KW", Bytes: make([]byte, 40)}); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("a malformed handle: %v", err)
	}
}

func TestSealByRemoteKey(t *testing.T) {
	vault := kektest.New(t)
	id := vault.Create("roots")
	w := remoteWrapper{config: vault.Config(), tenant: kektest.Tenant, key: id}
	seal := func(ctx context.Context) root.Seal { return root.RemoteKey(ctx, w) }
	path := sealed(t, seal)

	first := vault.Newest("roots")
	vault.Rotate("roots")
	if _, err := root.Open(path, seal(t.Context())); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	vault.Disable(first)
	wantOpen(t, "disabled", path, seal(t.Context()), fault.KEKRefused)
	vault.Enable(first)
	vault.Always(kektest.Unwrap, kektest.Status(500, "InternalError"))
	wantOpen(t, "no answer", path, seal(t.Context()), fault.KEKUnreachable)
	vault.Always(kektest.Unwrap, nil)
	if _, err := root.Open(path, seal(t.Context())); err != nil {
		t.Errorf("given back: %v", err)
	}

	// The root file does not choose the vault.
	_, err := w.Unwrap(t.Context(), root.Wrapped{Key: "https://evil.vault.azure.net/keys/a/" + first.Version(), Algorithm: string(kek.RSAOAEP256), Bytes: make([]byte, 256)})
	if fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("a key elsewhere: %v", err)
	}
}

func TestRemoteKeyConfig(t *testing.T) {
	good := filepath.Join(t.TempDir(), "credential.json")
	if err := os.WriteFile(good, []byte(`{"tenantId":"a","clientId":"b","clientSecret":"c","authority":"https://login.example"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "credential.json")
	if err := os.WriteFile(bad, []byte(`{"tenantId":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, file string
		ok        bool
	}{
		{"https://seal.vault.azure.net/keys/roots", good, true},
		{"https://seal.vault.other.example:8443/keys/roots", good, true},
		{"https://seal.vault.other.example:443/keys/roots", good, true},
		{"https://seal.vault.own.example/keys/roots", good, false},
		{"https://seal.managedhsm.own.example:8443/keys/roots", good, false},
		{"https://own.example/keys/roots", good, false},
		{"http://seal.vault.azure.net/keys/roots", good, false},
		{"https://seal.vault.azure.net/secrets/roots", good, false},
		{"https://seal.vault.azure.net/keys/roots", bad, false},
		{"", good, false},
		{"https://seal.vault.azure.net/keys/roots", "", false},
	} {
		_, err := Config{Domain: "own.example", SealKey: test.key, SealCredential: test.file}.remoteKey()
		if (err == nil) != test.ok {
			t.Errorf("%s with %q: %v", test.key, test.file, err)
		}
	}
}
