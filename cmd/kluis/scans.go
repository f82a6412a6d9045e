package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture/history"
)

// A postureConfig says when the server scans an estate, as whom, and against what. What
// it finds is kept in the data directory: alerts watch it, and 'kluis posture kpi' and
// 'trend' reckon from it.
type postureConfig struct {
	Interval time.Duration `yaml:"interval"` // between two scans; 0 means none
	Profile  string        `yaml:"profile"`  // the server to scan, a file of bootstrap.json's form; this one's own in dev mode
	As       string        `yaml:"as"`       // the profile's principal; auditor
	Estate   string        `yaml:"estate"`   // the name that it is kept under; kluis
	Policies []string      `yaml:"policies"` // files, as --policy of 'kluis posture scan' takes them
	Controls []string      `yaml:"controls"` // likewise --controls
	Keep     time.Duration `yaml:"keep"`     // for how long scans and resolved findings are kept; 0 means for ever
	Tenant   string        `yaml:"tenant"`   // whose people may read what was found; the installation's own if left out
}

// minInterval bounds how often a server scans.
const minInterval = time.Second

func (p postureConfig) check(dev bool) error {
	if _, err := identity.ParseTenantID(p.Tenant); p.Tenant != "" && err != nil {
		return usageError{fmt.Errorf("posture: tenant: %w", err)}
	}
	switch {
	case p.Interval == 0:
		return nil
	case p.Interval < minInterval || p.Keep < 0:
		return usageError{fmt.Errorf("posture: the interval is at least %s, and nothing is kept for less than no time", minInterval)}
	case p.Profile == "" && !dev:
		return usageError{errors.New("posture: profile names the server to scan and who reads it, in a file of bootstrap.json's form")}
	}
	return nil
}

// scanWhenDue scans when it is due, from the first start on, until workers end. It reads the
// estate as a client of its interfaces, like anybody.
func (s *server) scanWhenDue(workers context.Context) {
	c := s.config.Posture
	if c.Interval == 0 || s.governance == nil {
		return
	}
	s.every(workers, s.governance, min(c.Interval, time.Minute), "scanning", func(ctx context.Context) error {
		flags := c.flags(s.config.Data)
		err := s.governance.db.Governance().View(ctx, func(tx governance.Tx) error {
			all, err := tx.Exceptions()
			flags.accepted = governance.Accepted(all)
			return err
		})
		if err != nil {
			return err
		}
		return c.scan(ctx, s.governance.db.Posture(), flags)
	})
}

// flags say what is scanned, and as whom.
func (c postureConfig) flags(data string) scanFlags {
	return scanFlags{
		sources: []string{"profile"}, policies: c.Policies, controls: c.Controls,
		server: serverFlags{profile: orDefault(c.Profile, filepath.Join(data, bootstrapFile)), as: orDefault(c.As, "auditor")},
	}
}

// scan scans if the last time lies an interval back.
func (c postureConfig) scan(ctx context.Context, kept history.Store, flags scanFlags) error {
	estate, now := orDefault(c.Estate, "kluis"), time.Now()
	var last history.Scan
	err := kept.View(ctx, func(tx history.Tx) (err error) {
		last, err = history.Latest(tx, estate)
		return err
	})
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	if err == nil && now.Sub(last.Time) < c.Interval {
		return nil
	}
	found, err := flags.scan(ctx)
	if err != nil {
		return err
	}
	scan, err := history.Record(ctx, kept, estate, "profile", found)
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "scanned", "estate", estate, "scan", scan.ID, "resources", scan.Summary.Resources, "coverage", scan.Summary.Coverage,
		"opened", scan.Opened, "resolved", scan.Resolved, "gaps", len(scan.Gaps))
	if c.Keep == 0 {
		return nil
	}
	return kept.Update(ctx, func(tx history.Tx) error { return tx.Forget(now.Add(-c.Keep)) })
}
