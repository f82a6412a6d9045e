package storagewire_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A recorder keeps the path that an adapter asks about.
type recorder struct {
	blob.Lake
	path *lake.Path
}

func (r recorder) Stat(_ context.Context, _ identity.Caller, p lake.Path, _ lake.Conditions) (lake.Properties, error) {
	*r.path = p
	return lake.Properties{Kind: lake.File, ETag: `"1"`}, nil
}

func (r recorder) Container(context.Context, identity.Caller, lake.Path, lake.Conditions) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{}, nil
}

// dfsRecorder is the same for DFS.
type dfsRecorder struct {
	dfs.Lake
	recorder recorder
}

func (d dfsRecorder) Stat(ctx context.Context, c identity.Caller, p lake.Path, o lake.Conditions) (lake.Properties, error) {
	return d.recorder.Stat(ctx, c, p, o)
}

func (d dfsRecorder) Container(context.Context, identity.Caller, lake.Path, lake.Conditions) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{}, nil
}

func (d dfsRecorder) Rights(context.Context, identity.Caller, lake.Path) (lake.Rights, error) {
	return lake.Rights{}, nil
}

// Both dialects find the same file under the same escaped path, or neither does.
func FuzzSamePath(f *testing.F) {
	for _, s := range []string{
		"/ws/L.Lakehouse/Files/a", "/ws/L.Lakehouse/Files/a%2Fb", "/ws/L.Lakehouse/Files/a//b", "/ws/L.Lakehouse/Files/../b",
		"/ws/L.Lakehouse/Files/%2e%2e/b", "/ws/L.Lakehouse/Files/a%20b+c", "/ws/L.Lakehouse/Files/a/", "/ws/%zz", "/w%2Fs/a",
		"/ws/L.Lakehouse/Files/%ff", "/ws/L.Lakehouse/Files/a%00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.RawQuery != "" || u.Host != "" {
			return
		}
		ask := func(h http.Handler) int {
			r := httptest.NewRequest("HEAD", "/", nil)
			r.URL = u
			r.Header.Set("Authorization", "Bearer good")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for _, account := range []string{"onelake", "acct1"} {
			var one, two lake.Path
			c := storagewire.Config{Account: account}
			a := ask(blob.New(recorder{path: &one}, tokens{}, c))
			b := ask(dfs.New(dfsRecorder{recorder: recorder{path: &two}}, tokens{}, c))
			if len(one.Segments) == 0 && len(two.Segments) == 0 {
				continue // refused, or not below a container
			}
			if a != b || !cmp.Equal(one, two) || one.Account != c.Storage() {
				t.Fatalf("%s, %q: Blob finds %d %+v, DFS %d %+v", account, target, a, one, b, two)
			}
		}
	})
}

func (r recorder) List(_ context.Context, _ identity.Caller, p lake.Path, o lake.ListOptions) (lake.Listing, error) {
	p.Segments = append(p.Segments, strings.FieldsFunc(o.Prefix, func(r rune) bool { return r == '/' })...)
	*r.path = p
	return lake.Listing{}, nil
}

func (d dfsRecorder) List(ctx context.Context, c identity.Caller, p lake.Path, o lake.ListOptions) (lake.Listing, error) {
	return d.recorder.List(ctx, c, p, o)
}

// FuzzSameFolder does the same for the folder of a listing: a prefix that ends with a
// slash in Blob, a parameter in DFS.
func FuzzSameFolder(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a b+c", "ä", "a%20b", "..", "a//b", "/a", "a/", "", "a?b#c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, folder string) {
		folder = strings.Trim(folder, "/")
		ask := func(h http.Handler, query string) int {
			r := httptest.NewRequest("GET", "/box?"+query, nil)
			r.Header.Set("Authorization", "Bearer good")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		var one, two lake.Path
		c := storagewire.Config{Account: "acct1"}
		a := ask(blob.New(recorder{path: &one}, tokens{}, c), "restype=container&comp=list&prefix="+url.QueryEscape(folder+"/"))
		b := ask(dfs.New(dfsRecorder{recorder: recorder{path: &two}}, tokens{}, c), "resource=filesystem&recursive=true&directory="+url.QueryEscape(folder))
		if b != http.StatusOK { // a prefix need be no path
			return
		}
		if a != b || !cmp.Equal(one, two) {
			t.Fatalf("%q: Blob lists %d %+v, DFS %d %+v", folder, a, one, b, two)
		}
	})
}
