package lake_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

func TestParseMode(t *testing.T) {
	for text, want := range map[string]string{
		"0777": "rwxrwxrwx", "750": "rwxr-x---", "1777": "rwxrwxrwt", "1776": "rwxrwxrwT", "rwxr-x--t": "rwxr-x--t", "rw-r-----+": "rw-r-----",
	} {
		m, err := lake.ParseMode(text)
		if err != nil || m.String() != want {
			t.Errorf("%q: %v, %v, want %s", text, m, err, want)
		}
	}
	for _, bad := range []string{"", "8", "0888", "77777", "2777", "rwx", "rwxrwxrwz", "xwrxwrxwr", "-777", "+77"} {
		if m, err := lake.ParseMode(bad); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%q: %v, %v", bad, m, err)
		}
	}
}

// What a list says stands when it is written and read again, whatever the order.
func TestACLRoundTrip(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) string {
		who := rapid.SampledFrom([]string{"user::", "group::", "mask::", "other::", "user:a:", "user:b:", "group:a:"}).Draw(t, "who")
		part := rapid.SampledFrom([]string{"", "default:"}).Draw(t, "part")
		return part + who + rapid.StringMatching(`[r-][w-][x-]`).Draw(t, "may")
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfNDistinct(entry, 1, 14, func(e string) string { return e[:len(e)-3] }).Draw(t, "entries"), ",")
		l, err := lake.ParseACL(text, false)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := lake.ParseACL(l.String(), false)
		if d := cmp.Diff(l, again); err != nil || d != "" {
			t.Errorf("%q: %v\n%s", text, err, d)
		}
		if a, b := len(strings.Split(text, ",")), len(l); a != b {
			t.Errorf("%d entries of %d", b, a)
		}
	})
}

// FuzzACL feeds texts to the parser: what it takes, it writes, and takes again.
func FuzzACL(f *testing.F) {
	for _, s := range []string{
		"user::rwx,group::r-x,other::rwx", "default:user:id:rwx", "mask::r--", "user:a", "", ",", "user::rwx,user::r--", "default:default:user::rwx", "user:\x00:rwx",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, bare bool) {
		l, err := lake.ParseACL(s, bare)
		if err != nil {
			return
		}
		again, err := lake.ParseACL(l.String(), false)
		if d := cmp.Diff(l, again); err != nil || d != "" {
			t.Errorf("%q: %v\n%s", s, err, d)
		}
	})
}

// FuzzMode does the same with permissions.
func FuzzMode(f *testing.F) {
	for _, s := range []string{"0777", "rwxr-x--T", "rw-r-----+", "--", "01777"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := lake.ParseMode(s)
		if err != nil {
			return
		}
		if again, err := lake.ParseMode(m.String()); err != nil || again != m {
			t.Errorf("%q: %v, then %v, %v", s, m, again, err)
		}
	})
}
