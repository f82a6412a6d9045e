package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/remedy"
	"github.com/kluis-io/kluis/posture/report"
	"github.com/kluis-io/kluis/posture/tfplan"
)

func postureCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "posture",
		Short: "Find what is not under a customer's key, and how to mend it",
		Long: `kluis posture reads what an estate says of its keys, holds it against your
classification, and reports what does not hold. It reads, and changes nothing, but
for 'remediate', 'backout' and 'labels' with --apply.

  kluis posture scan --source export:./answers --policy policy.yaml
  kluis posture scan --source azure --subscription ID --policy policy.yaml --fail-on high
  kluis posture plan FINDING --source export:./answers --policy policy.yaml`,
	}
	c.AddCommand(postureScan(), posturePlan(), postureDiff(), postureKPI(), postureTrend(), postureStatus(), postureFindings(), postureLabels(), postureEvidence(), postureAlerts(), postureTypes(), postureControls())
	c.AddCommand(postureRemediate(), postureBackout(), postureRuns(), postureRoles(), postureRescan(), postureExceptions())
	return c
}

// scanFlags say what is scanned, and against what.
type scanFlags struct {
	sources       []string
	subscriptions []string
	endpoint      string
	server        serverFlags // that source profile reads
	policies      []string
	prices        string
	controls      []string
	accepted      []posture.Exception // beside the policy's
}

func (s *scanFlags) declare(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&s.sources, "source", nil, "where to read: export:DIR, tfplan:FILE, azure, fabric or profile; may be given again")
	f.StringSliceVar(&s.subscriptions, "subscription", nil, "the subscription `ID`s to read from azure")
	f.StringVar(&s.endpoint, "endpoint", "", "the Resource Manager or Fabric `URL`, if it is not Azure's public one")
	s.server.declare(c, "auditor")
	f.StringArrayVar(&s.policies, "policy", nil, "the classification policy, a YAML `FILE`; or a folder of Azure's policy definitions to judge by as well")
	f.StringVar(&s.prices, "prices", "", "what keys cost, a YAML or JSON `FILE`")
	f.StringArrayVar(&s.controls, "controls", nil, "controls of your own, a YAML `FILE`; may be given again")
}

// scan reads the sources and judges them.
func (s *scanFlags) scan(ctx context.Context) (*posture.Scan, error) {
	if len(s.sources) == 0 {
		return nil, usageError{errors.New("--source says what to scan")}
	}
	inv := &posture.Inventory{Accepted: s.accepted}
	policy, checkers, err := s.judges(inv)
	if err != nil {
		return nil, err
	}
	var prices *posture.Prices
	if s.prices != "" {
		text, err := os.ReadFile(s.prices)
		if err != nil {
			return nil, err
		}
		if prices, err = posture.ParsePrices(text); err != nil {
			return nil, err
		}
	}
	for _, source := range s.sources {
		if err := s.read(ctx, source, inv); err != nil {
			return nil, err
		}
	}
	inv.Link()
	return posture.Judge(inv, policy, prices, time.Now(), checkers...), nil
}

func postureScan() *cobra.Command {
	var s scanFlags
	var format, failOn, file, record, estate string
	c := &cobra.Command{
		Use:   "scan",
		Short: "Read, judge and report",
		Long: `Read the sources, judge them and report. The exit code is 3 if a finding that no
exception covers is at least as bad as --fail-on says.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains(report.Formats(), format) {
				return usageError{fmt.Errorf("--output is one of %s", strings.Join(report.Formats(), ", "))}
			}
			if failOn != "" && !slices.Contains(posture.Severities, posture.Severity(failOn)) {
				return usageError{fmt.Errorf("--fail-on is critical, high, medium, low or info, not %q", failOn)}
			}
			scan, err := s.scan(c.Context())
			if err != nil {
				return err
			}
			if record != "" {
				if err := recordScan(c.Context(), record, estate, strings.Join(s.sources, " "), scan); err != nil {
					return err
				}
			}
			var figures *report.Figures
			if record != "" && format == "html" {
				if figures, err = figuresOf(c.Context(), record, estate); err != nil {
					return err
				}
			}
			if err := writeReport(c.OutOrStdout(), file, format, scan, figures); err != nil {
				return err
			}
			if failOn != "" && scan.Worst(posture.Severity(failOn)) {
				return errNotHolding
			}
			return nil
		},
	}
	s.declare(c)
	f := c.Flags()
	f.StringVarP(&format, "output", "o", "table", strings.Join(report.Formats(), ", "))
	f.StringVar(&file, "file", "", "write to this `FILE` in place of standard output")
	f.StringVar(&record, "history", "", "keep what was found in this `FILE`, for 'kluis posture kpi' and 'trend'")
	f.StringVar(&estate, "estate", "default", "the `NAME` under which it is kept: scans of one estate are compared")
	f.StringVar(&failOn, "fail-on", "", "exit with 3 on findings of this `SEVERITY` or worse")
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(report.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// writeReport writes to a file, or to out if there is none.
func writeReport(out io.Writer, file, format string, scan *posture.Scan, figures *report.Figures) (err error) {
	write := func(w io.Writer) error {
		if figures != nil {
			return report.Page(w, scan, figures)
		}
		return report.Write(w, format, scan)
	}
	if file == "" {
		return write(out)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}

func posturePlan() *cobra.Command {
	var s scanFlags
	var key string
	var asJSON bool
	c := &cobra.Command{
		Use:   "plan FINDING",
		Short: "Show how to mend a finding, and how to go back",
		Long: `Scan again, and show the steps that mend a finding and those that undo it. FINDING
is an id of a scan, or its beginning. Nothing is changed: the commands are yours
to run.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ref := posture.ParseKeyRef(key)
			if key != "" && ref.IsZero() {
				return usageError{fmt.Errorf("%q is no key identifier", key)}
			}
			scan, err := s.scan(c.Context())
			if err != nil {
				return err
			}
			f, ok := scan.Find(args[0])
			if !ok {
				return fmt.Errorf("this scan has no finding %s, or several that begin so", args[0])
			}
			p := posture.PlanFor(f, ref)
			if asJSON {
				return printJSON(c.OutOrStdout(), p)
			}
			return printPlan(c.OutOrStdout(), p, terraformFor(f, key))
		},
	}
	s.declare(c)
	c.Flags().StringVar(&key, "key", "", "the key `IDENTIFIER` to put the resource under")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// terraformFor returns the same in Terraform's language, for findings of a type.
