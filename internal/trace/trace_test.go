package trace_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/trace"
)

// Where nobody traces, a step costs no allocation.
func TestNothingCostsNothing(t *testing.T) {
	h := http.Header{}
	began := time.Now()
	refusal := fault.New(fault.Denied, "no")
	if n := testing.AllocsPerRun(1000, func() {
		ctx, job := trace.Job(t.Context(), "job")
		ctx, span := trace.Start(ctx, "step", trace.Client)
		trace.Send(ctx, h)
		trace.Note(ctx, "note", trace.Client, began).End(refusal)
		span.Text("key", "value")
		span.Number("key", 1)
		span.End(refusal)
		job.End(nil)
	}); n != 0 || len(h) != 0 {
		t.Errorf("%v allocations, %v", n, h)
	}
}

// A span keeps of an error its reason alone, and steps below what is not traced are not.
func TestSpans(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept))
	ctx, job := trace.Job(trace.With(t.Context(), p), "job")
	inner, step := trace.Start(ctx, "step", trace.Client)
	h := http.Header{}
	trace.Send(inner, h)
	trace.Note(inner, "note", trace.Client, time.Now().Add(-time.Second)).End(nil)
	step.End(fault.Wrap(fault.KEKRefused, errors.New("/secret/path"), "The key orders."))
	job.End(nil)
	all := kept.GetSpans()
	if len(all) != 3 || all[0].Name != "note" || all[0].Parent.SpanID() != all[1].SpanContext.SpanID() || all[1].Parent.SpanID() != all[2].SpanContext.SpanID() {
		t.Fatalf("spans %+v", all)
	}
	if took := all[0].EndTime.Sub(all[0].StartTime); took < time.Second {
		t.Errorf("the note took %v", took)
	}
	if a := all[1].Attributes; len(a) != 1 || a[0].Value.AsString() != string(fault.KEKRefused) || all[1].Status.Description != "" {
		t.Errorf("a refused step says %v, %v", a, all[1].Status)
	}
	for header, want := range map[string]bool{
		h.Get("Traceparent"): true,
		"":                   false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00": false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		strings.Repeat("0", 1<<16):                                false,
	} {
		ctx, traced := trace.Received(t.Context(), http.Header{"Traceparent": {header}, "Tracestate": {"a=b"}, "Baggage": {"c=d"}})
		if traced != want {
			t.Errorf("%.60q is traced: %v", header, traced)
		}
		sent := http.Header{}
		if trace.Send(ctx, sent); want && (sent.Get("Traceparent") != header || len(sent) != 1) {
			t.Errorf("sent on %v", sent)
		}
	}
}
