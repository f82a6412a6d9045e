// Command proof turns promises into evidence that anyone can rerun: it runs the named
// proofs, keeps what they found in a state file, and writes docs/proof.md from it.
//
//	go run ./test/proof [-effort short|medium|full] [-only REGEXP] [-rounds N] [-again] [-list] [-report] [-logs DIR] [-fuzz DURATION]
//
// The state file, docs/proof.json, is kept with the report: it is what the report says.
// What a run has done at a commit is not done again at that commit, so that a run that
// was interrupted goes on where it stopped; counts add up. Every figure is read from the
// tests' own output (lines that begin with "proof:"), none is typed in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

const stateDefault = "docs/proof.json"

// errFailed says that a proof did not hold, after it has said so itself.
var errFailed = errors.New("not everything holds")

func run(ctx context.Context) error {
	effort := flag.String("effort", "full", "short takes minutes, and leaves out what go test does by itself; medium takes hours; full takes days")
	only := flag.String("only", "", "only the proofs whose names match, or the steps that match as PROOF/STEP")
	again := flag.Bool("again", false, "repeat what has been done at this commit")
	atMost := flag.Int("rounds", 0, "at most so many rounds of each step in this run; 0 for all")
	list := flag.Bool("list", false, "only list what there is to do")
	reportOnly := flag.Bool("report", false, "only write the report of what has been done")
	stateFile := flag.String("state", stateDefault, "where the results are kept")
	fuzz := flag.Duration("fuzz", 0, "how long each fuzz target runs, instead of what the effort says")
	logs := flag.String("logs", "", "a folder for all that the steps say; by default, only the end of what failed is kept")
	reportFile := flag.String("o", "docs/proof.md", "the report")
	flag.Parse()
	steps, ok := map[string]func(Proof) []Step{"short": Proof.short, "medium": Proof.medium, "full": Proof.full}[*effort]
	if !ok {
		return fmt.Errorf("there is no effort %q", *effort)
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("run it in the repository's root: %w", err)
	}
	s, err := readState(*stateFile)
	if err != nil {
		return err
	}
	at, err := commit(ctx)
	if err != nil {
		return err
	}
	if *logs != "" {
		if err := os.MkdirAll(*logs, 0o755); err != nil {
			return err
		}
	}
	failed := false
	for _, p := range proofs() {
		if *reportOnly {
			break
		}
		all := steps(p)
		if p.Name == "fuzzing" && *fuzz > 0 {
			all = fuzzing(*fuzz)
		}
		for _, step := range all {
			if !pattern.MatchString(p.Name) && !pattern.MatchString(p.Name+"/"+step.Name) {
				continue
			}
			done := s.done(p.Name, step.Name, at)
			if *list {
				fmt.Printf("%-16s %-40s %d of %d rounds done\n", p.Name, step.Name, done, step.rounds())
				continue
			}
			for n := done; n < step.rounds() || *again && n == done; n++ {
				if *atMost > 0 && n-done == *atMost {
					break
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				fmt.Printf("%s %-16s %s, round %d of %d\n", time.Now().Format(time.TimeOnly), p.Name, step.Name, n+1, step.rounds())
				r := step.run(ctx, step.logFile(*logs, time.Now()))
				if ctx.Err() != nil {
					return ctx.Err() // what was interrupted counts for nothing
				}
				r.Proof, r.Commit, r.Effort = p.Name, at, *effort
				s.Records = append(s.Records, r)
				if err := s.write(*stateFile); err != nil {
					return err
				}
				if !r.OK {
					failed = true
					fmt.Printf("FAILED after %.0f s:\n%s\n", r.Seconds, r.Tail)
					break
				}
				fmt.Printf("         holds, %.0f s: %s\n", r.Seconds, figures([]record{r}))
			}
		}
	}
	if *list {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(*reportFile), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(*reportFile, []byte(report(s, proofs())), 0o644); err != nil {
		return err
	}
	if failed {
		return errFailed
	}
	return nil
}
