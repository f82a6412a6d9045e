// Command simulation tells how a platform of many workspaces and replicas asks its
// customers' vaults: for an hour of steady use, while every key is rotated, many are
// revoked, and every vault is silent and comes back. It runs on virtual time.
//
// What is real: package encryption/pace, which decides in the keyring of every process
// when a lease is renewed, how long it is, what a vault may be asked, how a silent one
// is left alone, and when a scope without access is tried again. What is modelled: the
// clients' requests, the vaults and their throttle (answers cost time, and no
// cryptography is done), the lease that replicas share through the database, that each
// hears of a revocation from the database within a second, and the database itself,
// whose transactions are counted. TestModel holds the model against the real keyring.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what comes out.
type report struct {
	size
	Phases  []phase `json:"phases"`
	Elapsed float64 `json:"elapsedSeconds"` // of real time
}

func simulate(s size) report {
	began := time.Now()
	w := newWorld(s)
	return report{size: w.size, Phases: w.story(), Elapsed: time.Since(began).Seconds()}
}

func main() {
	var s size
	flag.IntVar(&s.Workspaces, "workspaces", 10_000, "workspaces under customers' keys")
	flag.IntVar(&s.Replicas, "replicas", 10, "replicas")
	flag.IntVar(&s.Vaults, "vaults", 0, "vaults; 0 means one for each thousand workspaces")
	flag.IntVar(&s.Affinity, "affinity", 0, "how many replicas serve one tenant; 0 means all")
	flag.Float64Var(&s.Budget, "budget", 200, "what one vault may be asked in a second")
	flag.DurationVar(&s.Lease, "lease", 30*time.Second, "what a lease aims at")
	flag.DurationVar(&s.Bound, "bound", time.Minute, "the most that it may be")
	flag.Uint64Var(&s.Seed, "seed", 1, "of the random numbers")
	output := flag.String("output", "table", "table or json")
	flag.Parse()
	if s.Vaults == 0 {
		s.Vaults = max(2, s.Workspaces/1000)
	}
	if s.Workspaces < 1 || s.Replicas < 1 || s.Replicas > 1<<16 || *output != "table" && *output != "json" {
		flag.Usage()
		os.Exit(2)
	}
	r := simulate(s)
	if *output == "json" {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		e.Encode(r)
		return
	}
	r.table(os.Stdout)
}

// table writes the report for people.
func (r report) table(to io.Writer) {
	fmt.Fprintf(to, "%d workspaces under %d vaults, %d replicas of which %d serve each tenant; budget %g a second and vault, lease %v, bound %v; simulated in %.0f s\n\n",
		r.Workspaces, r.Vaults, r.Replicas, r.Affinity, r.Budget, r.Lease, r.Bound, r.Elapsed)
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tmin\trequests/s\tnot served %\tin use\tleases\tlease s\tunwrap/s\tget+wrap/s\tshared/s\tvault peak 1 s\t10 s\t429\tDB reads/s\twrites/s\tlate\t")
	for _, p := range r.Phases {
		s := p.Minutes * 60
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\t%.0f\t%.0f\t%d\t\n", p.Name, p.Minutes,
			float64(p.Requests)/s, 100*float64(p.Refused+p.Failed)/float64(p.Requests), p.Active, p.Entries, p.LeaseSeconds, float64(p.Unwraps)/s,
			float64(p.Gets+p.Wraps)/s, float64(p.Shared)/s, p.VaultSecond, p.VaultWindow, p.Throttled, float64(p.Reads)/s, float64(p.Writes)/s, p.Late)
	}
	t.Flush()
	for _, p := range r.Phases {
		var all []string
		for name, s := range p.Milestones {
			all = append(all, fmt.Sprintf("%s after %.0f s", name, s))
		}
		slices.Sort(all)
		if len(all) > 0 {
			fmt.Fprintf(to, "%s: %s\n", p.Name, strings.Join(all, ", "))
		}
	}
}
