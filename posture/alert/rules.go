package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
)

// guardrails are the controls on vaults, grants and logs whose change is told at once.
var guardrails = []string{"G1", "G2", "G3", "G4", "G14", "G15", "G16", "G17"}

// lookback is how old a scan may be and still be gone by.
const lookback = 8 * 24 * time.Hour

// overdue is how late a rotation by policy may be.
const overdue = 24 * time.Hour

// FromScans returns what the newest scan of each estate says, and the keys that
// resources depend on.
func FromScans(ctx context.Context, store history.Store, now time.Time) (all []Signal, keys []posture.KeyRecord, err error) {
	err = store.View(ctx, func(tx history.Tx) error {
		all, keys = nil, nil
		scans, err := tx.Scans("", now.Add(-lookback), 10_000)
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, s := range scans { // newest first
			if seen[s.Estate] {
				continue
			}
			seen[s.Estate] = true
			if s.Register != "" {
				body, err := tx.Register(s.Register)
				if err != nil {
					return err
				}
				var g posture.Register
				if err := json.Unmarshal(body, &g); err != nil {
					return err
				}
				for _, k := range g.Keys {
					all = append(all, fromKey(k, now)...)
					keys = append(keys, k)
				}
			}
			changed, err := guardrailsChanged(tx, s)
			if err != nil {
				return err
			}
			all = append(all, changed...)
		}
		return nil
	})
	return all, keys, err
}

func fromKey(k posture.KeyRecord, now time.Time) (all []Signal) {
	if !k.Read {
		return nil
	}
	if k.Deleted {
		if k.Dependants > 0 {
			all = append(all, unavailable(k, "deleted"))
		}
		return all
	}
	if len(k.Versions) == 0 {
		return nil
	}
	v := k.Versions[len(k.Versions)-1]
	if v.Enabled != nil && !*v.Enabled && k.Dependants > 0 {
		all = append(all, unavailable(k, "disabled"))
	}
	if k.Due != nil && now.After(k.Due.Add(overdue)) {
		all = append(all, Signal{Kind: RotationOverdue, Subject: k.Key, Severity: posture.High,
			Detail: "its policy wanted a new version on " + k.Due.Format(time.DateOnly), Mend: "Rotate the key, and find out why its vault has not."})
	}
	rotated := k.Due != nil && v.Expires != nil && k.Due.Before(*v.Expires) && now.Before(k.Due.Add(overdue))
	if v.Expires == nil || rotated {
		return all
	}
	s := Signal{Kind: KeyNearExpiry, Subject: k.Key, Mend: "Rotate the key, and give it a rotation policy."}
	left := v.Expires.Sub(now)
	const day = 24 * time.Hour
	switch {
	case left > 30*day:
		return all
	case left <= 0:
		s.Severity, s.Detail = posture.Critical, "it expired on "+v.Expires.Format(time.DateOnly)+": nothing can be wrapped under it any more"
	case left <= day:
		s.Severity = posture.Critical
	case left <= 7*day:
		s.Severity = posture.High
	case left <= 14*day:
		s.Severity = posture.Medium
	default:
		s.Severity = posture.Low
	}
	if s.Detail == "" {
		s.Detail = fmt.Sprintf("it expires on %s, and nothing rotates it before; %d resources depend on it", v.Expires.Format(time.DateOnly), k.Dependants)
	}
	if k.Dependants == 0 {
		s.Severity = posture.Low
	}
	return append(all, s)
}

func unavailable(k posture.KeyRecord, how string) Signal {
	return Signal{Kind: KeyUnavailable, Subject: k.Key, Severity: posture.Critical,
		Detail: fmt.Sprintf("it is %s, and %d resources depend on it", how, k.Dependants), Mend: "If nobody meant to revoke: recover or enable the key."}
}

// guardrailsChanged returns the guardrails that held in an earlier scan of the estate
// and do not now.
func guardrailsChanged(tx history.Tx, newest history.Scan) (all []Signal, err error) {
	scans, err := tx.Scans(newest.Estate, time.Time{}, 10_000)
	if err != nil {
		return nil, err
	}
	began := scans[len(scans)-1].Time
	spans, err := tx.Spans(newest.Estate, time.Time{})
	for _, s := range spans {
		f := s.Finding
		if !slices.Contains(guardrails, f.Control) || !s.First.After(began) || s.StatusAt(newest.Time) != history.Failing {
			continue
		}
		all = append(all, Signal{Kind: GuardrailChanged, Subject: f.Control + " " + f.Resource, Severity: f.Severity,
			Detail: fmt.Sprintf("%s: %s, since %s", f.Title, f.Detail, s.First.Format(time.RFC3339)), Mend: f.Mend})
	}
	return all, err
}

// Rate is how many refusals of one principal within an hour are told.
const Rate = 10

// FromAttempts returns what refusals of the last day say.
func FromAttempts(attempts []kpi.Attempt, now time.Time) (all []Signal) {
	type caller struct{ total, lately int }
	callers := map[string]*caller{}
	var order []string
	for _, a := range attempts {
		if a.Time.Before(now.Add(-24*time.Hour)) || a.Time.After(now) {
			continue
		}
		c := callers[a.Principal]
		if c == nil {
			c = &caller{}
			callers[a.Principal] = c
			order = append(order, a.Principal)
		}
		c.total++
		if a.Time.After(now.Add(-time.Hour)) {
			c.lately++
		}
	}
	for _, p := range order {
		c := callers[p]
		all = append(all, Signal{Kind: AttemptFirstSeen, Subject: p, Severity: posture.Medium,
			Detail: "a vault refuses this principal a key, for the first time in 30 days", Mend: "Find out who it is and what it wants; grant it, or take its credential away."})
		if c.lately >= Rate {
			all = append(all, Signal{Kind: AttemptRate, Subject: p, Severity: posture.High,
				Detail: fmt.Sprintf("at least %d requests on keys were refused within an hour", Rate), Mend: "Find out who it is; revoke its credential if nobody knows."})
		}
	}
	return all
}

// A Down key is one that a vault's log says was disabled or deleted.
type Down struct {
	Vault, Key string // names
	How        string // disabled or deleted
}

// FromDown returns what the log's news means for keys that resources depend on: it
// is there before the next scan is.
func FromDown(down []Down, keys []posture.KeyRecord) (all []Signal) {
	for _, d := range down {
		for _, k := range keys {
			ref := posture.ParseKeyRef(k.Key)
			host, _, _ := strings.Cut(ref.Vault, ".")
			if k.Dependants > 0 && strings.EqualFold(host, d.Vault) && strings.EqualFold(ref.Name, d.Key) {
				all = append(all, unavailable(k, d.How))
			}
		}
	}
	return all
}
