package servertest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// A Fault is what becomes of a request.
type Fault int

// The faults.
const (
	None  Fault = iota
	Fails       // it is not done, and answered with 500
	Lost        // it is done, and its answer is lost
	Cut         // it is done, and the connection breaks off in the middle of the answer
)

// A Proxy stands before a server, counts its requests and makes them fail.
type Proxy struct {
	URL string

	mu     sync.Mutex
	decide func(r *http.Request, n int) Fault
	calls  []string
}

func newProxy(t *testing.T, port string) *Proxy {
	p := &Proxy{}
	forward := &httputil.ReverseProxy{
		// The host stays what the client signed.
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "127.0.0.1:"+port },
		ErrorLog: nil,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p.note(r) {
		case None:
			forward.ServeHTTP(w, r)
		case Fails:
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusInternalServerError)
		case Lost:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case Cut:
			answer := httptest.NewRecorder()
			forward.ServeHTTP(answer, r)
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(answer.Code)
			w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// Reset forgets what was counted, and lets decide say what becomes of each request from
// now on; n counts them from 1. A nil decide lets all pass.
func (p *Proxy) Reset(decide func(r *http.Request, n int) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decide, p.calls = decide, nil
}

// Calls returns the requests since the last Reset: method, and the query's names that
// tell what it is about.
func (p *Proxy) Calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// kinds are the parameters that tell a request's operation.
var kinds = []string{"uploads", "uploadId", "partNumber", "list-type", "comp"}

func (p *Proxy) note(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, r.Method+kind(r.URL.Query()))
	if p.decide == nil {
		return None
	}
	return p.decide(r, len(p.calls))
}

func kind(q url.Values) (out string) {
	for _, k := range kinds {
		if !q.Has(k) {
			continue
		}
		out += " " + k
		if k == "comp" {
			out += "=" + q.Get(k)
		}
	}
	return out
}
