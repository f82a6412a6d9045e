package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/tiles"
)

// openAgain is how long after a failure a place elsewhere is tried again.
const openAgain = 10 * time.Second

// publish publishes a party's log until ctx ends. In the time of a declared restore the log
// lies in a place of its own, below the restore's id: what was published before it stays.
func (c Config) publish(ctx context.Context, p *party, instance string) {
	below := []string{instance, p.name}
	if p.witness != nil && p.witness.Restore() != "" {
		below = append(below, p.witness.Restore())
	}
	for ctx.Err() == nil {
		place, err := c.openRecords(ctx, "audit.tiles", c.Audit.Tiles.Place, c.Audit.Tiles.Credential, below...)
		if err == nil {
			publisher := tiles.Publisher{Name: p.name, Log: p.db.Audit(), Verifier: p.log.Verifier, Store: place, Interval: c.Audit.Tiles.Every}
			publisher.Run(ctx)
			return
		}
		slog.ErrorContext(ctx, "the audit log's place cannot be opened", "log", p.name, "again", openAgain.String(), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(openAgain):
		}
	}
}

// A published is what `kluis audit verify` is told of a published log.
type published struct {
	place      string
	credential string
	trust      []string
	key        string
	checkpoint string
}

// verify verifies a published log with nothing of the party that wrote it but its verifier
// key.
func (p published) verify(ctx context.Context) ([]logReport, error) {
	if p.key == "" {
		return nil, usageError{errors.New("--tiles needs --key, the log's verifier key: a party's file " + auditKeyFile + audit.VerifierSuffix + ", as you got it from there")}
	}
	verifier, err := audit.LoadVerifier(p.key)
	if err != nil {
		return nil, err
	}
	var others [][]byte
	if p.checkpoint != "" {
		note, err := os.ReadFile(p.checkpoint)
		if err != nil {
			return nil, err
		}
		others = append(others, note)
	}
	c := Config{Trust: p.trust}
	place, err := c.readRecords(ctx, "--tiles", p.place, p.credential)
	if err != nil {
		return nil, err
	}
	copied, err := tiles.OpenCopy(ctx, place, verifier)
	if err != nil {
		return nil, err
	}
	report, err := audit.VerifyCopy(ctx, copied, verifier, copied.Checkpoint(), others...)
	if err != nil {
		return nil, err
	}
	return []logReport{{Party: verifier.Name(), Holds: report.OK(), Report: report}}, nil
}
