package system_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/softhsmtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/vault"
)

// A server that dies after it has made a key on a token, and before it has kept it,
// leaves the key there without a name: nobody can use it, and it is destroyed once its
// time is over. Other keys on the token are left alone.
func TestCrashBetweenMakingAndKeeping(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	token := softhsmtest.New(t)
	socket := "KLUIS_HSM_SOCKET=" + softhsmtest.Start(t, token).Socket
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	serve := func(env ...string) *process {
		t.Helper()
		p := start(t, s.data, s.port, append(env, socket)...)
		s.connect(t)
		return p
	}
	p := serve()
	s.makeVault(ctx, t)
	create := func(name string) error {
		_, err := s.keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr[int32](2048)}, nil)
		return err
	}
	must(t, create("kept"))
	before := token.Objects(t)
	p.stop(t)

	p = serve("KLUIS_FAILPOINTS=vault/make/after-key=exit")
	call, cancel := context.WithTimeout(ctx, 20*time.Second)
	_, err := s.keys.CreateKey(call, "lost", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr[int32](2048)}, nil)
	cancel()
	if err == nil || p.alive() {
		t.Fatalf("the server lives, and its answer is %v", err)
	}
	p.kill()
	made := token.Objects(t)
	if made <= before {
		t.Fatalf("%d objects on the token, %d before: nothing was made", made, before)
	}

	// A quarter of an hour is left to whoever might still be making it.
	p = serve()
	var refused *azcore.ResponseError
	if _, err := s.keys.GetKey(ctx, "lost", "", nil); !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
		t.Errorf("the key that was not kept: %v", err)
	}
	p.stop(t)
	if n := token.Objects(t); n != made {
		t.Errorf("%d objects on the token, want %d: it was destroyed early", n, made)
	}
	letTimePass(ctx, t, s.data, 16*time.Minute)
	p = serve()
	eventually(ctx, t, time.Minute, func() error { // on PostgreSQL the turn of one that died ends after 15 s
		if n := token.Objects(t); n != before {
			return errNotDone("objects are left on the token")
		}
		return nil
	})
	must(t, create("lost"))
	for _, name := range []string{"kept", "lost"} {
		_, err := s.keys.WrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: make([]byte, 32)}, nil)
		must(t, err)
	}
	p.stop(t)
	if said := s.fsck(t); !regexp.MustCompile(`vault +private key +0 +2 +0`).MatchString(said) {
		t.Errorf("fsck does not say that it has not looked at 2 private keys on the token:\n%s", said)
	}
}

// letTimePass lets what a stopped server's vault has left on a token be due that much
// earlier.
func letTimePass(ctx context.Context, t *testing.T, data string, d time.Duration) {
	t.Helper()
	db, err := enginetest.Party(ctx, filepath.Join(data, "vault"), store.VaultSchema)
	must(t, err)
	defer db.Close()
	must(t, db.Vault().Update(ctx, func(tx vault.Tx) error {
		all, err := tx.VaultRemains(time.Now().Add(time.Hour), 10)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			t.Errorf("%d places are reserved on the token, want 1", len(all))
		}
		for _, r := range all {
			r.Due = r.Due.Add(-d)
			if err := tx.AddVaultRemains(r); err != nil {
				return err
			}
		}
		return nil
	}))
}
