package storagewire_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

func TestSource(t *testing.T) {
	config := storagewire.Config{Account: "onelake"}
	for _, tt := range []struct {
		name, at, source string
		headers          []string
		want             string // of the path, "" if it is refused
		reason           fault.Reason
	}{
		{name: "host-style", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/b%20c?sv=1", want: "i/b c"},
		{name: "the other dialect's host", at: "https://onelake.blob.x/ws/i/a", source: "https://OneLake.dfs.x/ws/i/b", want: "i/b"},
		{name: "path-style", at: "https://x:1/onelake/ws/i/a", source: "https://x:1/onelake/ws/i/b", want: "i/b"},
		{name: "another port", at: "https://x:1/onelake/ws/i/a", source: "https://x:2/onelake/ws/i/b", reason: fault.SourceNotFound},
		{name: "another account", at: "https://x:1/onelake/ws/i/a", source: "https://x:1/other/ws/i/b", reason: fault.SourceNotFound},
		{name: "an account of a longer name", at: "https://x:1/onelake/ws/i/a", source: "https://x:1/onelakeside/ws/i/b", reason: fault.SourceNotFound},
		{name: "elsewhere", at: "https://onelake.blob.x/ws/i/a", source: "https://169.254.169.254/ws/i/b", reason: fault.SourceNotFound},
		{name: "user info", at: "https://onelake.blob.x/ws/i/a", source: "https://u:p@onelake.blob.x/ws/i/b", reason: fault.InvalidArgument},
		{name: "no URL", at: "https://onelake.blob.x/ws/i/a", source: "/ws/i/b", reason: fault.InvalidArgument},
		{name: "file", at: "https://onelake.blob.x/ws/i/a", source: "file:///ws/i/b", reason: fault.InvalidArgument},
		{name: "dots", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/../i/b", reason: fault.InvalidPath},
		{name: "too long", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/" + strings.Repeat("a", 2048), reason: fault.InvalidArgument},
		{name: "suffix of a source", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/b", headers: []string{"x-ms-source-range", "bytes=-5"}, reason: fault.InvalidArgument},
		{name: "a bad token", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/b", headers: []string{"x-ms-copy-source-authorization", "Bearer bad"}, reason: fault.Denied},
		{name: "a signature", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/b?sig=x", reason: fault.Denied},
		{name: "a good token", at: "https://onelake.blob.x/ws/i/a", source: "https://onelake.blob.x/ws/i/b", headers: []string{"x-ms-copy-source-authorization", "Bearer good"}, want: "i/b"},
	} {
		var src lake.Source
		var shown string
		var err error
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { src, shown, err = config.Source(r, caller, tokens{}) })
		r := httptest.NewRequest("PUT", tt.at, nil)
		r.RequestURI = r.URL.RequestURI() // as a server has it
		r.Header.Set("x-ms-copy-source", tt.source)
		for i := 0; i < len(tt.headers); i += 2 {
			r.Header.Set(tt.headers[i], tt.headers[i+1])
		}
		if strings.HasPrefix(r.URL.Path, "/onelake") {
			http.StripPrefix("/onelake", h).ServeHTTP(httptest.NewRecorder(), r)
		} else {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		if fault.ReasonOf(err) != tt.reason || err == nil && (src.Path.String() != tt.want || src.Path.Container != "ws" || strings.Contains(shown, "?")) {
			t.Errorf("%s: %+v %q %v", tt.name, src.Path, shown, err)
		}
	}
}

// Whatever a source's URL says, it leads nowhere but into this server.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"https://onelake.blob.x/ws/i/b?sig=1", "https://onelake.dfs.x/ws/i/%2e%2e", "https://x@onelake.blob.x/", "//onelake.blob.x/ws/a", "https://onelake.blob.x:443/ws/a/b#c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		r := httptest.NewRequest("PUT", "https://onelake.blob.x/ws/i/a", nil)
		r.Header["X-Ms-Copy-Source"] = []string{source}
		src, shown, err := storagewire.Config{Account: "onelake"}.Source(r, caller, tokens{})
		if err != nil {
			return
		}
		if !strings.Contains(strings.ToLower(shown), "//onelake.") || strings.ContainsAny(shown, "?#@") || len(src.Path.Segments) == 0 {
			t.Fatalf("%q leads to %q, %v", source, shown, src.Path)
		}
		if _, err := lake.ParsePath("/" + src.Path.Container + "/x"); err != nil && !strings.Contains(src.Path.Container, "%") {
			t.Fatalf("%q is in %q", source, src.Path.Container)
		}
	})
}

// A lease's headers are read, or refused; what is read is within its bounds.
func FuzzParseLease(f *testing.F) {
	f.Add("acquire", "", "11111111-1111-4111-8111-111111111111", "15", "")
	f.Add("Break", "", "", "", "60")
	f.Add("change", "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "", "")
	f.Fuzz(func(t *testing.T, action, id, proposed, duration, period string) {
		h := http.Header{}
		for name, v := range map[string]string{
			"x-ms-lease-action": action, "x-ms-lease-id": id, "x-ms-proposed-lease-id": proposed, "x-ms-lease-duration": duration, "x-ms-lease-break-period": period,
		} {
			h.Set(name, v)
		}
		r, err := storagewire.ParseLease(h)
		if err != nil {
			if fault.ReasonOf(err) != fault.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if r.Length.Seconds() > 60 || r.Break != nil && r.Break.Seconds() > 60 || len(r.ID) != 0 && len(r.ID) != 36 || len(r.Proposed) != 0 && len(r.Proposed) != 36 {
			t.Fatalf("%+v", r)
		}
	})
}
