package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify, export and question the audit logs",
	}
	var data, output string
	var p published
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Verify the audit logs of a data directory, or a published one, without a running server",
		Long: `Verify the audit logs of a data directory, without a running server.

Every entry is hashed anew, and every signed checkpoint compared with what the
entries say: an entry that was changed, dropped, moved or slipped in is named.
The exit code is 3 if a log does not hold.

With --tiles it verifies a log that a server publishes (audit.tiles), in the folder
or object store where that lies, and needs nothing of the server but the log's
verifier key. A checkpoint that was kept from an earlier time has to be one of the
same log.`,
		Example: `  kluis audit verify --data kluis-data
  kluis audit verify --tiles 's3://audit/logs/INSTANCE/vault?region=eu-central-1' --key vault.pub --checkpoint last-month`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.place != "" {
				reports, err := p.verify(cmd.Context())
				if err != nil {
					return err
				}
				return printReports(cmd.OutOrStdout(), output, reports)
			}
			lock, err := lockDir(data)
			if err != nil {
				return err
			}
			defer lock.Close()
			reports, err := verifyLogs(cmd.Context(), data)
			if err != nil {
				return err
			}
			return printReports(cmd.OutOrStdout(), output, reports)
		},
	}
	verify.Flags().StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	verify.Flags().StringVar(&p.place, "tiles", "", "the `PLACE` of a published log: a folder, s3://BUCKET/PREFIX or azblob://ACCOUNT/CONTAINER/PREFIX")
	verify.Flags().StringVar(&p.key, "key", "", "with --tiles: the `FILE` of the log's verifier key")
	verify.Flags().StringVar(&p.checkpoint, "checkpoint", "", "with --tiles: the `FILE` of a checkpoint that you have kept")
	verify.Flags().StringVar(&p.credential, "credential", "", "with --tiles: the `FILE` of the credential for the store, if it is not in the environment")
	verify.Flags().StringSliceVar(&p.trust, "trust", nil, "with --tiles: `FILE`s of certificate authorities to trust beside the system's")
	verify.MarkFlagsMutuallyExclusive("tiles", "data")
	addOutput(verify, &output)
	cmd.AddCommand(verify, auditExportCommand(), auditWhoCommand(), certificateCommand())
	return cmd
}

// addOutput declares --output, which every command with a result has.
func addOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table or json")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *output != "table" && *output != "json" {
			return usageError{fmt.Errorf("--output is table or json, not %q", *output)}
		}
		return run(cmd, args)
	}
}

// A logReport is what verifying one party's log has shown.
type logReport struct {
	Party  string        `json:"party"`
	Holds  bool          `json:"holds"`
	Report *audit.Report `json:"report"`
}

// verifyLogs verifies the log of every party in the data directory.
func verifyLogs(ctx context.Context, data string) ([]logReport, error) {
	var all []logReport
	for _, name := range allParties {
		dir := filepath.Join(data, name)
		if !hasDatabase(dir) {
			continue
		}
		report, err := verifyPartyLog(ctx, dir, name)
		if err != nil {
			return all, fmt.Errorf("the %s's log: %w", name, err)
		}
		all = append(all, logReport{Party: name, Holds: report.OK(), Report: report})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no audit log", data)
	}
	return all, nil
}

// verifyPartyLog verifies a party's log.
func verifyPartyLog(ctx context.Context, dir, party string) (*audit.Report, error) {
	db, err := openAsIs(ctx, dir, partySchemas[party])
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return verifyLog(ctx, db, dir)
}

// verifyLog verifies the log in a database against the key and the checkpoint in the
// party's folder.
func verifyLog(ctx context.Context, db *database, dir string) (*audit.Report, error) {
	verifier, err := audit.LoadVerifier(filepath.Join(dir, auditKeyFile) + ".pub")
	if err != nil {
		return nil, err
	}
	outside, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return audit.Verify(ctx, db.Audit(), verifier, outside)
}

func printReports(w io.Writer, output string, reports []logReport) error {
	holds := true
	for _, r := range reports {
		holds = holds && r.Holds
	}
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(reports); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "LOG\tENTRIES\tFROM\tTO\tCHECKPOINTS\tHOLDS")
		for _, r := range reports {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\t%t\n", r.Party, r.Report.Entries, when(r.Report.First), when(r.Report.Last), r.Report.Checkpoints, r.Holds)
		}
		t.Flush()
		for _, r := range reports {
			for _, p := range r.Report.Problems {
				fmt.Fprintf(w, "%s: %s\n", r.Party, p)
			}
		}
	}
	if !holds {
		return errNotHolding
	}
	return nil
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}
