package dfs_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

func TestParseSource(t *testing.T) {
	for _, tt := range []struct {
		header, to string
		want       string // container, then the path
	}{
		{"/ws/i.L/Files/a", "ws", "ws|i.L/Files/a"},
		{"ws/i.L/Files/a", "ws", "ws|i.L/Files/a"},
		{"/onelake/ws/i.L/Files/a", "ws", "ws|i.L/Files/a"},
		{"/OneLake/WS/i.L/Files/a", "ws", "WS|i.L/Files/a"},
		{"/onelake/ws/i.L/Files/a", "2f0c", "ws|i.L/Files/a"}, // addressed by name here, by id there
		{"/onelake/i.L/Files/a", "onelake", "onelake|i.L/Files/a"},
		{"/onelake/onelake/i.L/Files/a", "onelake", "onelake|i.L/Files/a"},
		{"/ws/i.L/Files/a%20b%2Fc+d", "ws", "ws|i.L/Files/a b/c+d"},
		{"/ws/i.L/Files/ä b", "ws", "ws|i.L/Files/ä b"}, // the Go SDK escapes nothing
		{"/ws/i.L/Files/a?sv=2020&sig=x", "ws", "ws|i.L/Files/a"},
		{"/ws", "ws", ""},
		{"/onelake/ws", "ws", "onelake|ws"},
		{"", "ws", ""},
		{"/ws/i.L/../a", "ws", ""},
		{"/ws/a%", "ws", ""},
	} {
		got, err := dfs.ParseSource(tt.header, "onelake", lake.Path{Container: tt.to})
		s := got.Container + "|" + strings.Join(got.Segments, "/")
		if tt.want == "" {
			if fault.ReasonOf(err) != fault.InvalidArgument {
				t.Errorf("%q: %s, %v", tt.header, s, err)
			}
			continue
		}
		if err != nil || s != tt.want {
			t.Errorf("%q to %s: %s, %v, want %s", tt.header, tt.to, s, err, tt.want)
		}
	}
}

// A source that is taken is one that the one path parser takes, with or without the
// account before it.
func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"/ws/a", "/onelake/ws/a%20b", "onelake/onelake/a", "/ws/%2e%2e/a", "/ws/a?b", "//ws/a"} {
		f.Add(s, "ws")
	}
	f.Fuzz(func(t *testing.T, header, to string) {
		got, err := dfs.ParseSource(header, "onelake", lake.Path{Container: to})
		if err != nil {
			if fault.ReasonOf(err) != fault.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		escaped, _, _ := strings.Cut(header, "?")
		escaped = strings.TrimPrefix(escaped, "/")
		whole, _ := lake.ParsePath("/" + escaped)
		if cmp.Equal(got, whole) {
			return
		}
		account, rest, _ := strings.Cut(escaped, "/")
		inner, err := lake.ParsePath("/" + strings.TrimPrefix(rest, "/"))
		if err != nil || !cmp.Equal(got, inner) {
			t.Fatalf("%q behind %q is taken for %+v", header, account, got)
		}
	})
}

func TestParseProperties(t *testing.T) {
	got, err := dfs.ParseProperties("a=MQ==, b=,C=w6Q=")
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "", "C": "ä"}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"a", "a=1", "=MQ==", "a=MQ==,a=MQ==", "a-b=MQ==", "a=Cg==", "a=MQ==,,", "a=/w=="} {
		if got, err := dfs.ParseProperties(bad); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func FuzzParseProperties(f *testing.F) {
	f.Add("a=MQ==,b=")
	f.Add("a==,=")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := dfs.ParseProperties(s)
		if err != nil {
			return
		}
		again, err := dfs.ParseProperties(dfs.FormatProperties(lake.Properties{Kind: lake.File, Metadata: m}))
		if err != nil || !maps.Equal(m, again) {
			t.Fatalf("%q became %q, %v", m, again, err)
		}
	})
}
