// Package trace notes what a request or job spends its time on, as the spans of a trace
// (opentelemetry.io/docs/specs/otel/trace). It promises two things: where nobody traces,
// a span costs no allocation; and a span holds no text but what its caller gives it, so
// that none has a tenant's name, a path or an error's wording unless he puts it there.
//
// What is traced at all, and where spans go, is the wiring's to say: it begins a request's
// span, and gives jobs a provider by their context. Everything below finds its parent in
// the context, and notes nothing if there is none.
package trace

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/kluis-io/kluis/fault"
)

// Scope names who makes the spans.
const Scope = "github.com/kluis-io/kluis"

// A Kind says on which side of a call a span is.
type Kind = trace.SpanKind

// The kinds.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient // of a call to a vault, a database or an object store
)

// A Span is one step. The zero value notes nothing.
type Span struct{ span trace.Span }

// Start begins a step of what ctx belongs to. It is to be ended.
func Start(ctx context.Context, name string, kind Kind) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, span := tracer(parent).Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{span}
}

// Note notes a step of what ctx belongs to that has ended just now, or how often it is
// called: it is for steps below which there are none. The span is to be ended.
func Note(ctx context.Context, name string, kind Kind, began time.Time) Span {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return Span{}
	}
	_, span := tracer(parent).Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(began))
	return Span{span}
}

func tracer(parent trace.Span) trace.Tracer { return parent.TracerProvider().Tracer(Scope) }

type providerKey struct{}

// With returns a context whose jobs are traced.
func With(ctx context.Context, p trace.TracerProvider) context.Context {
	return context.WithValue(ctx, providerKey{}, p)
}

// Job begins the trace of a job, which nobody has asked for.
func Job(ctx context.Context, name string) (context.Context, Span) {
	p, ok := ctx.Value(providerKey{}).(trace.TracerProvider)
	if !ok {
		return ctx, Span{}
	}
	ctx, span := p.Tracer(Scope).Start(ctx, name, trace.WithNewRoot())
	return ctx, Span{span}
}

// Serve begins the span of a request that is served: below the one that [Received] has
// found, if it has.
func Serve(ctx context.Context, p trace.TracerProvider, name string) (context.Context, Span) {
	ctx, span := p.Tracer(Scope).Start(ctx, name, trace.WithSpanKind(Server))
	return ctx, Span{span}
}

// Text sets an attribute. What it holds leaves the installation: no tenant's name, no
// path, no secret.
func (s Span) Text(key, value string) {
	if s.span != nil && value != "" {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Number sets an attribute.
func (s Span) Number(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Name gives the span another name.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Fail says that the step has failed, for a reason of a closed list.
func (s Span) Fail(reason string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String("error.type", reason))
		s.span.SetStatus(codes.Error, "")
	}
}

// End ends the step, which has failed if err is not nil. Of the error the span keeps the
// reason alone.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.Fail(string(fault.ReasonOf(err)))
	}
	s.span.End()
}

// w3c carries a trace from one party to another: the header traceparent (w3.org/TR/trace-context).
var w3c propagation.TraceContext

// Send names the step that ctx belongs to in the headers of a request that it makes.
func Send(ctx context.Context, h http.Header) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		w3c.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// Received returns a context below the step that a request's headers name, and whether
// that is being traced: ctx itself if they name none, or badly. Nothing else is taken
// over: neither tracestate nor baggage.
func Received(ctx context.Context, h http.Header) (_ context.Context, traced bool) {
	parent := h.Get("traceparent")
	if parent == "" {
		return ctx, false
	}
	ctx = w3c.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	return ctx, trace.SpanContextFromContext(ctx).IsSampled()
}
