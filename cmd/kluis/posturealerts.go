package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
)

func postureAlerts() *cobra.Command {
	c := &cobra.Command{
		Use:   "alerts",
		Short: "List and acknowledge alerts",
		Long: `List and acknowledge what 'kluis serve' tells those whom the configuration names
under alerts. The server may run meanwhile.`,
	}
	var data, output string
	var all bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the alerts that stand, the worst first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withAlerts(c, data, func(s alert.Store) error {
				alerts, err := alert.List(c.Context(), s, all)
				if err != nil {
					return err
				}
				if output == "json" {
					if alerts == nil {
						alerts = []alert.Alert{}
					}
					return printJSON(c.OutOrStdout(), alerts)
				}
				t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ALERT\tSEVERITY\tSTATE\tSINCE\tKIND\tSUBJECT\tDETAIL")
				for _, a := range alerts {
					state := a.State(time.Now())
					if state == "acknowledged" {
						state = "until " + a.Ack.Until.Format(time.DateOnly) + ", " + a.Ack.By
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.ID[:8], a.Severity, state, a.First.Format(time.RFC3339), a.Kind, a.Subject, a.Detail)
				}
				return t.Flush()
			})
		},
	}
	list.Flags().BoolVar(&all, "all", false, "those of the last 30 days that were resolved too")
	addOutput(list, &output)

	var by, note string
	var length time.Duration
	ack := &cobra.Command{
		Use:   "ack ALERT",
		Short: "Say that you know, for a time: an alert that gets worse is told all the same",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if by == "" {
				if u, err := user.Current(); err == nil {
					by = u.Username
				}
			}
			return withAlerts(c, data, func(s alert.Store) error {
				now := time.Now().UTC().Truncate(time.Second)
				a, err := alert.Acknowledge(c.Context(), s, args[0], alert.Ack{By: by, Note: note, At: now, Until: now.Add(length)})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s is acknowledged by %s until %s\n", a.ID, a.Ack.By, a.Ack.Until.Format(time.RFC3339))
				return err
			})
		},
	}
	ack.Flags().StringVar(&by, "by", "", "`WHO` knows; the user of this command if left out")
	ack.Flags().StringVar(&note, "note", "", "what is done about it")
	ack.Flags().DurationVar(&length, "for", 7*24*time.Hour, "how `LONG`, 90 days (2160h) at most")
	for _, sub := range []*cobra.Command{list, ack} {
		sub.Flags().StringVar(&data, "data", defaultConfig().Data, "the server's data `DIR`ectory")
		c.AddCommand(sub)
	}
	return c
}

// withAlerts opens the alerts, beside a server that may run: each change is one
// transaction of the database.
func withAlerts(c *cobra.Command, data string, fn func(alert.Store) error) error {
	path := filepath.Join(data, governanceDir, databaseFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no alerts: say in the configuration of 'kluis serve' to whom they go", data)
	}
	db, err := sqlite.Open(c.Context(), path, store.GovernanceSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(db.Alert())
}
