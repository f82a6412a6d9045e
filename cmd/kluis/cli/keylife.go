package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

func keyShow(s *session) *cobra.Command {
	return s.withKey("show", "Show a key: its newest version, or the one named", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		r, err := keys.GetKey(ctx, k.name, k.version, nil)
		if err != nil {
			return err
		}
		b, a := r.KeyBundle, r.Attributes
		if s.output == "json" {
			return s.show(b, "", nil)
		}
		rows := [][]string{
			{"key", versionless(*b.Key.KID)}, {"version", b.Key.KID.Version()}, {"type", keyType(b.Key)}, {"operations", words(b.Key.KeyOps)},
			{"enabled", yes(value(a.Enabled))}, {"created", when(a.Created)}, {"not before", when(a.NotBefore)}, {"expires", when(a.Expires)},
			{"recovery", value(a.RecoveryLevel)}, {"platform", cmp.Or(value(a.HSMPlatform), "-")},
		}
		for _, name := range slices.Sorted(maps.Keys(b.Tags)) {
			rows = append(rows, []string{"tag " + name, value(b.Tags[name])})
		}
		return s.show(b, "PROPERTY,VALUE", rows)
	})
}

func words(ops []*azkeys.KeyOperation) string {
	var out []string
	for _, op := range ops {
		out = append(out, string(*op))
	}
	return strings.Join(out, " ")
}

// parseTime reads a point in time as people type it, a date meaning its start here.
func parseTime(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		if t, err = time.ParseInLocation(time.DateOnly, s, time.Local); err != nil {
			return nil, usage("a time is a date such as 2027-01-31, or 2027-01-31T12:00:00Z, not %q", s)
		}
	}
	return &t, nil
}

// keyFlags are the attributes that a key is given.
type keyFlags struct {
	expires, notBefore string
	ops                []string
	tags               map[string]string
}

func (f *keyFlags) declare(c *cobra.Command) {
	c.Flags().StringVar(&f.expires, "expires", "", "`TIME` from which nothing new goes under the key")
	c.Flags().StringVar(&f.notBefore, "not-before", "", "`TIME` before which the key is not used")
	c.Flags().StringSliceVar(&f.ops, "ops", nil, "what the key may be used for: wrapKey,unwrapKey, …")
	c.Flags().StringToStringVar(&f.tags, "tag", nil, "`NAME=VALUE`, once for each; they replace those that there are")
}

func (f *keyFlags) read() (p azkeys.UpdateKeyParameters, err error) {
	p.KeyAttributes = &azkeys.KeyAttributes{}
	if p.KeyAttributes.Expires, err = parseTime(f.expires); err != nil {
		return p, err
	}
	if p.KeyAttributes.NotBefore, err = parseTime(f.notBefore); err != nil {
		return p, err
	}
	for _, op := range f.ops {
		p.KeyOps = append(p.KeyOps, to.Ptr(azkeys.KeyOperation(op)))
	}
	for name, v := range f.tags {
		if p.Tags == nil {
			p.Tags = map[string]*string{}
		}
		p.Tags[name] = &v
	}
	return p, nil
}

func keySet(s *session) *cobra.Command {
	var f keyFlags
	c := s.withKey("set-attributes", "Change what a key's version may be used for and when: its newest, or the one named", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		p, err := f.read()
		if err != nil {
			return err
		}
		if f.expires == "" && f.notBefore == "" && p.KeyOps == nil && p.Tags == nil {
			return usage("say what to change: --expires, --not-before, --ops or --tag")
		}
		r, err := keys.UpdateKey(ctx, k.name, k.version, p, nil)
		if err != nil {
			return err
		}
		return s.showKey(r.KeyBundle)
	})
	f.declare(c)
	return c
}

func keyImport(s *session) *cobra.Command {
	var f keyFlags
	var file, typ string
	c := s.withKey("import", "Take in a key that was made elsewhere: PEM, JWK, or an HSM's transfer blob", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		given, err := f.read()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		defer clear(text)
		key, err := readKey(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		defer clearKey(key)
		if typ != "" {
			key.Kty = to.Ptr(azkeys.KeyType(typ))
		}
		key.KID = nil
		if given.KeyOps != nil {
			key.KeyOps = given.KeyOps
		}
		r, err := keys.ImportKey(ctx, k.name, azkeys.ImportKeyParameters{Key: key, KeyAttributes: given.KeyAttributes, Tags: given.Tags}, nil)
		if err != nil {
			return err
		}
		return s.showKey(r.KeyBundle)
	})
	c.Flags().StringVarP(&file, "file", "f", "", "the key's `FILE`")
	c.MarkFlagRequired("file")
	c.Flags().StringVar(&typ, "type", "", "RSA-HSM, EC-HSM or oct-HSM, where the key is to be one of an HSM")
	f.declare(c)
	return c
}

