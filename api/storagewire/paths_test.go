package storagewire_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
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

func (r recorder) Container(context.Context, identity.Caller, lake.Path) (lake.ContainerProperties, error) {
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

func (d dfsRecorder) Container(context.Context, identity.Caller, lake.Path) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{}, nil
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
		var one, two lake.Path
		a := ask(blob.New(recorder{path: &one}, tokens{}, storagewire.Config{}))
		b := ask(dfs.New(dfsRecorder{recorder: recorder{path: &two}}, tokens{}, storagewire.Config{}))
		if len(one.Segments) == 0 && len(two.Segments) == 0 {
			return // refused, or not below a container
		}
		if a != b || !cmp.Equal(one, two) {
			t.Fatalf("%q: Blob finds %d %+v, DFS %d %+v", target, a, one, b, two)
		}
	})
}
