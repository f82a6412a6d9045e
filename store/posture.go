package store

import (
	"encoding/json"
	"math"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture/history"
)

// Posture returns the database as the store of what scans have found.
func (d Domains) Posture() history.Store {
	return domain[history.Tx]{d.runner, func(t *Tx) history.Tx { return t }}
}

const postureScanColumns = `id, estate, source, at, opened, resolved, summary, gaps, register`

func scanPostureScan(scan func(...any) error) (s history.Scan, err error) {
	var at int64
	var summary, gaps []byte
	if err := scan(&s.ID, &s.Estate, &s.Source, &at, &s.Opened, &s.Resolved, &summary, &gaps, &s.Register); err != nil {
		return s, err
	}
	s.Time = fromMicros(at)
	if err := json.Unmarshal(summary, &s.Summary); err != nil {
		return s, err
	}
	return s, json.Unmarshal(gaps, &s.Gaps)
}

// AddScan implements [history.Tx].
func (t *Tx) AddScan(s history.Scan) error {
	summary, err := json.Marshal(s.Summary)
	if err != nil {
		return err
	}
	gaps, err := json.Marshal(s.Gaps)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO posture_scan (`+postureScanColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		s.ID, s.Estate, s.Source, micros(s.Time), s.Opened, s.Resolved, string(summary), string(gaps), s.Register)
	return conflict(err, "The scan is recorded already.")
}

// ScanByID implements [history.Tx].
func (t *Tx) ScanByID(id string) (history.Scan, error) {
	s, ok, err := one(t, scanPostureScan, `SELECT `+postureScanColumns+` FROM posture_scan WHERE id = $1`, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "There is no such scan.").About(id)
	}
	return s, err
}

// Scans implements [history.Tx].
func (t *Tx) Scans(estate string, from time.Time, limit int) ([]history.Scan, error) {
	return many(t, scanPostureScan, `SELECT `+postureScanColumns+` FROM posture_scan
		WHERE ($1 = '' OR estate = $1) AND at >= $2 ORDER BY at DESC, id LIMIT $3`, estate, micros(from), limit)
}

// Spans implements [history.Tx].
func (t *Tx) Spans(estate string, since time.Time) ([]history.Span, error) {
	from := int64(math.MaxInt64)
	if !since.IsZero() {
		from = micros(since)
	}
	return many(t, func(scan func(...any) error) (s history.Span, err error) {
		var first, last, resolved int64
		var body, turns []byte
		if err := scan(&s.Estate, &first, &last, &resolved, &body, &turns, &s.Ended); err != nil {
			return s, err
		}
		s.First, s.Last, s.Resolved = fromMicros(first), fromMicros(last), fromMicros(resolved)
		if err := json.Unmarshal(turns, &s.Turns); err != nil || len(s.Turns) == 0 {
			s.Turns = nil
		}
		return s, json.Unmarshal(body, &s.Finding)
	}, `SELECT estate, first_seen, last_seen, resolved, body, turns, ended FROM posture_span
		WHERE estate = $1 AND (resolved = 0 OR resolved >= $2) ORDER BY first_seen, finding`, estate, from)
}

// PutSpan implements [history.Tx].
func (t *Tx) PutSpan(s history.Span) error {
	body, err := json.Marshal(s.Finding)
	if err != nil {
		return err
	}
	turns, err := json.Marshal(s.Turns)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO posture_span (estate, finding, first_seen, last_seen, resolved, body, turns, ended) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (estate, finding, first_seen) DO UPDATE SET last_seen = excluded.last_seen, resolved = excluded.resolved, body = excluded.body,
			turns = excluded.turns, ended = excluded.ended`,
		s.Estate, s.Finding.ID, micros(s.First), micros(s.Last), micros(s.Resolved), string(body), string(turns), string(s.Ended))
	return err
}

// PutRegister implements [history.Tx].
func (t *Tx) PutRegister(sha256 string, body []byte) error {
	_, err := t.exec(`INSERT INTO posture_register (sha256, body) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING`, sha256, string(body))
	return err
}

// Register implements [history.Tx].
func (t *Tx) Register(sha256 string) ([]byte, error) {
	body, ok, err := one(t, func(scan func(...any) error) (body []byte, err error) { return body, scan(&body) },
		`SELECT body FROM posture_register WHERE sha256 = $1`, sha256)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "There is no such register.").About(sha256)
	}
	return body, err
}

// Forget implements [history.Tx].
func (t *Tx) Forget(before time.Time) error {
	if _, err := t.exec(`DELETE FROM posture_scan WHERE at < $1`, micros(before)); err != nil {
		return err
	}
	if _, err := t.exec(`DELETE FROM posture_register WHERE sha256 NOT IN (SELECT register FROM posture_scan)`); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM posture_span WHERE resolved > 0 AND resolved < $1`, micros(before))
	return err
}
