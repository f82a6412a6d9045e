package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/vault/event"
)

// listedDeliveries is how many deliveries are shown at most.
const listedDeliveries = 10_000

func webhooksCommand() *cobra.Command {
	var data, output string
	var dead bool
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "List events that wait for their receivers, without a running server",
		Long: `List events that wait for their receivers, without a running server; with --dead
those that were given up, because their receivers did not take them for a day.
Those are kept for 30 days.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := filepath.Join(data, vaultDir)
			if !hasDatabase(dir) {
				return fmt.Errorf("%s holds no vault", data)
			}
			lock, err := lockDir(data)
			if err != nil {
				return err
			}
			defer lock.Close()
			db, err := openAsIs(cmd.Context(), dir, store.VaultSchema)
			if err != nil {
				return err
			}
			defer db.Close()
			all, err := event.Deliveries(cmd.Context(), db.Event(), dead, listedDeliveries)
			if err != nil {
				return err
			}
			if output == "json" {
				return printDeliveries(cmd, all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "WEBHOOK\tTYPE\tEVENT\tSINCE\tATTEMPTS\tLAST ERROR")
			for _, d := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", d.Sink, d.Type, d.Event, when(d.Created), d.Attempts, d.Error)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	cmd.Flags().BoolVar(&dead, "dead", false, "those that were given up")
	addOutput(cmd, &output)
	return cmd
}

func printDeliveries(cmd *cobra.Command, all []event.Delivery) error {
	type row struct {
		Webhook  string          `json:"webhook"`
		Attempts int             `json:"attempts"`
		Error    string          `json:"error,omitempty"`
		Event    json.RawMessage `json:"event"`
	}
	rows := []row{}
	for _, d := range all {
		rows = append(rows, row{d.Sink, d.Attempts, d.Error, d.Body})
	}
	e := json.NewEncoder(cmd.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(rows)
}
