package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/posture/report"
	"github.com/kluis-io/kluis/store"
)

// recordFlags say where the history of scans and the logs lie.
type recordFlags struct {
	server serverFlags

	data, history, estate string
	events                []string
}

func (r *recordFlags) declare(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.data, "data", "", "a server's data `DIR`ectory: its history, and its vault's and platform's logs; the server does not run")
	f.StringVar(&r.history, "history", "", "the `FILE` in which 'scan --history' keeps what it finds")
	f.StringVar(&r.estate, "estate", "", "only the estate of this `NAME`")
	f.StringArrayVar(&r.events, "events", nil, "a key vault's audit log, a `FILE` with an AuditEvent a line; may be given again")
}

// atServer reports whether a running server is to be asked: nothing else is named.
func (r *recordFlags) atServer() bool { return r.data == "" && r.history == "" && r.events == nil }

// input reads everything that KPIs are reckoned from. A data directory without a
// history has its logs all the same.
func (r *recordFlags) input(ctx context.Context) (in kpi.Input, err error) {
	if r.history == "" && r.data == "" {
		return in, usageError{errors.New("--events needs the scans that they go with: --history or --data says where those are kept")}
	}
	if r.data != "" {
		lock, err := lockDir(r.data)
		if err != nil {
			return in, err
		}
		defer lock.Close()
	}
	if in, err = r.load(ctx); err != nil {
		return in, err
	}
	if r.data != "" {
		if err := addLogs(ctx, r.data, &in); err != nil {
			return in, err
		}
	}
	for _, name := range r.events {
		if err := addEvents(name, &in); err != nil {
			return in, err
		}
	}
	return in, nil
}

// load reads the scans: of a file, else of the data directory if it has any.
func (r *recordFlags) load(ctx context.Context) (in kpi.Input, err error) {
	var db *database
	dir := filepath.Join(r.data, governanceDir)
	switch {
	case r.history != "":
		if _, err := os.Stat(r.history); err != nil {
			return in, fmt.Errorf("%s holds no scans: make some with 'kluis posture scan --history FILE'", r.history)
		}
		db, err = openFile(ctx, r.history, store.GovernanceSchema)
	case hasDatabase(dir):
		db, err = openDatabase(ctx, dir, store.GovernanceSchema)
	default:
		return in, nil
	}
	if err != nil {
		return in, err
	}
	defer db.Close()
	return kpi.Load(ctx, db.Posture(), r.estate)
}

func addEvents(name string, in *kpi.Input) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	all, since, err := kpi.ReadAuditEvents(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	in.Attempts = append(in.Attempts, all...)
	if !since.IsZero() && (in.LogFrom.IsZero() || since.Before(in.LogFrom)) {
		in.LogFrom = since
	}
	return nil
}

// addLogs adds what the logs in a data directory tell. The caller holds its lock.
func addLogs(ctx context.Context, data string, in *kpi.Input) error {
	each := func(party string, q audit.Query, add func(audit.Numbered) error) (found bool, err error) {
		dir := filepath.Join(data, party)
		if !hasDatabase(dir) {
			return false, nil
		}
		db, err := openAsIs(ctx, dir, partySchemas[party])
		if err != nil {
			return false, err
		}
		defer db.Close()
		return true, eachEntry(ctx, &audit.Log{Config: audit.Config{Store: db.Audit()}}, q, add)
	}
	if _, err := each(vaultDir, audit.Query{}, func(e audit.Numbered) error { addAttempt(in, e.Entry); return nil }); err != nil {
		return err
	}
	found, err := each(platformDir, audit.Query{Operation: revocationDrill}, func(e audit.Numbered) error { addDrill(in, e.Entry); return nil })
	in.DrillLog = in.DrillLog || found
	return err
}

// An entryLog is an audit log to read: a party's own, or that of one elsewhere.
type entryLog interface {
	Entries(ctx context.Context, q audit.Query) ([]audit.Numbered, error)
}

