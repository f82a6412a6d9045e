package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/workspace/spark"
)

func sparkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "spark", Short: "Check how Spark treats what lies outside of workspaces"}
	cmd.AddCommand(sparkCheckCommand())
	return cmd
}

func sparkCheckCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Check that Spark is configured to encrypt its scratch space",
		Long: `Check that Spark is configured to encrypt its scratch space, which lies outside of
any workspace: shuffle files, spills, cached and broadcast blocks on executors'
local disks. A FILE is a properties file, such as spark-defaults.conf, or an event
log as text.

This reads configuration, and runs no Spark. A properties file can be overruled by
whoever submits an application; an event log tells what one ran with. The exit code
is 3 unless every rule is known to hold.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			sound := true
			checked := map[string][]spark.Result{}
			for _, name := range files {
				c, err := readSpark(name)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				checked[name] = spark.Check(c)
				sound = sound && spark.Sound(checked[name])
			}
			if err := printSpark(cmd.OutOrStdout(), output, files, checked); err != nil {
				return err
			}
			if !sound {
				return errNotHolding
			}
			return nil
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func readSpark(name string) (spark.Configuration, error) {
	f, err := os.Open(name)
	if err != nil {
		return spark.Configuration{}, err
	}
	defer f.Close()
	return spark.Read(f)
}

func printSpark(w io.Writer, output string, files []string, checked map[string][]spark.Result) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(checked)
	}
	for _, name := range files {
		fmt.Fprintln(w, name)
		for _, r := range checked[name] {
			fmt.Fprintf(w, "  %-8s %s: %s\n", r.Verdict, r.Rule, r.Found)
			if r.Mend != "" {
				fmt.Fprintf(w, "           %s\n           %s\n", r.Mend, r.Source)
			}
		}
	}
	return nil
}
