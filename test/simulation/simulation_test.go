package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
)

// A small size of every phase. What must hold at every size: no vault is asked beyond
// its budget or its throttle, nothing is served later than the bound after a vault said
// no, everybody is served while the vaults answer, and after an outage everything
// returns without a stampede.
func TestStory(t *testing.T) {
	for _, s := range []size{
		{Workspaces: 1000, Replicas: 1, Vaults: 2},
		{Workspaces: 4000, Replicas: 10, Vaults: 4},
		{Workspaces: 4000, Replicas: 100, Vaults: 4, Affinity: 2},
	} {
		s.Budget, s.Lease, s.Bound, s.Seed = 200, 30*time.Second, time.Minute, 7
		r := simulate(s)
		var text bytes.Buffer
		r.table(&text)
		t.Log("\n" + text.String())
		for _, p := range r.Phases {
			if p.Late != 0 {
				t.Errorf("%s: %d requests were served beyond the bound", p.Name, p.Late)
			}
			if p.Throttled != 0 {
				t.Errorf("%s: a vault answered %d times that it was asked too much", p.Name, p.Throttled)
			}
			// A hint of a revocation waits for no budget; everything else does, and a full
			// second's worth may have been left.
			if p.Name != "mass revocation" && float64(p.VaultWindow) > s.Budget*11 {
				t.Errorf("%s: a vault was asked %d times in ten seconds", p.Name, p.VaultWindow)
			}
			served := float64(p.Served) / float64(p.Requests)
			switch p.Name {
			case "steady state", "rotation of every key":
				if p.Failed != 0 || p.Refused != 0 {
					t.Errorf("%s: %d requests failed, %d were refused", p.Name, p.Failed, p.Refused)
				}
			case "outage of every vault":
				if p.Entries != 0 || served > 0.2 {
					t.Errorf("%s: %d leases are left, and %.2f of the requests were served", p.Name, p.Entries, served)
				}
				if asked := float64(p.Unwraps) / (p.Minutes * 60) / float64(s.Vaults); asked > s.Budget/10 {
					t.Errorf("%s: each vault was asked %.1f times a second", p.Name, asked)
				}
			case "restoring access", "recovery":
				if all, ok := p.Milestones["all have access"]; !ok || all > 120 {
					t.Errorf("%s: %v", p.Name, p.Milestones)
				}
			case "mass revocation":
				for _, c := range []struct {
					what string
					most float64
				}{{"last lease ended, vaults with a feed", 5}, {"last lease ended, vaults without", 60}} {
					if after, ok := p.Milestones[c.what]; !ok || after > c.most {
						t.Errorf("%s: %s after %v s", p.Name, c.what, after)
					}
				}
			}
		}
		if out := os.Getenv("KLUIS_SIMULATION_JSON"); out != "" { // for who wants to keep the figures
			b, err := json.MarshalIndent(r, "", "  ")
			if err == nil {
				err = os.WriteFile(out, b, 0o644)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// The same seed tells the same story.
func TestRepeatable(t *testing.T) {
	s := size{Workspaces: 500, Replicas: 3, Vaults: 2, Budget: 200, Lease: 30 * time.Second, Bound: time.Minute, Seed: 3}
	a, b := simulate(s), simulate(s)
	if !slices.EqualFunc(a.Phases, b.Phases, func(a, b phase) bool { return a.counts == b.counts }) {
		t.Error("two runs differ")
	}
}
