package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func hostsCommand() *cobra.Command {
	var domain string
	var vaults []string
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "Print the lines for a hosts file",
		Long: `Print the lines for a hosts file, for machines that do not resolve names below
the domain by themselves:

  kluis hosts --vault myvault | sudo tee -a /etc/hosts`,
		Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			names := []string{"login", "management", "graph", "api.fabric", storageAccount + ".blob", storageAccount + ".dfs"}
			for _, v := range append([]string{defaultVault}, vaults...) {
				names = append(names, v+".vault")
			}
			for _, n := range names {
				fmt.Fprintf(cmd.OutOrStdout(), "127.0.0.1 %s.%s\n", n, domain)
			}
		},
	}
	cmd.Flags().StringVar(&domain, "domain", defaultConfig().Domain, "`NAME` under which the services' hosts lie")
	cmd.Flags().StringSliceVar(&vaults, "vault", nil, "also print the lines of these `VAULT`s")
	return cmd
}
