// Package cli holds the commands that speak to a running server as one of its
// clients: with the official SDKs, as a principal, and with that principal's
// rights alone.
package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/internal/sdk"
)

// Commands returns the commands of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{vaultCommand(), keyCommand(), approvalCommand(), workspaceCommand(), itemCommand(), encryptionCommand(), lakeCommand(), drillCommand(), emergencyCommand(), userCommand()}
}

// A UsageError is a wrong command line that only running it has shown.
type UsageError struct{ error }

func usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// A session is one command's run: which server, as whom, and how it answers.
type session struct {
	profile string
	as      string
	output  string
	yes     bool
	hsm     bool
	out     io.Writer
	in      io.Reader
	errOut  io.Writer
}

// group makes a command that only holds others.
func group(use, short string, as string, subs ...func(*session) *cobra.Command) *cobra.Command {
	s := &session{}
	cmd := &cobra.Command{Use: use, Short: short}
	s.flags(cmd)
	f := cmd.PersistentFlags()
	f.StringVar(&s.as, "as", as, "the `PRINCIPAL` of the profile to act as")
	if as == "custodian" {
		f.BoolVar(&s.hsm, "hsm", false, "the vault named is a managed HSM")
	}
	for _, sub := range subs {
		c := sub(s)
		s.wrap(c)
		cmd.AddCommand(c)
	}
	return cmd
}

// flags declares what all commands of this package have.
func (s *session) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	profile := os.Getenv("KLUIS_PROFILE")
	if profile == "" {
		profile = filepath.Join("kluis-data", "bootstrap.json")
	}
	f.StringVar(&s.profile, "profile", profile, "the server and its principals: a bootstrap.json `FILE`, or KLUIS_PROFILE")
	f.StringVarP(&s.output, "output", "o", "table", "table or json")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// nest makes a command of a group that only holds others.
func nest(use, short string, subs ...func(*session) *cobra.Command) func(*session) *cobra.Command {
	return func(s *session) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short}
		for _, sub := range subs {
			cmd.AddCommand(sub(s))
		}
		return cmd
	}
}

// wrap gives a command, or those that it holds, the session's ends.
func (s *session) wrap(c *cobra.Command) {
	for _, sub := range c.Commands() {
		s.wrap(sub)
	}
	run := c.RunE
	if run == nil {
		return
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if s.output != "table" && s.output != "json" {
			return usage("--output is table or json, not %q", s.output)
		}
		s.out, s.in, s.errOut = cmd.OutOrStdout(), cmd.InOrStdin(), cmd.ErrOrStderr()
		return Explain(run(cmd, args))
	}
}

// confirmFlag declares --yes, of commands that ask before they act.
func (s *session) confirmFlag(c *cobra.Command) {
	c.Flags().BoolVar(&s.yes, "yes", false, "do not ask")
}

// confirm asks for a name to be typed before what cannot be undone is done.
func (s *session) confirm(what, name string) error {
	if s.yes {
		return nil
	}
	if f, ok := s.in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usage("%s: say --yes where nobody can be asked", what)
	}
	fmt.Fprintf(s.errOut, "%s Type %q to go on: ", what, name)
	line, _ := bufio.NewReader(s.in).ReadString('\n')
	if strings.TrimSpace(line) != name {
		return errors.New("nothing was done")
	}
	return nil
}

// clients connects to the profile's server.
func (s *session) clients() (*sdk.Clients, error) {
	t, err := sdk.ReadProfile(s.profile)
	if err != nil {
		return nil, fmt.Errorf("%w\nStart a server with 'kluis serve --dev', or name its bootstrap.json with --profile", err)
	}
	return sdk.New(t)
}

func (s *session) officer() (*sdk.Officer, error) {
	c, err := s.clients()
	if err != nil {
		return nil, err
	}
	return c.OfficerAs(s.as)
}

// asOfficer makes a command's run of what it does as the custodian.
func (s *session) asOfficer(run func(ctx context.Context, o *sdk.Officer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		o, err := s.officer()
		if err != nil {
			return err
		}
		return run(cmd.Context(), o, args)
	}
}

// collect reads all pages of a listing.
func collect[Page, T any](ctx context.Context, p *runtime.Pager[Page], values func(Page) []T) ([]T, error) {
	all := []T{}
	for p.More() {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, values(page)...)
	}
	return all, nil
}

func (s *session) engineer() (*sdk.Engineer, error) {
	c, err := s.clients()
	if err != nil {
		return nil, err
	}
	return c.EngineerAs(s.as)
}

// show prints rows as a table, or v as JSON.
func (s *session) show(v any, header string, rows [][]string) error {
	if s.output == "json" {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, ",", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// done says that something was done, to people only.
func (s *session) done(format string, args ...any) error {
	if s.output == "table" {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
	return nil
}