// eachEntry reads all that a query selects, page by page.
func eachEntry(ctx context.Context, log entryLog, q audit.Query, fn func(audit.Numbered) error) error {
	q.Limit = 1000
	for {
		page, err := log.Entries(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := fn(e); err != nil {
				return err
			}
		}
		if len(page) < q.Limit {
			return nil
		}
		q.After = &page[len(page)-1].Sequence
	}
}

// revocationDrill is what the platform's log calls a drill.
const revocationDrill = "RecordRevocationDrill"

// addAttempt adds an entry of a vault's log, if it is a refusal of a key's use. A
// request without a good token never gets as far as the log.
func addAttempt(in *kpi.Input, e audit.Entry) {
	if in.LogFrom.IsZero() || e.Time.Before(in.LogFrom) {
		in.LogFrom = e.Time
	}
	if e.Outcome == audit.Denied && strings.HasPrefix(e.Operation, "Key") {
		in.Attempts = append(in.Attempts, kpi.Attempt{
			Time: e.Time, Request: e.Request, Principal: e.Principal, Key: e.Resource, Operation: e.Operation, Reason: string(e.Reason),
		})
	}
}

func addDrill(in *kpi.Input, e audit.Entry) {
	if e.Outcome != audit.Allowed {
		return
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(e.Detail[name], 10, 64)
		return n
	}
	in.Drills = append(in.Drills, kpi.Drill{
		Time: e.Time, Scope: e.Resource, Trials: int(number("trials")),
		Dark: time.Duration(number("darkMilliseconds")) * time.Millisecond, Back: time.Duration(number("backMilliseconds")) * time.Millisecond,
	})
}

