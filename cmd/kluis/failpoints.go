package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/failpoint"
)

// failpointsCommand lists the failpoints of a build that has them, for the crash
// tests.
func failpointsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "failpoints",
		Hidden: true,
		Args:   cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			for _, n := range failpoint.Names() {
				fmt.Fprintln(cmd.OutOrStdout(), n)
			}
		},
	}
}
