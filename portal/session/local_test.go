package session_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal/session"
)

// FuzzLocal: wherever somebody asks to be sent after signing in, a browser stays on this
// host. Browsers take tabs and line breaks out of an address, control characters and spaces
// off its ends, and a backslash for a slash (WHATWG URL §4.4).
func FuzzLocal(f *testing.F) {
	for _, seed := range []string{"/", "/a?b=c#d", "", "//evil.example", "/\\evil.example", "/\t/evil.example", "\t//evil.example", "/\n/evil.example", "https://evil.example", " /a", "/a//b", "/\x00/evil.example", "/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, asked string) {
		w := httptest.NewRecorder()
		http.Redirect(w, httptest.NewRequest(http.MethodGet, "https://portal.example/signin", nil), session.Local(asked), http.StatusSeeOther)
		goes := w.Header().Get("Location")
		goes = strings.Trim(strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(goes), "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
		goes = strings.ReplaceAll(goes, `\`, "/")
		if !strings.HasPrefix(goes, "/") || strings.HasPrefix(goes, "//") {
			t.Errorf("%q leads to %q", asked, goes)
		}
		if u, err := url.Parse(goes); err == nil && (u.Host != "" || u.Scheme != "") {
			t.Errorf("%q leads to the host %q", asked, u.Host)
		}
	})
}
