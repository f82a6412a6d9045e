package auditlog_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/auditlog"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/audit/reader"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// tokens takes a principal's name for its token.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string, audiences ...string) (identity.Caller, error) {
	if token == "wrong" || audiences[0] != "https://audit.example" {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token does not hold.")
	}
	return identity.Caller{Tenant: "t", Principal: identity.PrincipalID(token)}, nil
}

// readable is a log of two entries.
type readable struct {
	query  audit.Query
	broken error // in the middle of an export
}

func (r *readable) Party() string { return "vault" }

func (r *readable) entries() []audit.Numbered {
	return []audit.Numbered{{Sequence: 8, Entry: audit.Entry{Operation: "KeyGet"}}, {Sequence: 7, Entry: audit.Entry{Operation: "KeyCreate"}}}
}

func allowed(c identity.Caller) error {
	if c.Principal != "auditor" {
		return fault.New(fault.Denied, "This needs a role.")
	}
	return nil
}

func (r *readable) Entries(_ context.Context, c identity.Caller, q audit.Query) ([]audit.Numbered, error) {
	r.query = q
	return r.entries(), allowed(c)
}

func (r *readable) Export(_ context.Context, c identity.Caller, q audit.Query) (iter.Seq2[audit.Numbered, error], error) {
	r.query = q
	return func(yield func(audit.Numbered, error) bool) {
		for _, e := range r.entries() {
			if !yield(e, nil) {
				return
			}
		}
		if r.broken != nil {
			yield(audit.Numbered{}, r.broken)
		}
	}, allowed(c)
}

func (r *readable) Verify(_ context.Context, c identity.Caller) (reader.Verification, error) {
	return reader.Verification{Holds: true, Entries: 2}, allowed(c)
}

func TestAuditLog(t *testing.T) {
	r := &readable{}
	h := api.WithRequestID(auditlog.New([]auditlog.Reader{r}, map[string]auditlog.Format{"json": export.JSON}, tokens{}, "https://audit.example"))
	for name, c := range map[string]struct {
		path, token string
		status      int
		want        string
	}{
		"the parties":          {"/parties", "anybody", 200, `{"value":["vault"]}`},
		"entries":              {"/vault/entries?from=2026-07-01T00:00:00Z&outcome=denied&request=r&after=9&limit=2", "auditor", 200, `"sequence":8`},
		"a time that is none":  {"/vault/entries?from=yesterday", "auditor", 400, "InvalidArgument"},
		"the oldest first":     {"/vault/entries?order=oldest&after=3", "auditor", 200, `"sequence":8`},
		"no order":             {"/vault/entries?order=random", "auditor", 400, "InvalidArgument"},
		"a page that is none":  {"/vault/entries?after=-1", "auditor", 400, "InvalidArgument"},
		"a limit that is none": {"/vault/entries?limit=0", "auditor", 400, "InvalidArgument"},
		"an export":            {"/vault/export", "auditor", 200, "\"KeyGet\""},
		"an unknown format":    {"/vault/export?format=xml", "auditor", 400, "InvalidArgument"},
		"a verification":       {"/vault/verification", "auditor", 200, `"holds":true`},
		"an absent party":      {"/platform/entries", "auditor", 404, "NotFound"},
		"nothing":              {"/vault", "auditor", 404, "NotFound"},
		"entries, refused":     {"/vault/entries", "engineer", 403, "This needs a role."},
		"an export, refused":   {"/vault/export", "engineer", 403, "Denied"},
		"no token":             {"/vault/entries", "", 401, "Unauthenticated"},
		"a wrong token":        {"/parties", "wrong", 401, "Unauthenticated"},
	} {
		req := httptest.NewRequest("GET", "https://audit.example/audit/v1"+c.path, nil)
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if name == "entries" && (r.query.Outcome != audit.Denied || r.query.Request != "r" || *r.query.After != 9 || r.query.Limit != 2 || !r.query.NewestFirst || r.query.From.IsZero()) {
			t.Errorf("%s asks for %+v", name, r.query)
		}
		if name == "the oldest first" && (r.query.NewestFirst || *r.query.After != 3) {
			t.Errorf("%s asks for %+v", name, r.query)
		}
	}
}

// An export that breaks off does not look like a whole one.
func TestBrokenExport(t *testing.T) {
	r := &readable{broken: errors.New("the disk is gone")}
	s := httptest.NewServer(auditlog.New([]auditlog.Reader{r}, map[string]auditlog.Format{"json": export.JSON}, tokens{}, "https://audit.example"))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/audit/v1/vault/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer auditor")
	res, err := s.Client().Do(req)
	if err == nil {
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
	}
	if err == nil {
		t.Error("a broken export ends cleanly")
	}
}
