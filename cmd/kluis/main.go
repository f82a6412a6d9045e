// Command kluis puts a data platform's data under keys that only the customer
// controls: a vault that speaks the Azure Key Vault keys API, a platform that
// speaks Fabric's REST API and OneLake's Blob and ADLS Gen2 APIs, and the tools
// around them, in one binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/cmd/kluis/cli"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/harden"
)

// Exit codes.
const (
	exitFailed     = 1 // something went wrong
	exitUsage      = 2 // the command line is wrong
	exitNotHolding = 3 // a claim or check did not hold
)

// version is set by the release build.
var version = "dev"

// errNotHolding ends a command whose claim or check did not hold, after it has
// said so itself.
var errNotHolding = errors.New("a check did not hold")

// usageError marks a wrong command line.
type usageError struct{ error }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := harden.Dumps(); err != nil {
		fmt.Fprintf(os.Stderr, "kluis: core dumps could not be forbidden: %v\n", err)
	}
	root := newCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var cliUsage cli.UsageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNotHolding):
		return exitNotHolding
	case errors.As(err, &usage), errors.As(err, &cliUsage):
		fmt.Fprintf(os.Stderr, "kluis: %v\nSee 'kluis --help'.\n", err)
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "kluis: %v\n", err)
	if mend := fault.As(err).Mend; mend != "" {
		fmt.Fprintf(os.Stderr, "       %s\n", mend)
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "kluis",
		Short: "A data platform's data under keys that only the customer controls",
		Long: `kluis puts a data platform's data under keys that only the customer controls.

One binary holds a vault that speaks the Azure Key Vault keys API, and a platform
that speaks Fabric's REST API and OneLake's Blob and ADLS Gen2 APIs, every byte
encrypted under a key that the customer can rotate, and revoke.

Try it:

  kluis demo          tells and does the whole story in under a minute
  kluis serve --dev   a server to play with on https://localhost:8443`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(initCommand(), tenantCommand(), sparkCommand(), serveCommand(), demoCommand(), fsckCommand(), rootCommand(), backupCommand(), restoreCommand(), recoverCommand(), migrateCommand(), auditCommand(), webhooksCommand(), hostsCommand(), azCloudCommand(), postureCommand(), failpointsCommand())
	root.AddCommand(cli.Commands()...)
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// wrapArgs makes wrong arguments a usage error, of the command and those below.
func wrapArgs(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, a []string) error {
			if err := args(c, a); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}
