package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

func keyCommand() *cobra.Command {
	return group("key", "Make, rotate, revoke and restore keys, as the custodian", "custodian",
		keyCreate, keyImport, keyShow, keyList, keyVersions, keySet, keyUsage, keyRotate,
		nest("rotation-policy", "Say when a key is rotated by itself", policyShow, policySet),
		keyEnable, keyDisable, keyBackup, keyRestore, keyDelete, keyDeleted, keyRecover, keyPurge, keyGrant, keyRevoke)
}

// A keyRef is a key named VAULT/NAME on the command line, with a version behind a
// further slash where one is meant.
type keyRef struct{ vault, name, version string }

func parseKey(s string) (keyRef, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return keyRef{}, usage("a key is named VAULT/NAME or VAULT/NAME/VERSION, not %q", s)
	}
	k := keyRef{vault: parts[0], name: parts[1]}
	if len(parts) == 3 {
		k.version = parts[2]
	}
	return k, nil
}

// withKey makes a command on one key.
func (s *session) withKey(use, short string, run func(ctx context.Context, o *sdk.Officer, keys *azkeys.Client, k keyRef) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " VAULT/NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			k, err := parseKey(args[0])
			if err != nil {
				return err
			}
			keys, err := o.Keys(s.uri(o, k.vault))
			if err != nil {
				return err
			}
			return run(ctx, o, keys, k)
		}),
	}
}

func (s *session) showKey(b azkeys.KeyBundle) error {
	a := b.Attributes
	return s.show(b, "KEY,VERSION,TYPE,ENABLED,EXPIRES,RECOVERY", [][]string{{
		versionless(*b.Key.KID), b.Key.KID.Version(), keyType(b.Key), yes(value(a.Enabled)), when(a.Expires), value(a.RecoveryLevel),
	}})
}

func versionless(id azkeys.ID) string {
	return strings.TrimSuffix(string(id), "/"+id.Version())
}

func keyType(k *azkeys.JSONWebKey) string {
	t := string(value(k.Kty))
	if len(k.N) > 0 {
		return fmt.Sprintf("%s %d", t, 8*len(k.N))
	}
	if k.Crv != nil {
		return t + " " + string(*k.Crv)
	}
	return t
}

func keyCreate(s *session) *cobra.Command {
	var typ, curve string
	var size int32
	c := s.withKey("create", "Make a key, or a new version of one that is there", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		p := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(typ))}
		if size > 0 {
			p.KeySize = &size
		}
		if curve != "" {
			p.Curve = to.Ptr(azkeys.CurveName(curve))
		}
		r, err := keys.CreateKey(ctx, k.name, p, nil)
		if err != nil {
			return err
		}
		return s.showKey(r.KeyBundle)
	})
	c.Flags().StringVar(&typ, "type", "RSA", "RSA, EC, oct, or the -HSM form of one")
	c.Flags().Int32Var(&size, "size", 3072, "bits")
	c.Flags().StringVar(&curve, "curve", "", "of an EC key")
	return c
}

func listKeys(ctx context.Context, keys *azkeys.Client) ([]*azkeys.KeyProperties, error) {
	return collect(ctx, keys.NewListKeyPropertiesPager(nil), func(p azkeys.ListKeyPropertiesResponse) []*azkeys.KeyProperties { return p.Value })
}

func listVersions(ctx context.Context, keys *azkeys.Client, name string) ([]*azkeys.KeyProperties, error) {
	return collect(ctx, keys.NewListKeyPropertiesVersionsPager(name, nil), func(p azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return p.Value })
}

func keyList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list VAULT",
		Short: "List a vault's keys",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			keys, err := o.Keys(s.uri(o, args[0]))
			if err != nil {
				return err
			}
			all, err := listKeys(ctx, keys)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range all {
				rows = append(rows, []string{k.KID.Name(), yes(value(k.Attributes.Enabled)), when(k.Attributes.Created), when(k.Attributes.Expires)})
			}
			return s.show(all, "NAME,ENABLED,CREATED,EXPIRES", rows)
		}),
	}
}

