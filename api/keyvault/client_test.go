package keyvault_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func serve(t testing.TB, f *vaulttest.Fixture) *vaulttest.Server {
	t.Helper()
	return vaulttest.Serve(t, func(port string) http.Handler {
		return keyvault.New(f.Vaults, vaulttest.Tokens{}, keyvault.Config{
			Suffix: "vault.localhost:" + port, HSMSuffix: "managedhsm.localhost:" + port, Authority: "https://login.localhost:" + port, Default: "kv1", Region: "westeurope",
		})
	})
}

// client returns an unmodified SDK client, set up through its public options, with
// the challenge's resource verified.
func client(t testing.TB, s *vaulttest.Server, c identity.Caller) *azkeys.Client {
	t.Helper()
	k, err := azkeys.NewClient("https://kv1.vault.localhost:"+s.Port, vaulttest.Credential{Caller: c}, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: s.Client, Retry: policy.RetryOptions{MaxRetries: -1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantStatus(t *testing.T, err error, status int, code string) {
	t.Helper()
	var re *azcore.ResponseError
	if !errors.As(err, &re) || re.StatusCode != status || re.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// The life of a key, as the Go SDK leads it.
func TestSDK(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1", func(s *vault.Spec) { s.RetentionDays = new(7) })
	s := serve(t, f)
	ctx := t.Context()
	service := vaulttest.Caller(2)
	f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.KeyScope("k"))
	k, svc := client(t, s, f.Officer), client(t, s, service)

	expires := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	created, err := k.CreateKey(ctx, "k", azkeys.CreateKeyParameters{
		Kty: new(azkeys.KeyTypeRSA), KeySize: new(int32(3072)), Tags: map[string]*string{"a": new("b")},
		KeyAttributes: &azkeys.KeyAttributes{Expires: &expires},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	version := created.Key.KID.Version()
	if want := "https://kv1.vault.localhost:" + s.Port + "/keys/k/" + version; string(*created.Key.KID) != want || len(version) != 32 {
		t.Errorf("kid %s, want %s", *created.Key.KID, want)
	}
	if len(created.Key.N) != 384 || !bytes.Equal(created.Key.E, []byte{1, 0, 1}) || !created.Attributes.Expires.Equal(expires) ||
		*created.Attributes.RecoveryLevel != "CustomizedRecoverable+Purgeable" || *created.Attributes.RecoverableDays != 7 || *created.Tags["a"] != "b" {
		t.Errorf("bundle %+v", created.KeyBundle)
	}

	share := []byte("0123456789abcdef0123456789abcdef")
	wrapped, err := svc.WrapKey(ctx, "k", "", azkeys.KeyOperationParameters{Algorithm: new(azkeys.EncryptionAlgorithmRSAOAEP256), Value: share}, nil)
	if err != nil || wrapped.KID.Version() != version {
		t.Fatalf("wrap: %v, %v", err, wrapped.KID)
	}
	rotated, err := k.RotateKey(ctx, "k", nil)
	if err != nil || rotated.Key.KID.Version() == version {
		t.Fatalf("rotate: %v", err)
	}
	unwrap := func(version string) error {
		r, err := svc.UnwrapKey(ctx, "k", version, azkeys.KeyOperationParameters{Algorithm: new(azkeys.EncryptionAlgorithmRSAOAEP256), Value: wrapped.Result}, nil)
		if err == nil && (!bytes.Equal(r.Result, share) || r.KID.Version() != version) {
			t.Errorf("unwrapped %x with %s", r.Result, *r.KID)
		}
		return err
	}
	if err := unwrap(version); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP, azkeys.EncryptionAlgorithmRSAOAEP256} {
		e, err := k.Encrypt(ctx, "k", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: share}, nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := k.Decrypt(ctx, "k", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: e.Result}, nil)
		if err != nil || !bytes.Equal(d.Result, share) {
			t.Errorf("%s: %v", alg, err)
		}
	}
	_, err = k.WrapKey(ctx, "k", "", azkeys.KeyOperationParameters{Algorithm: new(azkeys.EncryptionAlgorithmRSA15), Value: share}, nil)
	wantStatus(t, err, 400, "NotSupported")

	if _, err := k.UpdateKey(ctx, "k", version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: new(false)}}, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, unwrap(version), 403, "Forbidden")
	if got, err := svc.GetKey(ctx, "k", version, nil); err != nil || *got.Attributes.Enabled {
		t.Errorf("get of a disabled version: %v", err)
	}
	if _, err := k.UpdateKey(ctx, "k", version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: new(true)}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := unwrap(version); err != nil {
		t.Error(err)
	}

	_, err = svc.DeleteKey(ctx, "k", nil)
	wantStatus(t, err, 403, "Forbidden")
	deleted, err := k.DeleteKey(ctx, "k", nil)
	if err != nil || deleted.ScheduledPurgeDate.Sub(*deleted.DeletedDate) != 7*24*time.Hour || *deleted.RecoveryID == "" {
		t.Fatalf("delete: %v", err)
	}
	wantStatus(t, unwrap(version), 404, "KeyNotFound")
	_, err = k.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: new(azkeys.KeyTypeRSA)}, nil)
	wantStatus(t, err, 409, "Conflict")
	if _, err := k.GetDeletedKey(ctx, "k", nil); err != nil {
		t.Error(err)
	}
	if _, err := k.RecoverDeletedKey(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	if err := unwrap(version); err != nil {
		t.Error(err)
	}
	if _, err := k.DeleteKey(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.PurgeDeletedKey(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	_, err = k.GetDeletedKey(ctx, "k", nil)
	wantStatus(t, err, 404, "KeyNotFound")
}

// The SDK's pagers walk through more than one page.
func TestSDKPages(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	s := serve(t, f)
	k := client(t, s, f.Officer)
	want := map[string]bool{}
	for i := range 27 {
		name := "key-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		f.Key(t, "kv1", vault.KeyName(name))
		want[name] = true
	}
	pages := 0
	for p := k.NewListKeyPropertiesPager(nil); p.More(); pages++ {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			if !want[item.KID.Name()] || item.KID.Version() != "" {
				t.Errorf("unexpected or repeated %s", *item.KID)
			}
			delete(want, item.KID.Name())
		}
	}
	if len(want) != 0 || pages != 2 {
		t.Errorf("%d keys missing after %d pages", len(want), pages)
	}
	for range 26 {
		if _, err := k.RotateKey(t.Context(), "key-aa", nil); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for p := k.NewListKeyPropertiesVersionsPager("key-aa", nil); p.More(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			seen[item.KID.Version()] = true
		}
	}
	if len(seen) != 27 {
		t.Errorf("%d versions, want 27", len(seen))
	}
	if _, err := k.DeleteKey(t.Context(), "key-aa", nil); err != nil {
		t.Fatal(err)
	}
	for p := k.NewListDeletedKeyPropertiesPager(nil); p.More(); {
		page, err := p.NextPage(t.Context())
		if err != nil || len(page.Value) != 1 || page.Value[0].DeletedDate == nil {
			t.Fatalf("deleted keys: %v", err)
		}
	}
}
