package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// A postureException is a finding that somebody has accepted.
type postureException struct {
	ID       string    `json:"id,omitempty"` // none of the policy's
	Estate   string    `json:"estate,omitempty"`
	Finding  string    `json:"finding"`
	Control  string    `json:"control,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Owner    string    `json:"owner"`
	Reason   string    `json:"reason"`
	Expires  time.Time `json:"expires"`
	Made     time.Time `json:"madeAt,omitzero"`
	By       string    `json:"madeBy,omitempty"`
}

func postureExceptions() *cobra.Command {
	c := &cobra.Command{
		Use:   "exceptions",
		Short: "See, make and withdraw exceptions of a running server",
		Long: `An exception accepts one finding until a day: with who answers for it, and why. Those of
the policy file hold too; they are listed without an id, and are taken out of that file.`,
	}
	c.AddCommand(postureExceptionsList(), postureExceptionsMake(), postureExceptionsWithdraw())
	return c
}

func postureExceptionsList() *cobra.Command {
	var s serverFlags
	var output string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the findings that were accepted",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var page struct {
				Value []postureException `json:"value"`
			}
			if err := s.call(c.Context(), "GET", "/exceptions", queried("top", "1000"), nil, &page); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), page.Value)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tFINDING\tCONTROL\tOWNER\tUNTIL\tREASON\tRESOURCE")
			for _, x := range page.Value {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orNone(x.ID), short(x.Finding), x.Control, x.Owner, x.Expires.Format(time.DateOnly), x.Reason, x.Resource)
			}
			return t.Flush()
		},
	}
	s.declare(c, "auditor")
	addOutput(c, &output)
	return c
}

func postureExceptionsMake() *cobra.Command {
	var s serverFlags
	var owner, reason, until, output string
	c := &cobra.Command{
		Use:   "make FINDING",
		Short: "Accept an open finding until a day, within a year",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in := map[string]string{"finding": args[0], "owner": owner, "reason": reason, "expires": until}
			var made postureException
			if err := s.call(c.Context(), "POST", "/exceptions", nil, in, &made); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), made)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s of %s is excepted until %s: %s\n", made.Control, made.Resource, made.Expires.Format(time.DateOnly), made.ID)
			return err
		},
	}
	s.declare(c, "admin")
	f := c.Flags()
	f.StringVar(&owner, "owner", "", "`WHO` answers for it")
	f.StringVar(&reason, "reason", "", "`WHY` it is accepted")
	f.StringVar(&until, "until", "", "its last `DAY`, as in 2026-12-31")
	for _, name := range []string{"owner", "reason", "until"} {
		c.MarkFlagRequired(name)
	}
	addOutput(c, &output)
	return c
}

func postureExceptionsWithdraw() *cobra.Command {
	var s serverFlags
	c := &cobra.Command{
		Use:   "withdraw ID",
		Short: "End an exception: its finding fails again",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return s.call(c.Context(), "DELETE", "/exceptions/"+args[0], nil, nil, nil)
		},
	}
	s.declare(c, "admin")
	return c
}