func keyVersions(s *session) *cobra.Command {
	return s.withKey("versions", "List a key's versions", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		all, err := listVersions(ctx, keys, k.name)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, v := range all {
			rows = append(rows, []string{v.KID.Version(), yes(value(v.Attributes.Enabled)), when(v.Attributes.Created), when(v.Attributes.Expires)})
		}
		return s.show(all, "VERSION,ENABLED,CREATED,EXPIRES", rows)
	})
}

func keyRotate(s *session) *cobra.Command {
	return s.withKey("rotate", "Make a new version; the platform moves to it by itself", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		r, err := keys.RotateKey(ctx, k.name, nil)
		if err != nil {
			return err
		}
		return s.showKey(r.KeyBundle)
	})
}

func keyEnable(s *session) *cobra.Command {
	return s.withKey("enable", "Switch a key's version on: its newest, or the one named", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		return s.setEnabled(ctx, keys, k, true)
	})
}

func keyDisable(s *session) *cobra.Command {
	var all bool
	c := s.withKey("disable", "Switch a key's version off: its newest, or the one named, or all to revoke", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		if !all {
			return s.setEnabled(ctx, keys, k, false)
		}
		versions, err := listVersions(ctx, keys, k.name)
		if err != nil {
			return err
		}
		for _, v := range versions {
			k.version = v.KID.Version()
			if err := s.setEnabled(ctx, keys, k, false); err != nil {
				return err
			}
		}
		return nil
	})
	c.Flags().BoolVar(&all, "all-versions", false, "every version: nothing that the key protects opens any more")
	return c
}

func (s *session) setEnabled(ctx context.Context, keys *azkeys.Client, k keyRef, on bool) error {
	r, err := keys.UpdateKey(ctx, k.name, k.version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
	if err != nil {
		return err
	}
	return s.showKey(r.KeyBundle)
}

func keyDelete(s *session) *cobra.Command {
	c := s.withKey("delete", "Soft-delete a key: every workspace under it goes dark until it is recovered", func(ctx context.Context, o *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		s.dependents(ctx, o, k)
		if err := s.confirm("Every workspace under key "+k.name+" goes dark.", k.name); err != nil {
			return err
		}
		if _, err := keys.DeleteKey(ctx, k.name, nil); err != nil {
			return err
		}
		return s.done("Key %s is soft-deleted. To take it back: kluis key recover %s/%s", k.name, k.vault, k.name)
	})
	s.confirmFlag(c)
	return c
}

func keyDeleted(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "deleted VAULT",
		Short: "List a vault's soft-deleted keys",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			keys, err := o.Keys(s.uri(o, args[0]))
			if err != nil {
				return err
			}
			all, err := collect(ctx, keys.NewListDeletedKeyPropertiesPager(nil), func(p azkeys.ListDeletedKeyPropertiesResponse) []*azkeys.DeletedKeyProperties {
				return p.Value
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range all {
				rows = append(rows, []string{k.KID.Name(), when(k.DeletedDate), when(k.ScheduledPurgeDate)})
			}
			return s.show(all, "NAME,DELETED,PURGED ON", rows)
		}),
	}
}

func keyRecover(s *session) *cobra.Command {
	return s.withKey("recover", "Take a soft-deleted key back", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		r, err := keys.RecoverDeletedKey(ctx, k.name, nil)
		if err != nil {
			return err
		}
		return s.showKey(r.KeyBundle)
	})
}

func keyPurge(s *session) *cobra.Command {
	c := s.withKey("purge", "Destroy a soft-deleted key for good", func(ctx context.Context, o *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		s.dependents(ctx, o, k)
		if err := s.confirm("All data under key "+k.name+" is lost for good.", k.name); err != nil {
			return err
		}
		if _, err := keys.PurgeDeletedKey(ctx, k.name, nil); err != nil {
			return err
		}
		return s.done("Key %s is gone.", k.name)
	})
	s.confirmFlag(c)
	return c
}