func terraformFor(f posture.Finding, key string) string {
	name, ok := strings.CutPrefix(f.Control, "CMK/")
	if !ok {
		return ""
	}
	if key == "" {
		key = "https://VAULT.vault.azure.net/keys/KEY"
	}
	typ, part, _ := strings.Cut(name, "#")
	return tfplan.Snippet(typ, part, key)
}

func printPlan(w io.Writer, p posture.Plan, terraform string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s on %s\n# remediable: %s", p.Control, p.Resource, p.Remediable)
	if p.Condition != "" {
		fmt.Fprintf(&b, " (%s)", p.Condition)
	}
	fmt.Fprintf(&b, "; reversible: %t; commands: %s\n", p.Reversible, p.Confidence)
	for _, part := range []struct {
		name  string
		steps []posture.Step
	}{{"mend", p.Mend}, {"back out", p.Backout}} {
		if part.steps == nil {
			continue
		}
		fmt.Fprintf(&b, "\n# To %s:\n", part.name)
		for i, s := range part.steps {
			fmt.Fprintf(&b, "\n# %d. %s\n", i+1, s.Do)
			if s.Command != "" {
				fmt.Fprintf(&b, "%s\n", s.Command)
			}
			if s.Expect != "" {
				fmt.Fprintf(&b, "#    expect: %s\n", s.Expect)
			}
		}
	}
	if terraform != "" {
		fmt.Fprintf(&b, "\n# The same with Terraform:\n#\n#   %s\n", strings.ReplaceAll(strings.TrimSpace(terraform), "\n", "\n#   "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func postureDiff() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what has changed between two scans, saved as JSON",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var scans [2]*posture.Scan
			for i, name := range args {
				var err error
				if scans[i], err = readScan(name); err != nil {
					return err
				}
			}
			d := posture.Compare(scans[0], scans[1])
			if asJSON {
				return printJSON(c.OutOrStdout(), d)
			}
			return printDiff(c.OutOrStdout(), d)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// readScan reads a scan that was saved as JSON.
func readScan(name string) (scan *posture.Scan, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &scan); err != nil || scan == nil || scan.Time.IsZero() {
		return nil, fmt.Errorf("%s is no scan: make it with 'kluis posture scan --output json'", name)
	}
	return scan, nil
}

func printDiff(w io.Writer, d posture.Diff) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range d.New {
		fmt.Fprintf(t, "new\t%s\t%s\t%s\n", f.Severity, f.Control, f.Resource)
	}
	for _, f := range d.Gone {
		fmt.Fprintf(t, "gone\t%s\t%s\t%s\n", f.Severity, f.Control, f.Resource)
	}
	for _, c := range d.Changed {
		fmt.Fprintf(t, "resource\t%s\t%s\t%s\n", orNone(c.Before), orNone(c.After), c.Resource)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "coverage %.1f%% -> %.1f%%\n", d.Coverage[0], d.Coverage[1])
	return err
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// mendedHere says whether 'posture remediate' puts resources of a type under a key.
func mendedHere(r *posture.Rule) string {
	if remedy.Puts(r) {
		return "yes"
	}
	return "no"
}

func postureTypes() *cobra.Command {
	return &cobra.Command{
		Use:   "types",
		Short: "List the types that can lie under a customer's key",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "TYPE\tFAMILY\tENABLE\tBACK\tBY KLUIS\tPOLICY\tSURE")
			for _, r := range posture.Types() {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name(), r.Family, r.Enable, r.Back, mendedHere(r), orNone(r.Policy), r.Confidence)
			}
			return t.Flush()
		},
	}
}
