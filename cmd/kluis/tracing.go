package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/otlp"
	"github.com/kluis-io/kluis/internal/trace"
	"github.com/kluis-io/kluis/store"
)

// A tracing has requests and jobs traced. A nil one traces nothing, at no cost.
type tracing struct {
	provider *sdktrace.TracerProvider
	callers  *rate.Limiter // how many requests a second may say that they be traced
}

// callersRate bounds for how many requests a second, and at once, their callers decide
// that they are traced: whatever share of requests is traced, a stranger cannot make it
// all of his.
const callersRate = 100

// tracing returns what the configuration asks for, or OpenTelemetry's variables do
// (opentelemetry.io/docs/specs/otel/protocol/exporter). Of those that say how much is
// traced and when it is sent the SDK itself takes care.
func (c Config) tracing() (*tracing, error) {
	to := otlp.Config{URL: c.Traces}
	if off, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); to.URL == "" && !off && os.Getenv("OTEL_TRACES_EXPORTER") != "none" {
		if to.URL = os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); to.URL == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
			to.URL = strings.TrimSuffix(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "/") + "/v1/traces"
		}
	}
	if to.URL == "" {
		return nil, nil
	}
	if p := otel("PROTOCOL"); p != "" && p != "http/protobuf" {
		return nil, usageError{fmt.Errorf("traces: OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf, and nothing else is spoken: %q", p)}
	}
	for pair := range strings.SplitSeq(otel("HEADERS"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if name == "" {
			continue
		}
		value, err := url.PathUnescape(value)
		if err != nil {
			return nil, usageError{fmt.Errorf("traces: OTEL_EXPORTER_OTLP_HEADERS: the value of %q is not encoded as in a URL", name)}
		}
		if to.Headers == nil {
			to.Headers = map[string]string{}
		}
		to.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	var err error
	if ca := otel("CERTIFICATE"); ca != "" {
		if to.Roots, err = readPool(ca); err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
	}
	client, err := otlp.New(to)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	who, err := resource.New(context.Background(), resource.WithAttributes(
		attribute.String("service.name", "kluis"), attribute.String("service.version", version),
		attribute.String("service.instance.id", uuid.NewString()),
	), resource.WithFromEnv())
	if err != nil {
		return nil, usageError{fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)}
	}
	return &tracing{
		provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(&collector{Spans: otlp.Spans{Client: client}}), sdktrace.WithResource(who)),
		callers:  rate.NewLimiter(callersRate, callersRate),
	}, nil
}

// otel returns one of OpenTelemetry's variables about an exporter: that of traces, or else
// that of everything.
func otel(name string) string {
	if v := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_" + name)
}

// A collector takes spans, and has the log say when it no longer does, and when it does
// again. What it does not take is lost: nothing waits for it.
type collector struct {
	otlp.Spans
	away atomic.Bool
}

func (c *collector) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.Spans.ExportSpans(ctx, spans)
	if away := err != nil; c.away.Swap(away) != away {
		if away {
			slog.Warn("traces are lost: the collector does not take them", "error", err)
		} else {
			slog.Info("the collector takes traces again")
		}
	}
	return nil
}

// watch traces what a router's services are asked.
func (t *tracing) watch(rt *router) {
	if t == nil {
		return
	}
	rt.wrap(t.serve)
	for service, h := range map[string]*http.Handler{"portal": &rt.portal, "audit": &rt.auditlog} {
		if *h != nil {
			*h = t.serve(service, *h)
		}
	}
}

// handler is serve for a service behind a listener of its own; nobody watches it if nothing
// is traced.
func (t *tracing) handler(service string, h http.Handler) http.Handler {
	if t == nil {
		return h
	}
	return t.serve(service, h)
}

// methods are those that a span names; any other is anybody's own text.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// serve traces the requests of a service, by the semantic conventions of HTTP spans, but
// without what they would have of the URL and of the client: hosts are named after
// vaults and accounts, and paths after everything else of the tenant's.
func (t *tracing) serve(service string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, asked := trace.Received(r.Context(), r.Header)
		if asked && !t.callers.Allow() {
			ctx = r.Context()
		}
		method := r.Method
		if !slices.Contains(methods, method) {
			method = "_OTHER"
		}
		ctx, span := trace.Serve(ctx, t.provider, method+" "+service)
		span.Text("http.request.method", method)
		span.Text("url.scheme", "https")
		span.Text("kluis.service", service)
		span.Text("kluis.request", api.RequestID(ctx))
		r, answer, ended := r.WithContext(ctx), &answer{ResponseWriter: w}, false
		defer func() { // also if it is aborted, by a panic that is on its way up
			if r.Pattern != "" && r.Pattern != "/" {
				_, route, _ := strings.Cut(r.Pattern, " ")
				span.Text("http.route", route)
				span.Name(method + " " + route)
			}
			if answer.status != 0 {
				span.Number("http.response.status_code", answer.status)
			}
			if answer.status >= 500 {
				span.Fail(strconv.Itoa(answer.status))
			} else if !ended {
				span.Fail("aborted")
			}
			span.End(nil)
		}()
		h.ServeHTTP(answer, r)
		answer.begun(http.StatusOK) // as the server answers for who has said nothing
		ended = true
	})
}

// An answer remembers its status, 0 until there is one.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) begun(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
}

func (a *answer) WriteHeader(status int) {
	a.begun(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun(http.StatusOK)
	return a.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// transaction returns what notes each transaction of a party's database, by the semantic
// conventions of database spans.
func (t *tracing) transaction(party string, shared bool) func(context.Context, store.Cost) {
	if t == nil {
		return nil
	}
	system := "sqlite"
	if shared {
		system = "postgresql"
	}
	return func(ctx context.Context, c store.Cost) {
		name := "read " + party
		if c.Writes {
			name = "write " + party
		}
		span := trace.Note(ctx, name, trace.Client, time.Now().Add(-c.Took))
		span.Text("db.system.name", system)
		span.Text("db.namespace", party)
		span.Number("kluis.statements", c.Statements)
		span.End(c.Err)
	}
}

// jobs returns a context whose jobs are traced.
func (t *tracing) jobs(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return trace.With(ctx, t.provider)
}

// traced does a job, as one that the audit log and the trace name alike.
func traced(ctx context.Context, what string, job func(context.Context) error) error {
	ctx, span := trace.Job(audit.WithJob(ctx), what)
	span.Text("kluis.request", audit.RequestOf(ctx))
	err := job(ctx)
	span.End(err)
	return err
}

// stop sends what is left.
func (t *tracing) stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		slog.Warn("the last traces are lost", "error", err)
	}
}
