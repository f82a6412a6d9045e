package otlp

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resources "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	traces "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Spans is a [trace.SpanExporter] that posts spans to a collector, all of one call in one
// request. Events, links and states of vendors, which kluis's spans have none of, are left
// out.
type Spans struct{ *Client }

var _ trace.SpanExporter = Spans{}

// ExportSpans implements [trace.SpanExporter].
func (s Spans) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	scopes := map[instrumentation.Scope]*traces.ScopeSpans{}
	of := &traces.ResourceSpans{Resource: &resources.Resource{Attributes: keyValues(spans[0].Resource().Attributes())}}
	for _, one := range spans {
		from := one.InstrumentationScope()
		to := scopes[from]
		if to == nil {
			to = &traces.ScopeSpans{Scope: &common.InstrumentationScope{Name: from.Name, Version: from.Version}}
			scopes[from] = to
			of.ScopeSpans = append(of.ScopeSpans, to)
		}
		to.Spans = append(to.Spans, span(one))
	}
	body, err := proto.Marshal(&collector.ExportTraceServiceRequest{ResourceSpans: []*traces.ResourceSpans{of}})
	if err != nil {
		return err
	}
	text, err := s.post(ctx, "application/x-protobuf", body)
	if err != nil {
		return err
	}
	var answer collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("the collector's answer is not OTLP: %w", err)
	}
	if n := answer.GetPartialSuccess().GetRejectedSpans(); n > 0 {
		return fmt.Errorf("the collector rejected %d spans: %.200q", n, answer.GetPartialSuccess().GetErrorMessage())
	}
	return nil
}

// Shutdown implements [trace.SpanExporter].
func (s Spans) Shutdown(context.Context) error {
	s.Close()
	return nil
}

func span(s trace.ReadOnlySpan) *traces.Span {
	c, parent := s.SpanContext(), s.Parent()
	traceID, spanID := c.TraceID(), c.SpanID()
	out := &traces.Span{
		TraceId: traceID[:], SpanId: spanID[:], Name: s.Name(), Kind: traces.Span_SpanKind(s.SpanKind()),
		StartTimeUnixNano: uint64(s.StartTime().UnixNano()), EndTimeUnixNano: uint64(s.EndTime().UnixNano()),
		Attributes: keyValues(s.Attributes()), DroppedAttributesCount: uint32(s.DroppedAttributes()),
		Flags: uint32(c.TraceFlags()) | uint32(traces.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK),
	}
	if id := parent.SpanID(); id.IsValid() {
		out.ParentSpanId = id[:]
	}
	if parent.IsRemote() {
		out.Flags |= uint32(traces.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	if s.Status().Code == codes.Error {
		out.Status = &traces.Status{Code: traces.Status_STATUS_CODE_ERROR}
	}
	return out
}

func keyValues(all []attribute.KeyValue) []*common.KeyValue {
	out := make([]*common.KeyValue, len(all))
	for i, a := range all {
		v := &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: a.Value.String()}}
		switch a.Value.Type() {
		case attribute.INT64:
			v.Value = &common.AnyValue_IntValue{IntValue: a.Value.AsInt64()}
		case attribute.BOOL:
			v.Value = &common.AnyValue_BoolValue{BoolValue: a.Value.AsBool()}
		}
		out[i] = &common.KeyValue{Key: string(a.Key), Value: v}
	}
	return out
}
