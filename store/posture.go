package store

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
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
	return many(t, scanSpan, `SELECT `+spanColumns+` FROM posture_span
		WHERE estate = $1 AND (resolved = 0 OR resolved >= $2) ORDER BY first_seen, finding`, estate, from)
}

const spanColumns = `estate, first_seen, last_seen, resolved, body, turns, ended`

func scanSpan(scan func(...any) error) (s history.Span, err error) {
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
}

// rank orders severities, the worst first; one that is none comes last.
func rank(s posture.Severity) int {
	if i := slices.Index(posture.Severities, s); i >= 0 {
		return i
	}
	return unranked
}

const unranked = 9

var likely = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// selection returns the condition of a selection, with its parameters: of what is asked
// for alone, so that an engine sees which rows it will have to read.
func selection(s history.Selection) (where string, args []any) {
	where = "1 = 1"
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += " AND " + strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args)))
	}
	if s.Estate != "" {
		and("estate = ?", s.Estate)
	}
	switch s.Standing {
	case history.Open:
		where += " AND resolved = 0"
	case history.Accepted:
		where += " AND resolved = 0 AND excepted = 1"
	case history.NotAccepted:
		where += " AND resolved = 0 AND excepted = 0"
	case history.Over:
		where += " AND resolved > 0"
	}
	if s.AtLeast != "" {
		and("severity <= ?", rank(s.AtLeast))
	}
	switch begin, more := s.Beginning(); {
	case s.Control == "":
	case more:
		and("SUBSTR(control, 1, LENGTH(?)) = ?", begin)
	default:
		and("control = ?", begin)
	}
	if s.Resource != "" {
		and(`subject LIKE ? ESCAPE '\'`, "%"+likely.Replace(strings.ToLower(s.Resource))+"%")
	}
	if s.Finding != "" {
		and("finding = ?", s.Finding)
	}
	return where, args
}

// SelectSpans implements [history.Tx].
func (t *Tx) SelectSpans(sel history.Selection, after history.Place, limit int) ([]history.Span, error) {
	where, args := selection(sel)
	columns, place, direction, beyond := "estate, first_seen, finding", []any{after.Estate, micros(after.First), after.Finding}, "", ">"
	switch sel.Order {
	case history.Worst:
		columns, place = "severity, "+columns, append([]any{rank(after.Severity)}, place...)
	case history.Newest:
		columns, place, direction, beyond = "first_seen, estate, finding", []any{micros(after.First), after.Estate, after.Finding}, " DESC", "<"
	}
	if after != (history.Place{}) {
		var marks []string
		for _, v := range place {
			args = append(args, v)
			marks = append(marks, "$"+strconv.Itoa(len(args)))
		}
		where += " AND (" + columns + ") " + beyond + " (" + strings.Join(marks, ", ") + ")"
	}
	order := strings.ReplaceAll(columns, ",", direction+",") + direction
	args = append(args, limit)
	return many(t, scanSpan, `SELECT `+spanColumns+` FROM posture_span WHERE `+where+` ORDER BY `+order+` LIMIT $`+strconv.Itoa(len(args)), args...)
}

// CountSpans implements [history.Tx].
func (t *Tx) CountSpans(sel history.Selection) (map[posture.Severity]int, error) {
	out := map[posture.Severity]int{}
	where, args := selection(sel)
	return out, t.rows(`SELECT severity, COUNT(*) FROM posture_span WHERE `+where+` GROUP BY severity`, args, func(scan func(...any) error) error {
		var at, n int
		if err := scan(&at, &n); err != nil {
			return err
		}
		var severity posture.Severity
		if at < len(posture.Severities) {
			severity = posture.Severities[at]
		}
		out[severity] += n
		return nil
	})
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
	_, err = t.exec(`INSERT INTO posture_span (estate, finding, first_seen, last_seen, resolved, body, turns, ended, control, subject, severity, excepted)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (estate, finding, first_seen) DO UPDATE SET last_seen = excluded.last_seen, resolved = excluded.resolved, body = excluded.body,
			turns = excluded.turns, ended = excluded.ended, control = excluded.control, subject = excluded.subject, severity = excluded.severity, excepted = excluded.excepted`,
		s.Estate, s.Finding.ID, micros(s.First), micros(s.Last), micros(s.Resolved), string(body), string(turns), string(s.Ended),
		s.Finding.Control, strings.ToLower(s.Finding.Resource+" "+s.Finding.Name), rank(s.Finding.Severity), s.Finding.Excepted != nil)
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
