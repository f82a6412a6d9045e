package kpi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
)

// mostScans bounds how many scans of an estate are read: hourly ones of more than a
// year.
const mostScans = 10_000

// Load reads what a store holds of an estate; of all estates if estate is "".
func Load(ctx context.Context, store history.Store, estate string) (in Input, err error) {
	err = store.View(ctx, func(tx history.Tx) error {
		in, err = Read(tx, estate)
		return err
	})
	return in, err
}

// Read is [Load] in a transaction.
func Read(tx history.Tx, estate string) (in Input, err error) {
	in.Registers = map[string]*posture.Register{}
	if in.Scans, err = tx.Scans(estate, time.Time{}, mostScans); err != nil {
		return in, err
	}
	estates := map[string]bool{}
	for _, s := range in.Scans {
		estates[s.Estate] = true
		if s.Register == "" || in.Registers[s.Register] != nil {
			continue
		}
		body, err := tx.Register(s.Register)
		if err != nil {
			return in, err
		}
		g := &posture.Register{}
		if err := json.Unmarshal(body, g); err != nil {
			return in, fmt.Errorf("register %s: %w", s.Register, err)
		}
		in.Registers[s.Register] = g
	}
	for e := range estates {
		spans, err := tx.Spans(e, time.UnixMicro(1)) // those of all time
		if err != nil {
			return in, err
		}
		in.Spans = append(in.Spans, spans...)
	}
	return in, nil
}
