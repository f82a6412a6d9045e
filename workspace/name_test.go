package workspace_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

func TestCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if rapid.Bool().Draw(t, "same") {
			b = strings.ToUpper(a)
		}
		if (workspace.Canonical(a) == workspace.Canonical(b)) != strings.EqualFold(a, b) {
			t.Fatalf("%q and %q: canonical %q and %q", a, b, workspace.Canonical(a), workspace.Canonical(b))
		}
	})
}

func TestItemTypes(t *testing.T) {
	if n := len(workspace.ItemTypes()); n != 51 {
		t.Errorf("%d item types, and 51 are published", n)
	}
	supported := 0
	for _, it := range workspace.ItemTypes() {
		if got, ok := workspace.ParseItemType(strings.ToUpper(string(it))); !ok || got != it {
			t.Errorf("%s in capitals reads %q", it, got)
		}
		if workspace.Supported(string(it)) {
			supported++
		}
	}
	if supported != 13 {
		t.Errorf("%d types are supported under a customer's key", supported)
	}
	if workspace.Supported("") || workspace.Supported("lakehouse") {
		t.Error("a type that is none is supported")
	}
}

func FuzzParseSegment(f *testing.F) {
	for _, s := range []string{"a.Lakehouse", "a.b.notebook", ".Lakehouse", "..Lakehouse", "00000000-0000-4000-8000-00000000000A", "x", "", "a/b.Notebook", "\xff.Notebook"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := workspace.ParseSegment(s)
		if err != nil {
			if fault.ReasonOf(err) != fault.ItemNotFound || g != (workspace.Segment{}) {
				t.Fatalf("%q: %v, %v", s, g, err)
			}
			return
		}
		if g.ID != "" {
			if !workspace.IsID(s) || !strings.EqualFold(string(g.ID), s) || g.Name != "" || g.Type != "" {
				t.Fatalf("%q reads as %+v", s, g)
			}
			return
		}
		if !strings.EqualFold(g.Name+"."+string(g.Type), s) || !utf8.ValidString(g.Name) || strings.ContainsAny(g.Name, "/\\\x00") {
			t.Fatalf("%q reads as %+v", s, g)
		}
	})
}
