package lake_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

func TestParsePath(t *testing.T) {
	for _, tc := range []struct {
		escaped string
		want    []string // container and segments; nil if refused
	}{
		{"/ws", []string{"ws"}},
		{"ws", []string{"ws"}},
		{"/ws/", []string{"ws"}},
		{"/ws//", []string{"ws"}}, // Hadoop's first request
		{"/my%20ws/lh.Lakehouse", []string{"my ws", "lh.Lakehouse"}},
		{"/ws/lh.Lakehouse/Files/a%20b/", []string{"ws", "lh.Lakehouse", "Files", "a b"}},
		{"/ws/lh.Lakehouse%2FFiles%2Fa", []string{"ws", "lh.Lakehouse", "Files", "a"}}, // azblob escapes slashes
		{"/ws/a%252Fb", []string{"ws", "a%2Fb"}},
		{"/ws/a+b/%C3%A9/%25", []string{"ws", "a+b", "é", "%"}},
		{"/ws/...", []string{"ws", "..."}},
		{"/ws/a.", []string{"ws", "a."}},
		{"", nil},
		{"/", nil},
		{"//ws", nil},
		{"/%2Fws", nil},
		{"/ws%2Fx/y", nil},
		{"/../x", nil},
		{"/ws/../x", nil},
		{"/ws/%2e%2e/x", nil},
		{"/ws/a/./b", nil},
		{"/ws/a//b", nil},
		{"/ws/a%00b", nil},
		{"/ws/a%0Ab", nil},
		{"/ws/%ff", nil},
		{"/ws/%zz", nil},
		{"/ws/%", nil},
		{"/ws/" + strings.Repeat("a", 1025), nil},
		{"/ws" + strings.Repeat("/a", 64), nil},
	} {
		p, err := lake.ParsePath(tc.escaped)
		if tc.want == nil {
			if fault.ReasonOf(err) != fault.InvalidPath {
				t.Errorf("%q: %v, %v", tc.escaped, p, err)
			}
			continue
		}
		if got := append([]string{p.Container}, p.Segments...); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, %v; want %q", tc.escaped, got, err, tc.want)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/ws/lh.Lakehouse/Files/a", "/ws/a%2Fb", "/ws/%2e%2e/x", "/%ff", "/ws//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		p, err := lake.ParsePath(escaped)
		if err != nil {
			if fault.ReasonOf(err) != fault.InvalidPath {
				t.Errorf("%q: %v", escaped, err)
			}
			return
		}
		again := "/" + url.PathEscape(p.Container)
		for _, s := range append([]string{p.Container}, p.Segments...) {
			if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00\n") || !utf8.ValidString(s) {
				t.Errorf("%q: segment %q", escaped, s)
			}
		}
		for _, s := range p.Segments {
			again += "/" + url.PathEscape(s)
		}
		q, err := lake.ParsePath(again)
		if err != nil || q.Container != p.Container || !slices.Equal(q.Segments, p.Segments) {
			t.Errorf("%q is %q, which is %q, %v", escaped, again, q, err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte{2, 1, 1, 3, 1, 5})
	f.Add([]byte{14, 3, 1, 'a', 'b', 16, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if ok, same := lake.CheckManifest(b); ok && !same {
			t.Errorf("%x does not come back as itself", b)
		}
	})
}

func TestCombineCRC64(t *testing.T) {
	// The check value of CRC-64/NVME: https://reveng.sourceforge.io/crc-catalogue/17plus.htm
	if got := lake.CRC64(0, []byte("123456789")); got != 0xae8b14860a799888 {
		t.Fatalf("CRC-64/NVME of the check string is %x", got)
	}
	body := random(200_000, 1)
	for _, cut := range []int{0, 1, 7, 16384, 100_001, 200_000} {
		a, b := lake.CRC64(0, body[:cut]), lake.CRC64(0, body[cut:])
		if got, want := lake.CombineCRC64(a, b, int64(len(body)-cut)), lake.CRC64(0, body); got != want {
			t.Errorf("cut at %d: %x, want %x", cut, got, want)
		}
	}
}
