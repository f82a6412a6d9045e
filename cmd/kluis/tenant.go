package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/cmd/kluis/cli"
	"github.com/kluis-io/kluis/identity"
)

func tenantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tenant", Short: "Make further tenants, connect the platform to their directories, and change their settings"}
	cmd.AddCommand(tenantCreateCommand(), tenantAdoptCommand(), tenantConnectCommand(), cli.TenantSettings())
	return cmd
}

func tenantCreateCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a tenant with its first administrators",
		Long: `Make a tenant of this installation: a directory of its own, a subscription at the
vault, its first administrator and its first custodian. Their secrets are shown
once. The server must not run meanwhile.

The platform can use the tenant's keys once its administrator has made the
platform's principal there and 'kluis tenant connect' was told.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			made, err := createTenant(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return made.print(cmd.OutOrStdout(), output)
		},
	}
	addFlags(cmd.Flags())
	addOutput(cmd, &output)
	return cmd
}

// createTenant makes a tenant in a data directory that nobody serves. It is trusted
// last: what a crash leaves behind is a tenant that nobody can use, and no tenant
// that lacks something.
func createTenant(ctx context.Context, c Config, name string) (made initialised, err error) {
	s := &server{config: c, port: "443"}
	defer func() {
		if e := s.stop(); err == nil {
			err = e
		}
	}()
	if err := s.openData(ctx); err != nil {
		return made, err
	}
	if err := s.wire(ctx, &router{domain: c.Domain}); err != nil {
		return made, err
	}
	made = initialised{Tenant: identity.TenantID(uuid.NewString()), Subscription: uuid.NewString()}
	if made.Administrators, err = s.firstAdministrators(ctx, name, made.Tenant, made.Subscription); err != nil {
		return made, err
	}
	s.identity.Tenants = append(s.identity.Tenants, made.Tenant)
	return made, writeJSON(filepath.Join(c.Data, instanceFile), s.identity)
}

func tenantConnectCommand() *cobra.Command {
	var data, tenant, client, object, authority, kind, file string
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Tell the platform its credential in a tenant's directory",
		Long: `Tell the platform which principal it is in a tenant's directory, and with what it
gets its tokens there: those of the service principal Fabric Platform CMK that an
administrator of the tenant has made. A running platform takes it up by itself.

--credential says what it shows:
  client-secret       a secret, read from the standard input
  client-certificate  a certificate with its private key, PEM, in --file
  workload-identity   a token that a federated issuer keeps fresh in --file
  managed-identity    nothing: the machine's own identity, or the one that
                      --client-id names, in its own directory
  default             what the first of Azure's default credential chain has:
                      environment, workload identity, managed identity, az …

A confined server (--confine) reads a --file in a folder that it has read none in so
far after its next start, and runs no az.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := identity.ParseTenantID(tenant)
			if err != nil {
				return usageError{fmt.Errorf("--tenant: %w", err)}
			}
			if authority != "" && !isOrigin(authority) {
				return usageError{errors.New("--authority takes an https origin, such as https://login.microsoftonline.com")}
			}
			c := credential{
				Tenant: id, ClientID: client, ObjectID: identity.PrincipalID(object), Kind: credentialKind(kind), File: file,
				Authority: strings.TrimSuffix(authority, "/"),
			}
			needsFile, known := credentialKinds[c.Kind]
			if !known || needsFile != (file != "") {
				return usageError{errors.New("--credential takes client-secret, client-certificate, workload-identity, managed-identity or default, and the second and third need --file")}
			}
			if file != "" {
				if c.File, err = filepath.Abs(file); err != nil {
					return err
				}
				if _, err := os.Stat(c.File); err != nil {
					return err
				}
			}
			if c.Kind == managedIdentityOf && !cmd.Flags().Changed("client-id") {
				c.ClientID = ""
			}
			if c.Kind == clientSecret {
				if c.Secret, err = readSecret(cmd); err != nil {
					return err
				}
			}
			dir := filepath.Join(data, platformDir)
			if _, err := os.Stat(filepath.Join(dir, rootFile)); err != nil {
				return fmt.Errorf("%s holds no platform: %w", data, err)
			}
			dir = filepath.Join(dir, credentialsDir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			return writeJSON(filepath.Join(dir, string(id)+".json"), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	f.StringVar(&tenant, "tenant", "", "the tenant's `ID`")
	f.StringVar(&client, "client-id", identity.FabricPlatformCMK, "the principal's application `ID`")
	f.StringVar(&object, "object-id", "", "the principal's object `ID`, which the tenant's keys are granted to")
	f.StringVar(&kind, "credential", string(clientSecret), "the `KIND` of credential")
	f.StringVar(&file, "file", "", "the `FILE` of the certificate, or of the workload's token")
	f.StringVar(&authority, "authority", "", "the `ORIGIN` that issues the tenant's tokens; this installation's if not given")
	cmd.MarkFlagRequired("tenant")
	return cmd
}

// readSecret reads a secret from the standard input.
func readSecret(cmd *cobra.Command) (string, error) {
	secret, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if secret = strings.TrimSpace(secret); secret == "" {
		return "", usageError{fmt.Errorf("the standard input holds no secret: %w", errors.Join(err, errors.New("give it on one line")))}
	}
	return secret, nil
}
