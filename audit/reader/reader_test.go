package reader_test

import (
	"context"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/reader"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// log keeps what is recorded, and pages through it as a log does.
type log struct {
	entries []audit.Numbered
	asked   []audit.Query
	fail    error
}

func (l *log) Record(_ context.Context, e audit.Entry) error {
	if l.fail == nil {
		l.entries = append(l.entries, audit.Numbered{Sequence: int64(len(l.entries)), Entry: e})
	}
	return l.fail
}

func (l *log) Entries(_ context.Context, q audit.Query) (out []audit.Numbered, err error) {
	l.asked = append(l.asked, q)
	for _, e := range l.entries {
		if e.Tenant == q.Tenant && (q.After == nil || e.Sequence > *q.After) && len(out) < q.Limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func TestReader(t *testing.T) {
	l := &log{}
	for range 1500 {
		l.entries = append(l.entries, audit.Numbered{Sequence: int64(len(l.entries)), Entry: audit.Entry{Tenant: "a"}})
		l.entries = append(l.entries, audit.Numbered{Sequence: int64(len(l.entries)), Entry: audit.Entry{Tenant: "b"}})
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	verified := 0
	r := reader.New(reader.Config{
		Party: "vault", Log: l, Now: func() time.Time { return now },
		Allowed: func(_ context.Context, c identity.Caller) error {
			if c.Principal != "auditor" {
				return fault.New(fault.Denied, "no")
			}
			return nil
		},
		Verify: func(context.Context) (*audit.Report, error) {
			verified++
			return &audit.Report{Entries: 3, Found: 1, Problems: []audit.Problem{{Part: audit.EntryPart, Number: 2, Text: "changed"}}}, nil
		},
	})
	who := identity.Caller{Tenant: "a", Principal: "auditor"}
	last := func() audit.Entry { return l.entries[len(l.entries)-1].Entry }

	page, err := r.Entries(t.Context(), who, audit.Query{Limit: 10, Tenant: "b"})
	if err != nil || len(page) != 10 || page[0].Tenant != "a" {
		t.Errorf("a page: %d entries, %v", len(page), err)
	}
	if e := last(); e.Operation != "audit/entries/read" || e.Outcome != audit.Allowed || e.Principal != "auditor" {
		t.Errorf("recorded %+v", e)
	}
	all, err := r.Export(t.Context(), who, audit.Query{Tenant: "b", Limit: 1, NewestFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range all {
		if n++; err != nil || e.Tenant != "a" {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if n != 1502 { // with the two entries that reading has made
		t.Errorf("%d entries are exported", n)
	}
	for range 3 {
		v, err := r.Verify(t.Context(), who)
		if err != nil || v.Holds || v.Entries != 3 || len(v.Problems) != 1 {
			t.Errorf("%+v, %v", v, err)
		}
	}
	now = now.Add(2 * time.Minute)
	if _, err := r.Verify(t.Context(), who); err != nil || verified != 2 {
		t.Errorf("verified %d times, %v", verified, err)
	}

	asked := len(l.asked)
	for name, try := range map[string]func(identity.Caller) error{
		"entries": func(c identity.Caller) error { _, err := r.Entries(t.Context(), c, audit.Query{}); return err },
		"export":  func(c identity.Caller) error { _, err := r.Export(t.Context(), c, audit.Query{}); return err },
		"verify":  func(c identity.Caller) error { _, err := r.Verify(t.Context(), c); return err },
	} {
		if err := try(identity.Caller{Tenant: "a", Principal: "engineer"}); fault.ReasonOf(err) != fault.Denied || last().Outcome != audit.Denied {
			t.Errorf("%s, by who may not: %v, recorded %+v", name, err, last())
		}
		l.fail = fault.New(fault.Internal, "full")
		if err := try(who); fault.ReasonOf(err) != fault.AuditFailed {
			t.Errorf("%s, unrecorded: %v", name, err)
		}
		l.fail = nil
	}
	if len(l.asked) != asked || verified != 2 {
		t.Error("who may not has had the log read")
	}
}
