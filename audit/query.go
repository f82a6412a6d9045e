package audit

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A Query selects entries. Zero fields select everything.
type Query struct {
	From, Until time.Time // from From on, and before Until
	Operation   string
	Principal   string
	Resource    string // this one and everything below it
	Outcome     Outcome
	Tenant      string
	Request     string // the party's id of a request, or the client's

	NewestFirst bool
	After       *int64 // the sequence number of the last entry of the page before
	Limit       int    // the most to return; zero means 100, above 1000 means 1000
}

// A Numbered entry is an entry and its place in the log.
type Numbered struct {
	Sequence int64 `json:"sequence"`
	Entry
}

// Entries returns the entries that a query selects, a page at a time. It reads
// the log as it lies there: only [Verify] says whether it is what was written.
func (l *Log) Entries(ctx context.Context, q Query) ([]Numbered, error) {
	limit := q.Limit
	switch {
	case limit < 0:
		return nil, fault.New(fault.InvalidArgument, "The limit is negative.")
	case limit == 0:
		limit = 100
	}
	limit = min(limit, 1000)
	var out []Numbered
	err := l.Store.View(ctx, func(tx Tx) error {
		first, end, err := q.span(tx)
		if err != nil {
			return err
		}
		for first < end && len(out) < limit {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(end-first, recordBatch)
			from := first
			if q.NewestFirst {
				from = end - n
			}
			records, err := tx.AuditRecords(from, int(n))
			if err != nil {
				return err
			}
			if q.NewestFirst {
				slices.Reverse(records)
			}
			for _, r := range records {
				if r.Sequence < first || r.Sequence >= end {
					continue
				}
				e, err := Parse(r.Body)
				if err != nil {
					return fault.Wrap(fault.Integrity, err, "An entry of the audit log cannot be read.")
				}
				if q.selects(e) && len(out) < limit {
					out = append(out, Numbered{r.Sequence, e})
				}
			}
			if q.NewestFirst {
				end -= n
			} else {
				first += n
			}
		}
		return nil
	})
	return out, err
}

// span returns the sequence numbers [first, end) among which to look.
func (q Query) span(tx Tx) (first, end int64, err error) {
	if end, err = tx.AuditSize(); err != nil {
		return 0, 0, err
	}
	if !q.From.IsZero() || !q.Until.IsZero() {
		until := q.Until
		if until.IsZero() {
			until = time.UnixMicro(math.MaxInt64)
		}
		lo, hi, ok, err := tx.AuditSpan(q.From, until)
		if err != nil || !ok {
			return 0, 0, err
		}
		first, end = lo, hi+1
	}
	switch {
	case q.After == nil:
	case q.NewestFirst:
		end = min(end, *q.After)
	default:
		first = max(first, *q.After+1)
	}
	return first, end, nil
}

func (q Query) selects(e Entry) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return (q.From.IsZero() || !e.Time.Before(q.From)) &&
		(q.Until.IsZero() || e.Time.Before(q.Until)) &&
		is(q.Operation, e.Operation) && is(q.Principal, e.Principal) && is(q.Tenant, e.Tenant) &&
		is(string(q.Outcome), string(e.Outcome)) &&
		(q.Request == "" || q.Request == e.Request || q.Request == e.Correlation) &&
		(q.Resource == "" || below(e.Resource, q.Resource))
}

// below reports whether a resource is root or lies under it. Case does not
// matter, as it does not in Azure's resource ids.
func below(resource, root string) bool {
	resource, root = strings.ToLower(resource)+"/", strings.ToLower(strings.TrimSuffix(root, "/"))+"/"
	return strings.HasPrefix(resource, root)
}