func keyBackup(s *session) *cobra.Command {
	var file string
	c := s.withKey("backup", "Write a key with all its versions to a file that only this installation opens", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		r, err := keys.BackupKey(ctx, k.name, nil)
		if err != nil {
			return err
		}
		out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = out.Write(r.Value)
		if err == nil {
			err = out.Sync()
		}
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		return s.done("Key %s is in %s. To bring it back: kluis key restore %s --file %s", k.name, file, k.vault, file)
	})
	c.Flags().StringVarP(&file, "file", "f", "", "a new `FILE`")
	c.MarkFlagRequired("file")
	return c
}

func keyRestore(s *session) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "restore VAULT",
		Short: "Bring a key back from a backup, under its old name",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			blob, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			keys, err := o.Keys(s.uri(o, args[0]))
			if err != nil {
				return err
			}
			r, err := keys.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
			if err != nil {
				return err
			}
			return s.showKey(r.KeyBundle)
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "", "the backup's `FILE`")
	c.MarkFlagRequired("file")
	return c
}

func (s *session) showPolicy(p azkeys.KeyRotationPolicy) error {
	var rows [][]string
	for _, a := range p.LifetimeActions {
		at := value(a.Trigger.TimeAfterCreate) + " after it was made"
		if a.Trigger.TimeBeforeExpiry != nil {
			at = *a.Trigger.TimeBeforeExpiry + " before it expires"
		}
		rows = append(rows, []string{strings.ToLower(string(*a.Action.Type)), at})
	}
	if p.Attributes != nil && p.Attributes.ExpiryTime != nil {
		rows = append(rows, []string{"new versions expire", *p.Attributes.ExpiryTime + " after they are made"})
	}
	return s.show(p, "WHAT,WHEN", rows)
}

func policyShow(s *session) *cobra.Command {
	return s.withKey("show", "Show when a key is rotated by itself", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		r, err := keys.GetKeyRotationPolicy(ctx, k.name, nil)
		if err != nil {
			return err
		}
		return s.showPolicy(r.KeyRotationPolicy)
	})
}

func policySet(s *session) *cobra.Command {
	var after, before, notify, expiry string
	c := s.withKey("set", "Replace a key's rotation policy; without a flag it has none", func(ctx context.Context, _ *sdk.Officer, keys *azkeys.Client, k keyRef) error {
		p := azkeys.KeyRotationPolicy{Attributes: &azkeys.KeyRotationPolicyAttributes{}, LifetimeActions: []*azkeys.LifetimeAction{}}
		if expiry != "" {
			p.Attributes.ExpiryTime = &expiry
		}
		add := func(kind azkeys.KeyRotationPolicyAction, t azkeys.LifetimeActionTrigger) {
			p.LifetimeActions = append(p.LifetimeActions, &azkeys.LifetimeAction{Action: &azkeys.LifetimeActionType{Type: &kind}, Trigger: &t})
		}
		switch {
		case after != "" && before != "":
			return usage("--rotate-after and --rotate-before exclude each other")
		case after != "":
			add(azkeys.KeyRotationPolicyActionRotate, azkeys.LifetimeActionTrigger{TimeAfterCreate: &after})
		case before != "":
			add(azkeys.KeyRotationPolicyActionRotate, azkeys.LifetimeActionTrigger{TimeBeforeExpiry: &before})
		}
		if notify != "" {
			add(azkeys.KeyRotationPolicyActionNotify, azkeys.LifetimeActionTrigger{TimeBeforeExpiry: &notify})
		}
		r, err := keys.UpdateKeyRotationPolicy(ctx, k.name, p, nil)
		if err != nil {
			return err
		}
		return s.showPolicy(r.KeyRotationPolicy)
	})
	f := c.Flags()
	f.StringVar(&after, "rotate-after", "", "rotate this `DURATION` after a version was made, such as P90D or P1Y")
	f.StringVar(&before, "rotate-before", "", "rotate this `DURATION` before a version expires")
	f.StringVar(&notify, "notify-before", "", "tell of the expiry this `DURATION` before it")
	f.StringVar(&expiry, "expiry", "", "`DURATION` after which versions made by rotation expire")
	return c
}
