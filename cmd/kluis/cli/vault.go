package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// defaultGroup is the resource group of vaults for which none is named.
const defaultGroup = "kluis"

func vaultCommand() *cobra.Command {
	return group("vault", "Make and manage vaults, as the custodian", "custodian",
		vaultCreate, vaultList, vaultShow, vaultUpdate,
		nest("network", "Say from where a vault's keys can be reached", networkShow, networkAllow, networkDeny, networkDefault),
		nest("policy", "Give and take access policies, in a vault of that model", accessList, accessSet, accessDelete),
		nest("hsm", "Make managed HSMs, and give their own roles", hsmCreate, hsmList, hsmGrant, hsmRevoke),
		securityDomain,
		vaultWho, vaultDelete, vaultDeleted, vaultRecover, vaultPurge)
}

func groupFlag(c *cobra.Command, group *string) {
	c.Flags().StringVarP(group, "resource-group", "g", defaultGroup, "the vault's resource `GROUP`")
}

func vaultCreate(s *session) *cobra.Command {
	var group, location string
	var days int32
	var purgeable bool
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a vault, with soft delete and purge protection",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			p := armkeyvault.VaultCreateOrUpdateParameters{Location: &location, Properties: &armkeyvault.VaultProperties{
				TenantID: to.Ptr(o.Target().TenantID), EnableRbacAuthorization: to.Ptr(true), SoftDeleteRetentionInDays: &days,
				SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
			}}
			if !purgeable {
				p.Properties.EnablePurgeProtection = to.Ptr(true)
			}
			poller, err := o.Vaults.BeginCreateOrUpdate(ctx, group, args[0], p, nil)
			if err != nil {
				return err
			}
			v, err := poller.PollUntilDone(ctx, nil)
			if err != nil {
				return err
			}
			return s.showVaults([]*armkeyvault.Vault{&v.Vault})
		}),
	}
	groupFlag(c, &group)
	c.Flags().StringVar(&location, "location", "local", "where the vault is said to be")
	c.Flags().Int32Var(&days, "retention-days", 90, "for how many days deleted keys can be recovered, 7 to 90; never changed")
	c.Flags().BoolVar(&purgeable, "no-purge-protection", false, "let deleted keys be purged early; such a vault's keys protect no workspace")
	return c
}

func (s *session) showVaults(all []*armkeyvault.Vault) error {
	var rows [][]string
	for _, v := range all {
		rows = append(rows, []string{*v.Name, value(v.Properties.VaultURI), strconv.Itoa(int(value(v.Properties.SoftDeleteRetentionInDays))),
			yes(value(v.Properties.EnablePurgeProtection)), resourceGroup(*v.ID)})
	}
	return s.show(all, "NAME,URI,RETENTION DAYS,PURGE PROTECTION,GROUP", rows)
}

func vaultList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the vaults that you may see",
		Args:  cobra.NoArgs,
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, _ []string) error {
			all, err := collect(ctx, o.Vaults.NewListBySubscriptionPager(nil), func(p armkeyvault.VaultsClientListBySubscriptionResponse) []*armkeyvault.Vault {
				return p.Value
			})
			if err != nil {
				return err
			}
			return s.showVaults(all)
		}),
	}
}

func vaultShow(s *session) *cobra.Command {
	var group string
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a vault",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			v, err := o.Vaults.Get(ctx, group, args[0], nil)
			if err != nil {
				return err
			}
			return s.showVaults([]*armkeyvault.Vault{&v.Vault})
		}),
	}
	groupFlag(c, &group)
	return c
}

// resourceGroup returns the group in a resource's id.
func resourceGroup(id string) string {
	parts := strings.Split(id, "/")
	for i := 0; i+1 < len(parts); i++ {
		if strings.EqualFold(parts[i], "resourceGroups") {
			return parts[i+1]
		}
	}
	return ""
}
