// Package auditlog serves the parties' audit logs over HTTP, as JSON below /audit/v1:
//
//	GET /audit/v1/parties                    {"value":["vault","platform"]}
//	GET /audit/v1/PARTY/entries?from=2026-07-01T00:00:00Z&until=…&operation=…&principal=…
//	    &resource=…&outcome=allowed&request=…&after=SEQUENCE&limit=100&order=newest
//	GET /audit/v1/PARTY/export?format=json   lines of JSON: each entry as it was recorded, or azure
//	GET /audit/v1/PARTY/verification         {"holds":true,"entries":…}
//
// Entries come newest first, or with order=oldest the other way; after names the last one of the page before. It holds no
// rule of its own: who may read is package reader's.
package auditlog

import (
	"bufio"
	"context"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/reader"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Reader reads one party's log.
type Reader interface {
	Party() string
	Entries(ctx context.Context, c identity.Caller, q audit.Query) ([]audit.Numbered, error)
	Export(ctx context.Context, c identity.Caller, q audit.Query) (iter.Seq2[audit.Numbered, error], error)
	Verify(ctx context.Context, c identity.Caller) (reader.Verification, error)
}

// A Format turns an entry into a line of an export, with what belongs between two.
type Format = func(n audit.Numbered) ([]byte, error)

const root = "/audit/v1"

// New returns the handler of the parties' logs. Tokens must be meant for one of the
// audiences.
func New(readers []Reader, formats map[string]Format, tokens api.Tokens, audiences ...string) http.Handler {
	h := &handler{readers: readers, formats: formats, tokens: tokens, audiences: audiences}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+root+"/parties", h.authenticated(h.parties))
	mux.HandleFunc("GET "+root+"/{party}/entries", h.authenticated(h.entries))
	mux.HandleFunc("GET "+root+"/{party}/export", h.authenticated(h.export))
	mux.HandleFunc("GET "+root+"/{party}/verification", h.authenticated(h.verify))
	mux.HandleFunc("/", h.authenticated(func(http.ResponseWriter, *http.Request, identity.Caller) error {
		return fault.New(fault.NotFound, "There is no such operation below "+root+".")
	}))
	return mux
}

type handler struct {
	readers   []Reader
	formats   map[string]Format
	tokens    api.Tokens
	audiences []string
}

func (h *handler) authenticated(fn func(http.ResponseWriter, *http.Request, identity.Caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		caller, err := api.Authenticate(r, h.tokens, h.audiences...)
		if err == nil {
			err = fn(w, r, caller)
		}
		if err != nil {
			writeError(w, r, err)
		}
	}
}

func (h *handler) reader(r *http.Request) (Reader, error) {
	i := slices.IndexFunc(h.readers, func(one Reader) bool { return one.Party() == r.PathValue("party") })
	if i < 0 {
		return nil, fault.New(fault.NotFound, "There is no log of such a party here.")
	}
	return h.readers[i], nil
}

func (h *handler) parties(w http.ResponseWriter, _ *http.Request, _ identity.Caller) error {
	names := []string{}
	for _, r := range h.readers {
		names = append(names, r.Party())
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"value": names})
	return nil
}

// query reads the parameters of a request.
func query(r *http.Request) (q audit.Query, err error) {
	v := r.URL.Query()
	for name, t := range map[string]*time.Time{"from": &q.From, "until": &q.Until} {
		if s := v.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return q, fault.New(fault.InvalidArgument, "from and until are times such as 2026-07-01T12:00:00Z.")
			}
		}
	}
	q.Operation, q.Principal, q.Resource, q.Request = v.Get("operation"), v.Get("principal"), v.Get("resource"), v.Get("request")
	q.Outcome = audit.Outcome(v.Get("outcome"))
	switch v.Get("order") {
	case "", "newest":
		q.NewestFirst = true
	case "oldest":
	default:
		return q, fault.New(fault.InvalidArgument, "order is newest, or oldest, which come first.")
	}
	if s := v.Get("after"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return q, fault.New(fault.InvalidArgument, "after is the sequence number of an entry.")
		}
		q.After = &n
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 {
			return q, fault.New(fault.InvalidArgument, "limit is a number of at least 1.")
		}
	}
	return q, nil
}

func (h *handler) entries(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	one, err := h.reader(r)
	if err != nil {
		return err
	}
	q, err := query(r)
	if err != nil {
		return err
	}
	found, err := one.Entries(r.Context(), caller, q)
	if err != nil {
		return err
	}
	if found == nil {
		found = []audit.Numbered{}
	}
	api.WriteJSON(w, http.StatusOK, map[string]any{"value": found})
	return nil
}

func (h *handler) export(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	one, err := h.reader(r)
	if err != nil {
		return err
	}
	q, err := query(r)
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("format")
	if name == "" {
		name = "json"
	}
	format := h.formats[name]
	if format == nil {
		return fault.New(fault.InvalidArgument, "There is no such format: there are azure and json.")
	}
	all, err := one.Export(r.Context(), caller, q)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Content-Disposition", `attachment; filename="audit-`+one.Party()+`.jsonl"`)
	out := bufio.NewWriterSize(w, 64<<10)
	for n, err := range all {
		var line []byte
		if err == nil {
			line, err = format(n)
		}
		if err != nil { // the answer has begun: it must not end as if it were whole
			api.LogFailure(r.Context(), "auditlog", err)
			panic(http.ErrAbortHandler)
		}
		if line != nil {
			out.Write(append(line, '\n'))
		}
	}
	out.Flush()
	return nil
}

func (h *handler) verify(w http.ResponseWriter, r *http.Request, caller identity.Caller) error {
	one, err := h.reader(r)
	if err != nil {
		return err
	}
	v, err := one.Verify(r.Context(), caller)
	if err != nil {
		return err
	}
	api.WriteJSON(w, http.StatusOK, v)
	return nil
}

// writeError answers with the error body that kluis's own interfaces share.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	switch fault.ReasonOf(err) {
	case fault.Unauthenticated, fault.TokenRevoked:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	case fault.Denied:
		status = http.StatusForbidden
	case fault.InvalidArgument:
		status = http.StatusBadRequest
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Unavailable, fault.AuditFailed:
		status = http.StatusServiceUnavailable
	}
	message := api.Failing(w, r, "auditlog", err, status)
	api.WriteJSON(w, status, map[string]any{"error": map[string]string{"code": string(fault.ReasonOf(err)), "message": message}})
}
