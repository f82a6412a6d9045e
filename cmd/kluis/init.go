package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/vault"
)

func initCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a data directory: roots, recovery shares and the first administrators",
		Long: `Make a data directory: the roots of the parties served with their recovery
shares, and the first administrator of each. Nothing else is made.

The roots are sealed as --seal says: by the passphrase in --passphrase-file, by a
key on the token behind --hsm-socket, or by the key --seal-key of a vault elsewhere.
'kluis serve' needs the same at each start. Of the five recovery shares of a root, any three open it
without any of that: give them to different people. Shares and secrets are
printed once and kept nowhere.

A party's database is embedded, or with --database one of its own on a PostgreSQL
server, empty and of a role of its own. The connection string is kept in the file
database in the party's folder; a password in it is better left to PGPASSFILE.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			c.Dev = false
			made, err := initialise(cmd.Context(), c)
			if err != nil {
				return err
			}
			return made.print(cmd.OutOrStdout(), output)
		},
	}
	addFlags(cmd.Flags())
	cmd.Flags().MarkHidden("dev")
	addOutput(cmd, &output)
	return cmd
}

// An initialised is what `kluis init` has made, and shows once.
type initialised struct {
	Tenant         identity.TenantID    `json:"tenantId"`
	Subscription   string               `json:"subscriptionId"`
	Administrators map[string]Principal `json:"administrators"`
	RecoveryShares map[string][]string  `json:"recoveryShares"`
}

func initialise(ctx context.Context, c Config) (made initialised, err error) {
	seal, err := c.seal(ctx)
	if err != nil {
		return made, err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return made, err
	}
	s := &server{config: c, identity: newInstance(), port: "443"}
	defer func() {
		if e := s.stop(); err == nil {
			err = e
		}
	}()
	if s.lock, err = lockDir(c.Data); err != nil {
		return made, err
	}
	shares, err := s.create(ctx, seal, c.Roles...)
	if err != nil {
		return made, err
	}
	s.lock.Close() // openData takes it again
	if err := s.openData(ctx); err != nil {
		return made, err
	}
	if err := s.wire(ctx, &router{domain: c.Domain}); err != nil {
		return made, err
	}
	made = initialised{Tenant: s.identity.Tenant, Subscription: s.identity.Subscription, RecoveryShares: texts(shares)}
	made.Administrators, err = s.firstAdministrators(ctx, "kluis", s.identity.Tenant, s.identity.Subscription)
	return made, err
}

func texts(shares map[string]root.Shares) map[string][]string {
	out := map[string][]string{}
	for party, all := range shares {
		for _, one := range all {
			out[party] = append(out[party], one.Text())
		}
	}
	return out
}

// firstAdministrators makes a tenant with the first administrator of the platform and
// the first custodian of the vault: two people from the start.
func (s *server) firstAdministrators(ctx context.Context, name string, tenant identity.TenantID, subscription string) (map[string]Principal, error) {
	admin, secret, err := s.directory.Bootstrap(ctx, tenant, name, "admin")
	if err != nil {
		return nil, err
	}
	out := map[string]Principal{"admin": {ClientID: admin.Application, ClientSecret: secret.Text, ObjectID: admin.ID}}
	by := identity.Caller{Tenant: tenant, Principal: admin.ID, Application: admin.Application, Type: identity.ServicePrincipal}
	if s.vaults != nil {
		if out["custodian"], err = s.newPrincipal(ctx, by, "", "custodian"); err != nil {
			return nil, err
		}
		sub := vault.Subscription{ID: subscription, Tenant: tenant, Name: name}
		if err := s.vaults.Provision(ctx, sub, custodianRoles(out["custodian"].ObjectID, sub.Scope())...); err != nil {
			return nil, err
		}
	}
	if s.records != nil && tenant == s.identity.Tenant {
		if err := s.records.Provision(ctx, assignments(admin.ID, "/", rbac.GovernanceOfficer)...); err != nil {
			return nil, err
		}
	}
	if s.workspaces != nil {
		first := assignments(admin.ID, "/", rbac.TenantAdministrator, rbac.WorkspaceCreator)
		if err := s.workspaces.Provision(ctx, tenant, first...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (i initialised) print(w io.Writer, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(i)
	}
	fmt.Fprintf(w, "tenant        %s\nsubscription  %s\n", i.Tenant, i.Subscription)
	for _, name := range []string{"admin", "custodian"} {
		if p, ok := i.Administrators[name]; ok {
			fmt.Fprintf(w, "\n%s\n  client id      %s\n  client secret  %s\n", name, p.ClientID, p.ClientSecret)
		}
	}
	for _, party := range []string{loginDir, vaultDir, platformDir} {
		if len(i.RecoveryShares[party]) == 0 {
			continue
		}
		fmt.Fprintf(w, "\nrecovery shares of the %s's root (any three open it)\n", party)
		for _, s := range i.RecoveryShares[party] {
			fmt.Fprintf(w, "  %s\n", s)
		}
	}
	fmt.Fprintln(w, "\nThis is shown once. Give the shares to different people, and the secrets to their owners.")
	return nil
}
