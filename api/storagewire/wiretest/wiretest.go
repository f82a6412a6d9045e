// Package wiretest is what the tests of both storage adapters need: requests to a
// handler, and the rules that every table of faults keeps.
package wiretest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Config is that of an endpoint for workspaces.
var Config = storagewire.Config{Account: "onelake", AuthorizationURI: "https://login.test/t/oauth2/authorize"}

// Tokens accepts the token "good".
type Tokens struct{}

// Verify implements api.Tokens.
func (Tokens) Verify(_ context.Context, token string, _ ...string) (identity.Caller, error) {
	if token != "good" {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token has expired.")
	}
	return identity.Caller{Principal: "p"}, nil
}

// Ask sends one request with a good token; headers come as "Name: value".
func Ask(h http.Handler, method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "https://onelake.blob.test"+target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer good")
	for _, header := range headers {
		name, v, _ := strings.Cut(header, ": ")
		r.Header.Set(name, v)
	}
	if r.Header.Get("Transfer-Encoding") == "chunked" {
		r.ContentLength = -1
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// Text returns an answer's body.
func Text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Faults checks that every reason has its row, and looks as a storage client expects:
// for HEAD in the headers alone. failing returns a handler on which all fails with the
// error, and shown reads the body of one.
func Faults(t *testing.T, table storagewire.Table, path string, failing func(error) http.Handler, shown func(body string) (code, message string)) {
	t.Helper()
	for _, reason := range fault.Reasons() {
		row, ok := table[reason]
		if !ok || row.Code == "" || row.Message == "" || http.StatusText(row.Status) == "" || row.Status < 300 {
			t.Errorf("%s: no row, or not a whole one: %+v", reason, row)
		}
		if reason.RefusedByVault() && (row.Status != 403 || !strings.HasPrefix(row.Code, "KeyVault")) {
			t.Errorf("%s is the vault's no, and looks like %+v", reason, row)
		}
		if (row.Status == 503) != (row.RetryAfter > 0) {
			t.Errorf("%s: Retry-After goes with 503: %+v", reason, row)
		}
		h := failing(fault.Wrap(reason, io.ErrUnexpectedEOF, ""))
		resp := Ask(h, "HEAD", path, "")
		if b := Text(t, resp); b != "" || resp.StatusCode != row.Status || resp.Header.Get("x-ms-error-code") != row.Code {
			t.Errorf("HEAD, %s: %d %v %q", reason, resp.StatusCode, resp.Header, b)
		}
		resp = Ask(h, "GET", path, "")
		b := Text(t, resp)
		if resp.StatusCode != row.Status || resp.Header.Get("x-ms-error-code") != row.Code {
			t.Errorf("GET, %s: %d %v %q", reason, resp.StatusCode, resp.Header, b)
		}
		if strings.Contains(b, io.ErrUnexpectedEOF.Error()) {
			t.Errorf("%s tells the cause: %s", reason, b)
		}
		if row.Status == http.StatusNotModified {
			continue
		}
		if code, message := shown(b); code != row.Code || !strings.HasPrefix(message, row.Message+"\nRequestId:") {
			t.Errorf("%s: %q and %q in %s", reason, code, message, b)
		}
	}
	if len(table) != len(fault.Reasons()) {
		t.Error("the table has rows for reasons that are none")
	}
}
