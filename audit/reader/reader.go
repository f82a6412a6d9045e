// Package reader lets people read a party's audit log while the party serves: those who
// may, the entries of their own tenant, and with an entry of its own that they did.
//
// It leaves to its caller who may read, which each party's roles say, and to package
// audit what a log is.
package reader

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Log is a party's, as [audit.Log] is.
type Log interface {
	audit.Recorder
	Entries(ctx context.Context, q audit.Query) ([]audit.Numbered, error)
}

// A Config says whose log is read, and who may.
type Config struct {
	Party   string // vault, platform, login or governance
	Log     Log
	Allowed func(ctx context.Context, c identity.Caller) error // fails with [fault.Denied]
	Verify  func(ctx context.Context) (*audit.Report, error)   // verifies the whole log
	Now     func() time.Time                                   // time.Now if nil
}

// A Reader reads one party's log for people. It is safe for concurrent use.
type Reader struct {
	config Config

	mu      sync.Mutex // one verification at a time: it reads everything
	report  Verification
	checked time.Time
}

// New returns a reader.
func New(c Config) *Reader {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Reader{config: c}
}

// Party returns whose log it is.
func (r *Reader) Party() string { return r.config.Party }

// queryTime bounds how long one page is looked for.
const queryTime = 20 * time.Second

func (r *Reader) entry(c identity.Caller, operation string) audit.Entry {
	return c.Entry("audit/"+operation, "/tenants/"+string(c.Tenant)+"/audit")
}

// allow decides, and records the decision.
func (r *Reader) allow(ctx context.Context, c identity.Caller, operation string) error {
	e := r.entry(c, operation)
	err := r.config.Allowed(ctx, c)
	if err != nil {
		e = identity.Failed(e, err)
	}
	if failed := r.config.Log.Record(ctx, e); failed != nil {
		return fault.Wrap(fault.AuditFailed, failed, "The audit entry could not be written, so nothing was shown.")
	}
	return err
}

// Entries returns a page of the caller's tenant's entries that a query selects.
func (r *Reader) Entries(ctx context.Context, c identity.Caller, q audit.Query) ([]audit.Numbered, error) {
	if err := r.allow(ctx, c, "entries/read"); err != nil {
		return nil, err
	}
	q.Tenant = string(c.Tenant)
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	return r.config.Log.Entries(ctx, q)
}

// Export returns all entries of the caller's tenant that a query selects, the oldest
// first.
func (r *Reader) Export(ctx context.Context, c identity.Caller, q audit.Query) (iter.Seq2[audit.Numbered, error], error) {
	if err := r.allow(ctx, c, "entries/export"); err != nil {
		return nil, err
	}
	q.Tenant, q.NewestFirst, q.Limit, q.After = string(c.Tenant), false, 1000, nil
	return func(yield func(audit.Numbered, error) bool) {
		for {
			page, err := r.config.Log.Entries(ctx, q)
			if err != nil {
				yield(audit.Numbered{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < q.Limit {
				return
			}
			q.After = &page[len(page)-1].Sequence
		}
	}, nil
}

// A Verification is what verifying a log has found. It tells nothing of other tenants
// but how many entries there are.
type Verification struct {
	Holds       bool      `json:"holds"`
	Entries     int64     `json:"entries"`
	Covered     int64     `json:"covered"` // by a signed checkpoint
	Root        string    `json:"root"`
	Checkpoints int       `json:"checkpoints"`
	Outside     bool      `json:"outside"` // one from outside the database was compared
	Problems    []string  `json:"problems"`
	Checked     time.Time `json:"checked"`
}

// verifiedFor is how long a verification is told again: it reads the whole log.
const verifiedFor = time.Minute

// Verify verifies the log, or tells what doing so has found within the last minute.
func (r *Reader) Verify(ctx context.Context, c identity.Caller) (Verification, error) {
	if err := r.allow(ctx, c, "verify"); err != nil {
		return Verification{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.config.Now(); !r.checked.IsZero() && now.Sub(r.checked) < verifiedFor && !now.Before(r.checked) {
		return r.report, nil
	}
	found, err := r.config.Verify(ctx)
	if err != nil {
		return Verification{}, err
	}
	v := Verification{
		Holds: found.OK(), Entries: found.Entries, Covered: found.Covered, Root: found.Root.String(),
		Checkpoints: found.Checkpoints, Outside: found.Outside, Problems: []string{}, Checked: r.config.Now().UTC(),
	}
	for _, p := range found.Problems {
		v.Problems = append(v.Problems, p.String())
	}
	r.report, r.checked = v, v.Checked
	return v, nil
}
