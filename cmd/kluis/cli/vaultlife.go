package cli

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// The end of a vault or, with --hsm, of a managed HSM, and the way back.

func vaultDelete(s *session) *cobra.Command {
	c := s.onVault("delete NAME", "Soft-delete a vault: every workspace under one of its keys goes dark until it is recovered", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		s.vaultDependents(ctx, o, name)
		if err := s.confirm("Every workspace under a key of "+s.what()+" "+name+" goes dark.", name); err != nil {
			return err
		}
		if err := o.Manage(ctx, http.MethodDelete, s.resourceID(o, group, name), vaultsVersion, nil, nil); err != nil {
			return err
		}
		return s.done("The %s %s is soft-deleted. To take it back: kluis vault recover %s%s", s.what(), name, name, s.hsmFlag())
	})
	s.confirmFlag(c)
	return c
}

// what is what the command is about.
func (s *session) what() string {
	if s.hsm {
		return "managed HSM"
	}
	return "vault"
}

// hsmFlag is what a command that is advised needs for the same.
func (s *session) hsmFlag() string {
	if s.hsm {
		return " --hsm"
	}
	return ""
}

// deletedID returns the id of a soft-deleted vault or managed HSM, or of all if no name
// is given.
func (s *session) deletedID(o *sdk.Officer, location, name string) string {
	kind := "deletedVaults"
	if s.hsm {
		kind = "deletedManagedHSMs"
	}
	id := "/subscriptions/" + o.Target().SubscriptionID + "/providers/Microsoft.KeyVault/"
	if name == "" {
		return id + kind
	}
	return id + "locations/" + url.PathEscape(location) + "/" + kind + "/" + url.PathEscape(name)
}

// A deletedVault is the part of one, or of a deleted managed HSM, that is shown.
type deletedVault struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		VaultID         string    `json:"vaultId,omitempty"`
		HSMID           string    `json:"mhsmId,omitempty"`
		Location        string    `json:"location"`
		Deleted         time.Time `json:"deletionDate"`
		Purged          time.Time `json:"scheduledPurgeDate"`
		PurgeProtection bool      `json:"purgeProtectionEnabled"`
	} `json:"properties"`
}

func vaultDeleted(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "deleted",
		Short: "List the soft-deleted vaults",
		Args:  cobra.NoArgs,
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, _ []string) error {
			var answer struct{ Value []deletedVault }
			if err := o.Manage(ctx, http.MethodGet, s.deletedID(o, "", ""), vaultsVersion, nil, &answer); err != nil {
				return err
			}
			var rows [][]string
			for _, v := range answer.Value {
				p := v.Properties
				rows = append(rows, []string{v.Name, when(&p.Deleted), when(&p.Purged), yes(p.PurgeProtection)})
			}
			return s.show(answer.Value, "NAME,DELETED,PURGED ON,PURGE PROTECTION", rows)
		}),
	}
}

func locationFlag(c *cobra.Command, location *string) {
	c.Flags().StringVar(location, "location", "local", "where the vault is said to be")
}

func vaultRecover(s *session) *cobra.Command {
	var location string
	c := s.onVault("recover NAME", "Take a soft-deleted vault back", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		in := vaultState{Location: location, Properties: vaultProperties{TenantID: o.Target().TenantID, CreateMode: "recover"}}
		if s.hsm {
			var h vaultState
			if err := o.Manage(ctx, http.MethodPut, s.resourceID(o, group, name), vaultsVersion, in, &h); err != nil {
				return err
			}
			return s.showHSMs(h, h)
		}
		var v armkeyvault.Vault
		if err := o.Manage(ctx, http.MethodPut, s.resourceID(o, group, name), vaultsVersion, in, &v); err != nil {
			return err
		}
		return s.showVaults([]*armkeyvault.Vault{&v})
	})
	locationFlag(c, &location)
	return c
}

func vaultPurge(s *session) *cobra.Command {
	var location string
	c := &cobra.Command{
		Use:   "purge NAME",
		Short: "Destroy a soft-deleted vault and its keys for good",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			name := args[0]
			id := s.deletedID(o, location, name)
			var answer struct{ Value []use }
			if err := o.Manage(ctx, http.MethodGet, id+"/usage", vaultsVersion, nil, &answer); err != nil {
				return err // who may not know may not purge
			}
			s.tellUses("a key of "+s.what()+" "+name, keyedUseHeader, keyedUseRows(o, answer.Value))
			if err := s.confirm("All data under a key of "+s.what()+" "+name+" is lost for good.", name); err != nil {
				return err
			}
			if err := o.Manage(ctx, http.MethodPost, id+"/purge", vaultsVersion, nil, nil); err != nil {
				return err
			}
			return s.done("The %s %s is gone.", s.what(), name)
		}),
	}
	locationFlag(c, &location)
	s.confirmFlag(c)
	return c
}
