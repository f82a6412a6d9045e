package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azpolicy"
	"github.com/kluis-io/kluis/posture/own"
)

func postureControls() *cobra.Command {
	var asJSON bool
	var files []string
	c := &cobra.Command{
		Use:   "controls",
		Short: "List the controls: the built-in ones, and your own",
		Long: `List the built-in controls, and with --controls your own beside them. Those are
written in CEL: docs/samples/controls.yaml is an example, 'kluis posture controls
fields' lists what they may name.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all := posture.Controls()
			for _, f := range files {
				set, err := readControls(f)
				if err != nil {
					return err
				}
				all = append(all, set.Controls()...)
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), all)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "CONTROL\tSEVERITY\tTITLE\tFRAMEWORKS")
			for _, k := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.ID, k.Severity, k.Title, strings.Join(k.Frameworks, "; "))
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().StringArrayVar(&files, "controls", nil, "list those of this `FILE` too; may be given again")
	c.AddCommand(controlsTest(), controlsFields())
	return c
}

// judges reads what is judged by, besides the built-in controls, and has inv keep what
// that needs.
func (s *scanFlags) judges(inv *posture.Inventory) (policy *posture.Policy, checkers []posture.Checker, err error) {
	for _, name := range s.policies {
		info, err := os.Stat(name)
		if err != nil {
			return nil, nil, err
		}
		if info.IsDir() {
			set, err := azpolicy.Load(os.DirFS(name))
			if err != nil {
				return nil, nil, err
			}
			inv.Keep = true
			checkers = append(checkers, set)
			continue
		}
		if policy != nil {
			return nil, nil, usageError{errors.New("--policy names two classification policies: write one")}
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		if policy, err = posture.ParsePolicy(text); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range s.controls {
		set, err := readControls(name)
		if err != nil {
			return nil, nil, err
		}
		inv.Keep = inv.Keep || set.ReadsProperties()
		checkers = append(checkers, set)
	}
	return policy, checkers, nil
}

func readControls(file string) (*own.Set, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return own.Parse(file, text)
}

func controlsTest() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run the examples of your own controls",
		Long: `Check the controls of each FILE, and run the examples in it. The exit code is 3 if
a control does not say what an example expects of it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			trials := []own.Trial{}
			untried := 0
			for _, f := range files {
				set, err := readControls(f)
				if err != nil {
					return err
				}
				trials = append(trials, set.Try(time.Now())...)
				for _, k := range set.All() {
					if len(k.Examples) == 0 {
						untried++
					}
				}
			}
			if err := printTrials(c.OutOrStdout(), trials, untried, asJSON); err != nil {
				return err
			}
			for _, t := range trials {
				if !t.OK() {
					return errNotHolding
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printTrials(w io.Writer, trials []own.Trial, untried int, asJSON bool) error {
	if asJSON {
		return printJSON(w, trials)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	wrong := 0
	for _, one := range trials {
		said := "ok"
		if !one.OK() {
			wrong++
			said = fmt.Sprintf("WRONG: %s, and %s was expected; %s", one.Got, one.Expect, one.Detail)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", one.Control, one.Example, said)
	}
	_, err := fmt.Fprintf(t, "%d examples, %d wrong; %d controls have none\n", len(trials), wrong, untried)
	return errors.Join(err, t.Flush())
}

func controlsFields() *cobra.Command {
	return &cobra.Command{
		Use:   "fields",
		Short: "List what your own controls may name",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "TYPE\tFIELD\tIS A\tWHICH IS")
			for _, f := range own.Fields() {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Of, f.Name, f.Type, f.Doc)
			}
			return t.Flush()
		},
	}
}
