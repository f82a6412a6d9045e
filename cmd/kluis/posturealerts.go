package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/user"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/store"
)

func postureAlerts() *cobra.Command {
	c := &cobra.Command{
		Use:   "alerts",
		Short: "List and acknowledge alerts",
		Long: `List and acknowledge what 'kluis serve' tells those whom the configuration names
under alerts: of the running server, or with --data in its data directory, beside
it. The audit log of governance has who acknowledged what.`,
	}
	var data, output string
	var all bool
	var server, ackServer serverFlags
	list := &cobra.Command{
		Use:   "list",
		Short: "List the alerts that stand, the worst first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			alerts := []alert.Alert{}
			var err error
			if data != "" {
				err = withAlerts(c, data, func(db *database) (err error) {
					alerts, err = alert.List(c.Context(), db.Alert(), all)
					return err
				})
			} else {
				page := struct {
					Value *[]alert.Alert `json:"value"`
				}{&alerts}
				err = server.call(c.Context(), "GET", "/alerts", queried("resolved", strconv.FormatBool(all)), nil, &page)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), alerts)
			}
			return printAlerts(c.OutOrStdout(), alerts)
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
			var a alert.Alert
			var err error
			if data != "" {
				a, err = acknowledge(c, data, args[0], by, note, length)
			} else if by != "" {
				return usageError{errors.New("a server knows who acknowledges: --by goes with --data, and --as names a principal")}
			} else {
				body := map[string]any{"note": note, "seconds": int64(length / time.Second)}
				err = ackServer.call(c.Context(), "POST", "/alerts/"+url.PathEscape(args[0])+"/acknowledge", nil, body, &a)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is acknowledged by %s until %s\n", a.ID, a.Ack.By, a.Ack.Until.Format(time.RFC3339))
			return err
		},
	}
	ack.Flags().StringVar(&by, "by", "", "`WHO` knows; the user of this command if left out")
	ack.Flags().StringVar(&note, "note", "", "what is done about it")
	ack.Flags().DurationVar(&length, "for", 7*24*time.Hour, "how `LONG`, 90 days (2160h) at most")
	for _, sub := range []*cobra.Command{list, ack} {
		sub.Flags().StringVar(&data, "data", "", "a server's data `DIR`ectory, in place of asking it; it may run")
		c.AddCommand(sub)
	}
	server.declare(list, "auditor")
	ackServer.declare(ack, "admin")
	return c
}

func printAlerts(w io.Writer, alerts []alert.Alert) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ALERT\tSEVERITY\tSTATE\tSINCE\tKIND\tSUBJECT\tDETAIL")
	for _, a := range alerts {
		state := a.State(time.Now())
		if state == "acknowledged" {
			state = "until " + a.Ack.Until.Format(time.DateOnly) + ", " + a.Ack.By
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", a.ID[:8], a.Severity, state, a.First.Format(time.RFC3339), a.Kind, a.Subject, a.Detail)
	}
	return t.Flush()
}

// acknowledge acknowledges in a data directory, for whom the host's user says, and has
// governance's log say so.
func acknowledge(c *cobra.Command, data, id, by, note string, length time.Duration) (a alert.Alert, err error) {
	local := ""
	if u, err := user.Current(); err == nil {
		local = u.Username
	}
	now := time.Now().UTC().Truncate(time.Second)
	ack := alert.Ack{By: orDefault(by, local), Note: note, At: now, Until: now.Add(length)}
	return a, withAlerts(c, data, func(db *database) error {
		return db.Governance().Update(c.Context(), func(tx governance.Tx) error {
			if a, err = alert.AcknowledgeIn(tx, id, ack); err != nil {
				return err
			}
			return tx.AppendAudit(audit.Entry{
				Operation: "AcknowledgeAlert", Outcome: audit.Allowed, Resource: "/alerts/" + a.ID,
				Detail: map[string]string{"until": ack.Until.Format(time.RFC3339), "by": ack.By, "localUser": local},
			})
		})
	})
}

// withAlerts opens the alerts, beside a server that may run: each change is one
// transaction of the database.
func withAlerts(c *cobra.Command, data string, fn func(*database) error) error {
	dir := filepath.Join(data, governanceDir)
	if !hasDatabase(dir) {
		return fmt.Errorf("%s holds no alerts: say in the configuration of 'kluis serve' to whom they go", data)
	}
	db, err := openDatabase(c.Context(), dir, store.GovernanceSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	return fn(db)
}