func postureKPI() *cobra.Command {
	var r recordFlags
	var window, until, output string
	c := &cobra.Command{
		Use:   "kpi",
		Short: "Reckon the figures by which key governance is measured",
		Long: `Reckon the figures by which key governance is measured, from the scans that were
kept and from the audit logs: the same input gives the same figures again. What
cannot be told is "not measurable", with the reason. --output json has each
figure's formula, inputs and series.

  kluis posture kpi --window 90d            # of a running server
  kluis posture kpi --data DIR --window 90d # of one at rest
  kluis posture kpi --history scans.db --events vault-audit.ndjson --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			end, err := timeFlag("until", until)
			if err != nil {
				return err
			}
			if end.IsZero() {
				end = time.Now()
			}
			w, err := kpi.WindowNamed(window, end.UTC())
			if err != nil {
				return usageError{err}
			}
			report, err := r.report(c.Context(), window, w)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), report)
			}
			return printKPIs(c.OutOrStdout(), report)
		},
	}
	r.declare(c)
	r.server.declare(c, "auditor")
	c.Flags().StringVar(&window, "window", "30d", strings.Join(kpi.Windows, ", "))
	c.Flags().StringVar(&until, "until", "", "the window's end, a `TIME`; now if left out")
	addOutput(c, &output)
	return c
}

// report reckons the figures of a window, or asks the server for them.
func (r *recordFlags) report(ctx context.Context, name string, w kpi.Window) (report kpi.Report, err error) {
	if r.atServer() {
		err = r.server.call(ctx, "GET", "/kpis", queried("window", name, "until", w.Until.Format(time.RFC3339Nano), "estate", r.estate), nil, &report)
		return report, err
	}
	in, err := r.input(ctx)
	return kpi.Reckon(in, w), err
}

// scans returns the scans of a window, or asks the server for them.
func (r *recordFlags) scans(ctx context.Context, name string, w kpi.Window) ([]history.Scan, error) {
	if r.atServer() {
		var page struct {
			Value []history.Scan `json:"value"`
		}
		err := r.server.call(ctx, "GET", "/trend", queried("window", name, "estate", r.estate), nil, &page)
		return page.Value, err
	}
	in, err := r.input(ctx)
	return in.Between(w), err
}

func printKPIs(w io.Writer, r kpi.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KPI\tVALUE\tFROM")
	for _, k := range r.KPIs {
		value := "not measurable"
		from := k.Why
		if k.Value != nil {
			value, from = quantity(*k.Value, k.Unit), figures(k)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", k.Title, value, from)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s to %s, %d scans\n", r.Window.From.Format(time.DateOnly), r.Window.Until.Format(time.DateOnly), r.Scans)
	if r.Scans == 0 {
		fmt.Fprintln(w, "Scans are kept by 'kluis posture scan --history FILE'.")
	}
	return nil
}

// figures are a KPI's inputs that are not 0, as a line.
func figures(k kpi.KPI) string {
	var parts []string
	for _, f := range k.Inputs {
		if f.Value != 0 {
			parts = append(parts, f.Name+" "+quantity(f.Value, f.Unit))
		}
	}
	return strings.Join(parts, ", ")
}

func quantity(v float64, unit string) string {
	s := strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	switch unit {
	case "%":
		return s + "%"
	case "h":
		if v >= 48 {
			return strconv.FormatFloat(math.Round(v/24*10)/10, 'f', -1, 64) + " d"
		}
		return s + " h"
	case "s":
		return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) + " s"
	}
	return s
}

func postureTrend() *cobra.Command {
	var r recordFlags
	var window, output string
	c := &cobra.Command{
		Use:   "trend",
		Short: "Show how the estate has stood, scan by scan",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := kpi.WindowNamed(window, time.Now().UTC())
			if err != nil {
				return usageError{err}
			}
			scans, err := r.scans(c.Context(), window, w)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), scans)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "TIME\tESTATE\tIN SCOPE\tCOMPLIANT\tCOVERAGE\tUNKNOWN\tCRITICAL\tHIGH\tNEW\tGONE\tGAPS\t")
			for _, s := range scans {
				m := s.Summary
				bar := strings.Repeat("█", int(math.Round(m.Coverage/10))) + strings.Repeat("·", 10-int(math.Round(m.Coverage/10)))
				fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f%%\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", s.Time.Format("2006-01-02 15:04"), s.Estate, m.InScope, m.Compliant, m.Coverage,
					m.Unknown, m.BySeverity["critical"], m.BySeverity["high"], s.Opened, s.Resolved, len(s.Gaps), bar)
			}
			return t.Flush()
		},
	}
	r.declare(c)
	r.server.declare(c, "auditor")
	c.Flags().StringVar(&window, "window", "30d", strings.Join(kpi.Windows, ", "))
	addOutput(c, &output)
	return c
}

// recordScan keeps what a scan has found in a file of its own, for figures over
// time without a server.
func recordScan(ctx context.Context, file, estate, source string, scan *posture.Scan) error {
	db, err := openFile(ctx, file, store.GovernanceSchema)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = history.Record(ctx, db.Posture(), estate, source, scan)
	return err
}

// findingsIn returns the findings in a file of scans.
func findingsIn(ctx context.Context, file, estate, standing, atLeast, control, resource string) (all []history.Span, err error) {
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	db, err := openFile(ctx, file, store.GovernanceSchema)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	err = db.Posture().View(ctx, func(tx history.Tx) error {
		all, err = governance.Select(tx, governance.Filter{
			Estate: estate, Standing: governance.Standing(standing), AtLeast: posture.Severity(atLeast), Control: control, Resource: resource,
		})
		return err
	})
	return all, err
}

// figuresOf reckons what the HTML report shows of the scans in a file: the last 90 days
// of an estate.
func figuresOf(ctx context.Context, file, estate string) (*report.Figures, error) {
	in, err := (&recordFlags{estate: estate, history: file}).load(ctx)
	if err != nil {
		return nil, err
	}
	w, err := kpi.WindowNamed("90d", time.Now().UTC())
	return &report.Figures{KPIs: kpi.Reckon(in, w), Trend: in.Between(w)}, err
}
