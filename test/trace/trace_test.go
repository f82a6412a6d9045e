// Package trace tests that one request can be followed through a whole server, across its
// parties: in traces, as a collector receives them, and in the audit logs.
package trace_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	traces "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// A receiver is an OTLP collector: it takes what OpenTelemetry's own schema can read.
type receiver struct {
	*testing.T
	URL string

	mu    sync.Mutex
	spans map[string]*traces.Span // by id
}

func receive(t *testing.T) *receiver {
	r := &receiver{T: t, spans: map[string]*traces.Span{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &in) != nil || req.URL.Path != "/v1/traces" ||
			req.Header.Get("Content-Type") != "application/x-protobuf" || req.Header.Get("Api-Key") != "a b" {
			t.Errorf("%s %s %v: %v", req.Method, req.URL, req.Header, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, of := range in.ResourceSpans {
			who := texts(of.Resource.Attributes)
			if who["service.name"] != "kluis" || who["service.version"] == "" || who["deployment.environment.name"] != "test" {
				t.Errorf("spans of %v", who)
			}
			for _, scope := range of.ScopeSpans {
				for _, span := range scope.Spans {
					r.spans[hex.EncodeToString(span.SpanId)] = span
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// texts returns what attributes say.
func texts(all []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range all {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			out[a.Key] = fmt.Sprint(v.IntValue)
		default:
			out[a.Key] = fmt.Sprintf("%T", v)
		}
	}
	return out
}

// find waits for a span.
func (r *receiver) find(what string, is func(*traces.Span) bool) *traces.Span {
	r.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r.mu.Lock()
		for _, s := range r.spans {
			if is(s) {
				r.mu.Unlock()
				return s
			}
		}
		r.mu.Unlock()
	}
	r.Fatalf("no span came: %s", what)
	return nil
}

func named(name string) func(*traces.Span) bool {
	return func(s *traces.Span) bool { return s.Name == name }
}

// below finds a span of a name in the trace of another.
func (r *receiver) below(s *traces.Span, name string) *traces.Span {
	r.Helper()
	return r.find(name+" in the trace of "+s.Name, func(c *traces.Span) bool { return c.Name == name && string(c.TraceId) == string(s.TraceId) })
}

// One read of a blob, for which the customer's vault has to be asked, is one trace, from
// the caller's own step to the vault's transaction, and one story in both parties' logs.
func TestOneRequest(t *testing.T) {
	r := receive(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": r.URL, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
		"OTEL_BSP_SCHEDULE_DELAY": "50", "KLUIS_LEASE": "1s",
	} {
		t.Setenv(name, value)
	}
	e := portaltest.Furnish(t)
	ctx := t.Context()
	const blob = "orders.Lakehouse/Files/ledger.csv"
	if _, err := e.Engineer.Blobs.UploadBuffer(ctx, "Sales", blob, make([]byte, 100_000), nil); err != nil {
		t.Fatal(err)
	}
	e.Assign()

	// The re-encryption was a job of its own.
	job := r.find("a job", named("bring item under key"))
	if len(job.ParentSpanId) != 0 || texts(job.Attributes)["kluis.request"] == "" {
		t.Errorf("a job's span is %v", job)
	}
	r.below(job, "write platform")
	if token := r.find("a token's request", named("get token")); len(token.ParentSpanId) == 0 || len(token.Attributes) != 0 {
		t.Errorf("the span of a token's request is %v", token)
	}

	// Until the workspace is idle, its lease may be renewed; then somebody reads.
	headers := http.Header{}
	const trace, step = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	headers.Set("Traceparent", "00-"+trace+"-"+step+"-01")
	headers.Set("Tracestate", "vendor=anything")
	read := func() *traces.Span {
		t.Helper()
		resp, err := e.Engineer.Blobs.DownloadStream(policy.WithHTTPHeader(ctx, headers), "Sales", blob, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		id := *resp.RequestID
		return r.find("the request "+id, func(s *traces.Span) bool { return texts(s.Attributes)["kluis.request"] == id })
	}
	var request, question *traces.Span
	for end := time.Now().Add(time.Minute); question == nil; {
		time.Sleep(2 * time.Second) // the lease is over
		request = read()
		r.mu.Lock()
		for _, s := range r.spans {
			if s.Name == "unwrapKey" && string(s.ParentSpanId) == string(request.SpanId) {
				question = s
			}
		}
		r.mu.Unlock()
		if question == nil && time.Now().After(end) {
			t.Fatal("no read has had to ask the vault")
		}
	}
	if hex.EncodeToString(request.TraceId) != trace || hex.EncodeToString(request.ParentSpanId) != step || request.TraceState != "" || request.Kind != traces.Span_SPAN_KIND_SERVER {
		t.Errorf("the request's span is %v", request)
	}
	said := texts(request.Attributes)
	if said["http.request.method"] != "GET" || said["http.response.status_code"] != "200" || said["kluis.service"] != "blob" {
		t.Errorf("the request's span says %v", said)
	}
	answer := r.find("the vault's own", func(s *traces.Span) bool { return string(s.ParentSpanId) == string(question.SpanId) })
	if answer.Name != "POST vault" || string(answer.TraceId) != string(request.TraceId) || question.Kind != traces.Span_SPAN_KIND_CLIENT {
		t.Errorf("%v is below %v", answer, question)
	}
	recorded := r.find("the vault's transaction", func(s *traces.Span) bool {
		return s.Name == "write vault" && string(s.ParentSpanId) == string(answer.SpanId)
	})
	if v := texts(recorded.Attributes); v["db.system.name"] == "" || v["db.namespace"] != "vault" {
		t.Errorf("a transaction's span says %v", v)
	}
	r.find("an object's read", func(s *traces.Span) bool {
		return s.Name == "read object" && string(s.ParentSpanId) == string(request.SpanId)
	})

	// A caller whose header is no trace is served, and begins one.
	headers.Set("Traceparent", "00-"+strings.Repeat("0", 32)+"-"+strings.Repeat("z", 5000)+"-01")
	if other := read(); len(other.ParentSpanId) != 0 || hex.EncodeToString(other.TraceId) == trace {
		t.Errorf("a bad header gave %v", other)
	}

	// The platform's log names the request, and the vault's has it as its client's.
	id := said["kluis.request"]
	logs := client.New(portaltest.Parties(e.Clients.Target), e.Clients.HTTP, portaltest.Tokens(e.Clients, "auditor"))
	story := map[string][]string{}
	for _, party := range []string{"platform", "vault"} {
		entries, err := logs.AuditEntries(ctx, party, url.Values{"request": {id}})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range entries {
			story[party] = append(story[party], one.Operation)
			if party == "platform" && one.Request != id || party == "vault" && (one.Correlation != id || one.Request == id) {
				t.Errorf("an entry of the %s: %+v", party, one)
			}
		}
	}
	if !slices.Contains(story["platform"], "UnwrapScopeShare") || !slices.Contains(story["vault"], "KeyUnwrap") {
		t.Errorf("the logs tell of the request %s: %v", id, story)
	}

	// And no span tells what is a tenant's: neither ids, nor names, nor paths.
	target := e.Clients.Target
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		for _, secret := range []string{"Sales", "orders", "ledger", "sales", target.TenantID, e.Workspace, target.Principals["engineer"].ObjectID, "default"} {
			if strings.Contains(s.String(), secret) {
				t.Errorf("a span tells %q: %v", secret, s)
			}
		}
	}
}
