package export

import (
	"context"
	"errors"
	"log/slog"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/otlp"
)

// OTLP is a sink that posts entries as log records to an OpenTelemetry collector. A
// record's body is the entry in the sink's format; its attributes are what one filters
// by, under the semantic conventions' names where there are any. A refusal is a
// warning and a failure an error.
//
// An answer that is not 200 makes the entries come again. Records that a collector
// says it rejects for good do not: the log tells how many, and the sequence numbers
// which.
type OTLP struct {
	Logs   *otlp.Client
	Format Format
}

// Write implements [Sink].
func (s *OTLP) Write(ctx context.Context, entries []audit.Numbered) error {
	records := make([]otlp.Record, len(entries))
	for i, e := range entries {
		body, err := s.Format(e)
		if err != nil {
			return err
		}
		records[i] = otlp.Record{Time: e.Time, Severity: otlp.Info, Event: "kluis.audit." + e.Operation, Body: string(body), Attributes: attributes(e)}
		switch e.Outcome {
		case audit.Denied:
			records[i].Severity = otlp.Warn
		case audit.Failed:
			records[i].Severity = otlp.Error
		}
	}
	err := s.Logs.Export(ctx, records)
	var rejected *otlp.Rejected
	if errors.As(err, &rejected) {
		slog.ErrorContext(ctx, "the collector has not taken all audit entries, and will not", "from", entries[0].Sequence,
			"to", entries[len(entries)-1].Sequence, "error", err)
		return nil
	}
	return err
}

func attributes(e audit.Numbered) []otlp.Attribute {
	all := []otlp.Attribute{{Key: "kluis.audit.sequence", Number: &e.Sequence}}
	for _, a := range []otlp.Attribute{
		{Key: "kluis.audit.outcome", Text: string(e.Outcome)}, {Key: "error.type", Text: string(e.Reason)},
		{Key: "kluis.audit.tenant", Text: e.Tenant}, {Key: "user.id", Text: e.Principal}, {Key: "kluis.audit.application", Text: e.Application},
		{Key: "kluis.audit.resource", Text: e.Resource}, {Key: "kluis.audit.request", Text: e.Request}, {Key: "client.address", Text: e.Address},
	} {
		if a.Text != "" {
			all = append(all, a)
		}
	}
	return all
}

// Close implements [Sink].
func (s *OTLP) Close() error {
	s.Logs.Close()
	return nil
}
