package system_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/softhsmtest"
)

// Managed HSM Crypto Service Encryption User, and Crypto User.
const (
	hsmEncryptionUser = "33413926-3206-4cdd-b39a-83574fe37a17"
	hsmCryptoUser     = "21dbd100-6940-42c2-9190-5d6cb909625b"
)

// TestHSM puts a workspace under a key that lives on a PKCS#11 token, of each type
// that can protect one: it is rotated, revoked and restored, and the token keeps
// its private part to itself.
func TestHSM(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	token := softhsmtest.New(t)
	helper := softhsmtest.Start(t, token)
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, "KLUIS_HSM_SOCKET="+helper.Socket, "KLUIS_ACTIVATE_HSMS=true")
	s.connect(t)
	s.furnish(ctx, t)
	target := s.clients.Target
	custodian := target.Principals["custodian"]

	cred, err := s.clients.Credential("custodian")
	must(t, err)
	pools, err := armkeyvault.NewManagedHsmsClient(target.SubscriptionID, cred, s.clients.ARM())
	must(t, err)
	poller, err := pools.BeginCreateOrUpdate(ctx, "kluis", "pool", armkeyvault.ManagedHsm{
		Location: to.Ptr("local"),
		SKU:      &armkeyvault.ManagedHsmSKU{Family: to.Ptr(armkeyvault.ManagedHsmSKUFamilyB), Name: to.Ptr(armkeyvault.ManagedHsmSKUNameStandardB1)},
		Properties: &armkeyvault.ManagedHsmProperties{
			TenantID: &target.TenantID, InitialAdminObjectIDs: []*string{&custodian.ObjectID},
			EnableSoftDelete: to.Ptr(true), SoftDeleteRetentionInDays: to.Ptr[int32](7), EnablePurgeProtection: to.Ptr(true),
		},
	}, nil)
	must(t, err)
	_, err = poller.PollUntilDone(ctx, nil)
	must(t, err)
	host := "https://pool.managedhsm." + target.Domain + ":" + s.port
	keys, err := s.officer.Keys(host)
	must(t, err)
	grant := func(id, role, principal, scope string) {
		t.Helper()
		tok, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://managedhsm." + target.Domain + ":" + s.port + "/.default"}})
		must(t, err)
		body, _ := json.Marshal(map[string]any{"properties": map[string]string{
			"roleDefinitionId": "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + role, "principalId": principal,
		}})
		req, err := http.NewRequestWithContext(ctx, "PUT", host+scope+"/providers/Microsoft.Authorization/roleAssignments/"+id+"?api-version=7.4", bytes.NewReader(body))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+tok.Token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := s.clients.HTTP.Do(req)
		must(t, err)
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
			t.Fatalf("granting %s at %s: %s %s", role, scope, resp.Status, text)
		}
	}
	grant("00000000-0000-4000-8000-000000000001", hsmCryptoUser, custodian.ObjectID, "")

	for i, k := range []struct {
		name string
		make azkeys.CreateKeyParameters
	}{
		{"rsa", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeySize: to.Ptr[int32](2048)}},
		{"oct", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeOctHSM), KeySize: to.Ptr[int32](256),
			KeyOps: []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationWrapKey), to.Ptr(azkeys.KeyOperationUnwrapKey)}}},
	} {
		t.Run(k.name+"-HSM", func(t *testing.T) {
			made, err := keys.CreateKey(ctx, k.name, k.make, nil)
			must(t, err)
			grant(fmt.Sprintf("00000000-0000-4000-8000-00000000001%d", i), hsmEncryptionUser, target.Platform.ObjectID, "/keys/"+k.name)
			s.identifier = strings.TrimSuffix(string(*made.Key.KID), "/"+made.Key.KID.Version())
			must(t, s.assign(ctx))
			s.await(ctx, t, "Active")
			must(t, s.readBack(ctx))

			rotated, err := keys.RotateKey(ctx, k.name, nil)
			must(t, err)
			eventually(ctx, t, 30*time.Second, func() error {
				st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
				if err == nil && lastSegment(st.KeyVersion) != rotated.Key.KID.Version() {
					err = errNotDone(st.KeyVersion)
				}
				return err
			})
			must(t, s.readBack(ctx))

			set := func(on bool) {
				t.Helper()
				_, err := keys.UpdateKey(ctx, k.name, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
				must(t, err)
			}
			set(false)
			eventually(ctx, t, bound, func() error { return s.refused(ctx) })
			set(true)
			eventually(ctx, t, 30*time.Second, func() error { return s.readBack(ctx) })
		})
	}
	p.stop(t)
}

// refused reports, as an error, whether reading still works.
func (s *site) refused(ctx context.Context) error {
	if _, err := s.get(ctx, s.smallest()); !refusedByKey(err) {
		return fmt.Errorf("a read is answered with %v", err)
	}
	return nil
}
