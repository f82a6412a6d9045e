package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/cmd/kluis/cli"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
)

// serverFlags say which running server is asked, and as whom.
type serverFlags struct {
	profile, as string
}

func (s *serverFlags) declare(c *cobra.Command, as string) {
	profile := os.Getenv("KLUIS_PROFILE")
	if profile == "" {
		profile = filepath.Join("kluis-data", "bootstrap.json")
	}
	c.Flags().StringVar(&s.profile, "profile", profile, "the kluis server that is asked: a bootstrap.json `FILE`, or KLUIS_PROFILE")
	c.Flags().StringVar(&s.as, "as", as, "the `PRINCIPAL` of the profile to ask as")
}

func (s *serverFlags) target() (sdk.Target, error) {
	t, err := sdk.ReadProfile(s.profile)
	if err != nil {
		err = fmt.Errorf("%w\nStart a server with 'kluis serve --dev', or name its bootstrap.json with --profile", err)
	}
	return t, err
}

// call makes one call of the server's posture interface. out takes the answer's JSON, or
// is an io.Writer that takes its bytes.
func (s *serverFlags) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	t, err := s.target()
	if err != nil {
		return err
	}
	endpoint := t.Endpoints["posture"]
	if endpoint == "" {
		return fmt.Errorf("%s names no governance: the server does not have that role", s.profile)
	}
	clients, err := sdk.New(t)
	if err != nil {
		return err
	}
	o, err := clients.OfficerAs(s.as)
	if err != nil {
		return err
	}
	address := endpoint + "/posture/v1" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return cli.Explain(o.Call(ctx, endpoint+"/.default", method, address, in, out))
}

// queried returns the parameters that have a value.
func queried(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func postureStatus() *cobra.Command {
	var s serverFlags
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how each estate that a server scans stands, and the alerts that stand",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var status struct {
				Estates []struct {
					Estate   string                   `json:"estate"`
					Scan     history.Scan             `json:"newestScan"`
					Findings map[posture.Severity]int `json:"findings"`
					Excepted int                      `json:"excepted"`
				} `json:"estates"`
				Alerts []alert.Alert `json:"alerts"`
			}
			if err := s.call(c.Context(), "GET", "/status", nil, nil, &status); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), status)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ESTATE\tSCANNED\tIN SCOPE\tCOMPLIANT\tCOVERAGE\tCRITICAL\tHIGH\tMEDIUM\tLOW\tEXCEPTED\tGAPS")
			for _, e := range status.Estates {
				m := e.Scan.Summary
				fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f%%\t%d\t%d\t%d\t%d\t%d\t%d\n", e.Estate, e.Scan.Time.Format(time.RFC3339), m.InScope, m.Compliant, m.Coverage,
					e.Findings["critical"], e.Findings["high"], e.Findings["medium"], e.Findings["low"], e.Excepted, len(e.Scan.Gaps))
			}
			if err := t.Flush(); err != nil {
				return err
			}
			if len(status.Estates) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "Nothing was scanned yet: see posture in the server's configuration file.")
			}
			if len(status.Alerts) == 0 {
				return nil
			}
			fmt.Fprintln(c.OutOrStdout())
			return printAlerts(c.OutOrStdout(), status.Alerts)
		},
	}
	s.declare(c, "auditor")
	addOutput(c, &output)
	return c
}

func postureRescan() *cobra.Command {
	var s serverFlags
	var output string
	c := &cobra.Command{
		Use:   "rescan",
		Short: "Have a running server scan its estate now, and keep what it finds",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var scan history.Scan
			if err := s.call(c.Context(), "POST", "/scans", nil, nil, &scan); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), scan)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ESTATE\tSCANNED\tIN SCOPE\tCOMPLIANT\tCOVERAGE\tGAPS")
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f%%\t%d\n", scan.Estate, scan.Time.Format(time.RFC3339), scan.Summary.InScope, scan.Summary.Compliant, scan.Summary.Coverage, len(scan.Gaps))
			return t.Flush()
		},
	}
	s.declare(c, "admin")
	addOutput(c, &output)
	return c
}

func postureFindings() *cobra.Command {
	var s serverFlags
	var file, estate, standing, atLeast, control, resource, output string
	c := &cobra.Command{
		Use:   "findings",
		Short: "List what a server's scans, or those in a file, have found",
		Long: `List what a server's scans have found, or with --history those that
'kluis posture scan --history' has kept in a file: since when each finding stands,
and when it was gone.

  kluis posture findings --at-least high
  kluis posture findings --standing resolved --control 'CMK/*' --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all []history.Span
			var err error
			if file != "" {
				all, err = findingsIn(c.Context(), file, estate, standing, atLeast, control, resource)
			} else {
				all, err = s.findings(c.Context(), queried("estate", estate, "standing", standing, "atLeast", atLeast, "control", control, "resource", resource, "top", "1000"))
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), all)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "FINDING\tSEVERITY\tSTANDS\tSINCE\tCONTROL\tRESOURCE")
			for _, f := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", short(f.Finding.ID), f.Finding.Severity, stands(f), f.First.Format(time.DateOnly), f.Finding.Control, f.Finding.Resource)
			}
			return t.Flush()
		},
	}
	s.declare(c, "auditor")
	f := c.Flags()
	f.StringVar(&file, "history", "", "the `FILE` in which 'scan --history' keeps what it finds, in place of a server")
	f.StringVar(&estate, "estate", "", "only the estate of this `NAME`")
	f.StringVar(&standing, "standing", "open", "open, excepted, resolved or any")
	f.StringVar(&atLeast, "at-least", "", "of this `SEVERITY` or worse: critical, high, medium, low, info")
	f.StringVar(&control, "control", "", "of this control, or of those that begin so: CMK/*")
	f.StringVar(&resource, "resource", "", "with this `TEXT` in the resource's id")
	addOutput(c, &output)
	return c
}

// short is the beginning of a finding's id, which commands take for it.
func short(id string) string { return id[:min(8, len(id))] }

// stands says in a word how a finding stands.
func stands(s history.Span) string {
	if !s.Resolved.IsZero() {
		return "resolved " + s.Resolved.Format(time.DateOnly)
	}
	return string(s.StatusAt(s.Last))
}

// findings reads all pages.
func (s *serverFlags) findings(ctx context.Context, query url.Values) ([]history.Span, error) {
	all := []history.Span{}
	for {
		var page struct {
			Value []history.Span `json:"value"`
			Next  string         `json:"nextLink"`
		}
		if err := s.call(ctx, "GET", "/findings", query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if page.Next == "" {
			return all, nil
		}
		next, err := url.Parse(page.Next)
		if err != nil {
			return nil, err
		}
		query = next.Query()
	}
}

// download has the server make an evidence pack.
func (s *serverFlags) download(ctx context.Context, window string) ([]byte, error) {
	var archive strings.Builder
	err := s.call(ctx, "POST", "/evidence", queried("window", window), nil, &archive)
	return []byte(archive.String()), err
}
