package export_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/internal/otlp"
)

// What a collector gets is what OpenTelemetry's own schema says, to the last field: the
// receiver here reads it with the published protobuf types, and takes nothing unknown.
func TestOTLP(t *testing.T) {
	var got []*logs.LogRecord
	status, answer := http.StatusOK, "{}"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in collector.ExportLogsServiceRequest
		if err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		if err := (protojson.UnmarshalOptions{}).Unmarshal(body, &in); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		if status == http.StatusOK {
			for _, l := range in.ResourceLogs {
				if len(l.Resource.Attributes) != 1 || l.Resource.Attributes[0].GetValue().GetStringValue() != "kluis" {
					t.Errorf("resource %v", l.Resource)
				}
				for _, s := range l.ScopeLogs {
					got = append(got, s.LogRecords...)
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer receiver.Close()
	client, err := otlp.New(otlp.Config{
		URL: receiver.URL + "/v1/logs", Token: "token", Resource: []otlp.Attribute{{Key: "service.name", Text: "kluis"}}, Scope: "audit",
	})
	check(t, err)
	sink := &export.OTLP{Logs: client, Format: export.JSON}
	defer sink.Close()
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	entries := []audit.Numbered{
		{Sequence: 0, Entry: audit.Entry{Time: at, Operation: "KeyUnwrap", Outcome: audit.Allowed, Principal: "p", Address: "192.0.2.1"}},
		{Sequence: 1 << 53, Entry: audit.Entry{Time: at, Operation: "KeyUnwrap", Outcome: audit.Denied, Reason: "Denied"}},
		{Sequence: 2, Entry: audit.Entry{Time: at, Operation: "KeyPurge", Outcome: audit.Failed, Reason: "PurgeProtected"}},
	}

	// Nothing is lost to a collector that is away, or refuses.
	for _, status = range []int{http.StatusServiceUnavailable, http.StatusBadRequest, http.StatusFound} {
		if err := sink.Write(t.Context(), entries); err == nil {
			t.Errorf("%d passed for success", status)
		}
	}
	status = http.StatusOK
	check(t, sink.Write(t.Context(), entries))
	if len(got) != len(entries) {
		t.Fatalf("%d records, want %d", len(got), len(entries))
	}
	for i, severity := range []logs.SeverityNumber{logs.SeverityNumber_SEVERITY_NUMBER_INFO, logs.SeverityNumber_SEVERITY_NUMBER_WARN, logs.SeverityNumber_SEVERITY_NUMBER_ERROR} {
		r, e := got[i], entries[i]
		var body audit.Numbered
		if err := json.Unmarshal([]byte(r.GetBody().GetStringValue()), &body); err != nil || body.Sequence != e.Sequence || body.Operation != e.Operation {
			t.Errorf("body %q: %v", r.GetBody().GetStringValue(), err)
		}
		if r.GetTimeUnixNano() != uint64(at.UnixNano()) || r.GetSeverityNumber() != severity || r.GetEventName() != "kluis.audit."+e.Operation ||
			r.GetAttributes()[0].GetValue().GetIntValue() != e.Sequence {
			t.Errorf("record %v", r)
		}
	}

	// What it rejects for good is told, and not sent for ever.
	answer = `{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}`
	check(t, sink.Write(t.Context(), entries))
	var rejected *otlp.Rejected
	if err := client.Export(t.Context(), []otlp.Record{{Time: at}}); !errors.As(err, &rejected) || rejected.Records != 2 {
		t.Errorf("%v", err)
	}
	answer = "<html>"
	if err := sink.Write(t.Context(), entries); err == nil {
		t.Error("a web page passed for a collector")
	}
	for _, bad := range []string{"http://collector.example.com/v1/logs", "https://", "ftp://localhost/", "https://u:p@localhost/v1/logs"} {
		if _, err := otlp.New(otlp.Config{URL: bad}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
