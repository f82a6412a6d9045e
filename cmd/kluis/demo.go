package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/cmd/kluis/demo"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/store"
)

func demoCommand() *cobra.Command {
	var input, keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tell and do the whole story, with every claim checked",
		Long: `Tell and do the whole story, with every claim checked.

A server starts in a folder of its own, and the official Azure SDKs drive it as
unmodified clients, each step by the principal whose job it is. The exit code is 3
if a claim does not hold.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), input, keep)
		},
	}
	cmd.Flags().StringVar(&input, "input", "", "upload the files below `DIR` instead of ones that the program makes")
	cmd.Flags().StringVar(&keep, "keep", "", "leave everything in `DIR` to look at")
	return cmd
}

func runDemo(ctx context.Context, out io.Writer, input, keep string) error {
	dir := keep
	if dir == "" {
		temp, err := os.MkdirTemp("", "kluis-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		dir = temp
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	log, err := os.OpenFile(filepath.Join(dir, "kluis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	slog.SetDefault(slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))

	c := defaultConfig()
	c.Data, c.Dev, c.Listen = data, true, "127.0.0.1:0"
	s, err := start(ctx, c)
	if err != nil {
		return err
	}
	running := true
	defer func() {
		if running {
			s.stop()
		}
	}()
	target, err := sdk.ReadTarget(data)
	if err != nil {
		return err
	}
	f, _ := out.(*os.File)
	story := &demo.Story{Options: demo.Options{
		Target: target, DataDir: dir, ExtentsDir: filepath.Join(data, platformDir, extentsDir), Input: input, Out: out,
		Plain: f == nil || !term.IsTerminal(int(f.Fd())),
	}}
	fmt.Fprintf(out, "kluis serves on %s, in %s\n", s.authority("localhost"), dir)
	if err := story.Online(ctx); err != nil {
		return err
	}
	running = false
	if err := s.stop(); err != nil {
		return err
	}
	if err := tellAudit(ctx, story, data); err != nil {
		return err
	}
	story.Finish()
	if keep != "" {
		fmt.Fprintf(out, "Everything is in %s. To go on with it: kluis serve --dev --data %s\n", dir, data)
	}
	if story.Failures() > 0 {
		return errNotHolding
	}
	return nil
}

// tellAudit tells the last step: the logs are verified offline, and a tampered
// copy of one is caught.
func tellAudit(ctx context.Context, story *demo.Story, data string) error {
	story.Step("9", "The auditor verifies the logs, offline")
	reports, err := verifyLogs(ctx, data)
	if err != nil {
		return err
	}
	for _, r := range reports {
		story.Claim(r.Holds && r.Report.Covered == r.Report.Entries, "the %s's log holds: %d entries, all under signed checkpoints%s",
			r.Party, r.Report.Entries, problems(r.Report))
	}
	copied, err := tamper(ctx, data)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(copied))
	report, err := verifyCopiedLog(ctx, copied, filepath.Join(data, platformDir))
	if err != nil {
		return err
	}
	story.Claim(!report.OK(), "a copy in which one letter of one entry was changed is caught:%s", problems(report))
	return nil
}

// verifyCopiedLog verifies the log in a copy of the platform's database.
func verifyCopiedLog(ctx context.Context, copied, dir string) (*audit.Report, error) {
	db, err := openFile(ctx, copied, store.PlatformSchema)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return verifyLog(ctx, db, dir)
}

func problems(r *audit.Report) string {
	var b strings.Builder
	for i, p := range r.Problems {
		if i == 2 {
			fmt.Fprintf(&b, " … (%d in all)", r.Found)
			break
		}
		fmt.Fprintf(&b, " %s;", p)
	}
	return strings.TrimSuffix(b.String(), ";")
}

// tamper copies the platform's database and changes one letter of one entry in
// the copy, as somebody with the database in his hands would.
func tamper(ctx context.Context, data string) (string, error) {
	dir, err := os.MkdirTemp("", "kluis-tampered-")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(data, platformDir, databaseFile))
	if err != nil {
		return "", err
	}
	copied := filepath.Join(dir, databaseFile)
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		return "", err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: copied}).EscapedPath())
	if err != nil {
		return "", err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, `UPDATE audit_entry SET body = CAST(replace(CAST(body AS TEXT), '"outcome":"allowed"', '"outcome":"denied"') AS BLOB)
		WHERE seq = (SELECT max(seq) FROM audit_entry WHERE CAST(body AS TEXT) LIKE '%"outcome":"allowed"%')`)
	return copied, err
}
