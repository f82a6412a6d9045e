package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/time/rate"
)

// Who asks for traces says where they go; what could not be meant is refused.
func TestTracing(t *testing.T) {
	const here = "http://127.0.0.1:4318"
	for name, c := range map[string]struct {
		flag string
		env  string // NAME=value after OTEL_, separated by spaces
		on   bool
		want string // in the error
	}{
		"nobody":                  {},
		"the flag":                {flag: here + "/v1/traces", on: true},
		"the variable":            {env: "EXPORTER_OTLP_ENDPOINT=" + here, on: true},
		"the variable for traces": {env: "EXPORTER_OTLP_TRACES_ENDPOINT=" + here, on: true},
		"switched off":            {env: "EXPORTER_OTLP_ENDPOINT=" + here + " SDK_DISABLED=true"},
		"traces switched off":     {env: "EXPORTER_OTLP_ENDPOINT=" + here + " TRACES_EXPORTER=none"},
		"gRPC":                    {flag: here, env: "EXPORTER_OTLP_PROTOCOL=grpc", want: "http/protobuf"},
		"in the clear":            {flag: "http://collector.example.com:4318/v1/traces", want: "https"},
		"a broken header":         {flag: here, env: "EXPORTER_OTLP_HEADERS=a=%zz", want: "encoded"},
		"no such authority":       {flag: here, env: "EXPORTER_OTLP_CERTIFICATE=/nowhere", want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			for pair := range strings.FieldsSeq(c.env) {
				k, v, _ := strings.Cut(pair, "=")
				t.Setenv("OTEL_"+k, v)
			}
			got, err := Config{Traces: c.flag}.tracing()
			if (got != nil) != c.on || c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, %v", got, err)
			}
			got.stop(t.Context())
		})
	}
}

// A request's span tells how it went, in words of ours alone, and a caller cannot have
// traced what is not to be but within bounds.
func TestTracedRequests(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	sampler := sdktrace.ParentBased(sdktrace.AlwaysSample())
	tr := &tracing{provider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept), sdktrace.WithSampler(sampler)), callers: rate.NewLimiter(0, 1)}
	ask := func(method, traceparent string, h http.HandlerFunc) map[string]string {
		kept.Reset()
		r := httptest.NewRequest(method, "https://secret.vault.localhost/secret", nil)
		r.Header.Set("traceparent", traceparent)
		func() {
			defer func() { recover() }()
			tr.handler("vault", h).ServeHTTP(httptest.NewRecorder(), r)
		}()
		all := kept.GetSpans()
		if len(all) == 0 {
			return nil
		}
		said := map[string]string{"name": all[0].Name, "parent": all[0].Parent.SpanID().String(), "status": all[0].Status.Code.String()}
		for _, a := range all[0].Attributes {
			said[string(a.Key)] = a.Value.String()
		}
		return said
	}
	status := func(n int) http.HandlerFunc { return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) } }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{name}", status(200))
	for name, c := range map[string]struct {
		method string
		h      http.HandlerFunc
		want   map[string]string
	}{
		"silence":       {"GET", func(http.ResponseWriter, *http.Request) {}, map[string]string{"name": "GET vault", "http.response.status_code": "200", "status": "Unset"}},
		"a route":       {"GET", mux.ServeHTTP, map[string]string{"name": "GET /{name}", "http.route": "/{name}"}},
		"a refusal":     {"POST", status(403), map[string]string{"name": "POST vault", "http.response.status_code": "403", "status": "Unset", "error.type": ""}},
		"a failure":     {"PUT", status(503), map[string]string{"http.response.status_code": "503", "status": "Error", "error.type": "503"}},
		"anybody's own": {"SECRET", status(405), map[string]string{"name": "_OTHER vault", "http.request.method": "_OTHER"}},
		"an abort": {"GET", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a")); panic(http.ErrAbortHandler) },
			map[string]string{"http.response.status_code": "200", "status": "Error", "error.type": "aborted"}},
	} {
		said := ask(c.method, "", c.h)
		for k, want := range c.want {
			if said[k] != want {
				t.Errorf("%s: %s is %q, want %q", name, k, said[k], want)
			}
		}
	}

	sampler = sdktrace.ParentBased(sdktrace.NeverSample())
	tr.provider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept), sdktrace.WithSampler(sampler))
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if said := ask("GET", parent, status(200)); said["parent"] != "b7ad6b7169203331" {
		t.Errorf("a caller's trace goes on as %v", said)
	}
	if said := ask("GET", parent, status(200)); said != nil {
		t.Errorf("beyond the bound a caller has it traced: %v", said)
	}
}
