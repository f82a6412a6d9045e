package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/internal/sdk"
)

// encryptionUser is Azure's role Key Vault Crypto Service Encryption User: get,
// wrap and unwrap, and nothing else.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

const resourceGroup = "kluis"

// makeKey is the security officer's preparation: a vault that cannot lose a key,
// a key, and a grant to the platform's service principal on that key alone.
func (s *Story) makeKey(ctx context.Context) error {
	s.Step("1", "The security officer makes a vault and a key, and grants the platform its use")
	o := s.officer
	name := "bank-" + randomHex(4)
	poller, err := o.Vaults.BeginCreateOrUpdate(ctx, resourceGroup, name, armkeyvault.VaultCreateOrUpdateParameters{
		Location: to.Ptr("local"),
		Properties: &armkeyvault.VaultProperties{
			TenantID:                  &s.Target.TenantID,
			SKU:                       &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
			EnableRbacAuthorization:   to.Ptr(true),
			EnableSoftDelete:          to.Ptr(true),
			SoftDeleteRetentionInDays: to.Ptr[int32](7),
			EnablePurgeProtection:     to.Ptr(true),
		},
	}, nil)
	if err != nil {
		return fmt.Errorf("creating the vault: %w", err)
	}
	vault, err := poller.PollUntilDone(ctx, nil)
	if err != nil {
		return fmt.Errorf("creating the vault: %w", err)
	}
	s.key.vault = *vault.ID
	s.Claim(*vault.Properties.EnableSoftDelete && *vault.Properties.EnablePurgeProtection,
		"vault %s: soft delete and purge protection are on", *vault.Properties.VaultURI)
	if s.keys, err = o.Keys(*vault.Properties.VaultURI); err != nil {
		return err
	}
	s.key.name = "lakehouse-kek"
	key, err := s.keys.CreateKey(ctx, s.key.name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](3072)}, nil)
	if err != nil {
		return fmt.Errorf("creating the key: %w", err)
	}
	s.key.version = key.Key.KID.Version()
	s.key.identifier = strings.TrimSuffix(string(*key.Key.KID), "/"+s.key.version)
	s.Claim(len(key.Key.N) == 3072/8, "key %s: RSA, %d bits; its private part never leaves the vault", s.key.identifier, 8*len(key.Key.N))
	if err := s.grant(ctx); err != nil {
		return err
	}
	s.Tell("granted %s, the tenant's Fabric Platform CMK, the role Key Vault Crypto Service Encryption User on this key alone", s.Target.Platform.ObjectID)
	return nil
}

func (s *Story) keyScope() string { return s.key.vault + "/keys/" + s.key.name }

func (s *Story) grant(ctx context.Context) error {
	id := uuid.NewString()
	_, err := s.officer.Roles.Create(ctx, s.keyScope(), id, armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + s.Target.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
			PrincipalID:      &s.Target.Platform.ObjectID,
			PrincipalType:    to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	if err != nil {
		return fmt.Errorf("granting the role: %w", err)
	}
	s.key.assignment = id
	return nil
}

// A way is one way to revoke, and to take it back.
type way struct {
	name    string
	revoke  func(context.Context) error
	restore func(context.Context) error
}

// ways are the ways to revoke that the story shows.
func (s *Story) ways() []way {
	keys := s.keys
	enable := func(on bool) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := keys.UpdateKey(ctx, s.key.name, s.key.version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
			return err
		}
	}
	return []way{
		{"the platform's role is removed", func(ctx context.Context) error {
			_, err := s.officer.Roles.Delete(ctx, s.keyScope(), s.key.assignment, nil)
			return err
		}, s.grant},
		{"the key is disabled", enable(false), enable(true)},
		{"the key is soft-deleted", func(ctx context.Context) error {
			_, err := keys.DeleteKey(ctx, s.key.name, nil)
			return err
		}, func(ctx context.Context) error {
			return eventually(ctx, 30*time.Second, func() (bool, error) {
				_, err := keys.RecoverDeletedKey(ctx, s.key.name, nil)
				return err == nil, err
			})
		}},
	}
}

// rotate makes a new version of the key, and watches the platform move to it.
func (s *Story) rotate(ctx context.Context) error {
	s.Step("5", "The security officer rotates the key")
	before, err := s.lakeBytes()
	if err != nil {
		return err
	}
	old := s.key.version
	asked := time.Now()
	key, err := s.keys.RotateKey(ctx, s.key.name, nil)
	if err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	s.key.version = key.Key.KID.Version()
	var st sdk.EncryptionStatus
	err = eventually(ctx, time.Minute, func() (bool, error) {
		var err error
		st, err = s.status(ctx)
		return lastSegment(st.KeyVersion) == s.key.version, err
	})
	s.Claim(err == nil, "the platform noticed the new version by itself and moved to it after %s", time.Since(asked).Round(time.Millisecond))
	wraps := 0
	safe := false
	for _, v := range st.KeyVersions {
		wraps += v.LiveWraps
		safe = safe || lastSegment(v.KID) == old && v.SafeToDisable
	}
	s.Claim(wraps == 1, "one wrap of 32 bytes has changed; it is the only one there is")
	after, err := s.lakeBytes()
	if err != nil {
		return err
	}
	s.Claim(before == after, "no data was rewritten: the extents are the same files, byte for byte (%s)", mebibytes(after.size))
	s.Claim(safe, "the platform says that the old version is safe to disable")
	off := false
	if _, err := s.keys.UpdateKey(ctx, s.key.name, old, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &off}}, nil); err != nil {
		return fmt.Errorf("disabling the old version: %w", err)
	}
	err = s.readBack(ctx)
	s.Claim(err == nil, "the officer disables it, and every file still reads back%s", because(err))
	return nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
