package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A list of extents, which anybody may have written, is one line by line or none: what is
// read of it names nothing outside a store, and no length below zero.
func FuzzReadExtents(f *testing.F) {
	id := strings.Repeat("0f", 16)
	for _, seed := range []string{"", id + " 12\n", id + " 12", id + " -1\n", id + "  1\n", "../../etc/passwd 1\n", id + " 1 2\n", strings.ToUpper(id) + " 1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := readExtents(strings.NewReader(text))
		if err != nil {
			return
		}
		var again strings.Builder
		for _, e := range all {
			if len(e.id) != 32 || e.size < 0 || strings.ContainsAny(string(e.id), "/.\\") {
				t.Fatalf("%q gives %+v", text, e)
			}
			fmt.Fprintf(&again, "%s %d\n", e.id, e.size)
		}
		if back, err := readExtents(strings.NewReader(again.String())); err != nil || len(back) != len(all) {
			t.Fatalf("%q does not read back: %v", again.String(), err)
		}
	})
}

// A point in time is the newest backup that is not after it.
func TestPointAt(t *testing.T) {
	dir := t.TempDir()
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	write := func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for i := range 3 {
		paths = append(paths, newPoint(dir, noon.Add(time.Duration(i)*time.Hour)))
		write(t, paths[i])
	}
	write(t, filepath.Join(dir, "other.kluis.tar"))
	write(t, filepath.Join(dir, "2026-07-01.txt"))
	for name, c := range map[string]struct {
		from string
		at   time.Time
		want string
	}{
		"the newest":       {dir, time.Time{}, paths[2]},
		"at its time":      {dir, noon, paths[0]},
		"between":          {dir, noon.Add(119 * time.Minute), paths[1]},
		"later than all":   {dir, noon.AddDate(1, 0, 0), paths[2]},
		"before all":       {dir, noon.Add(-time.Millisecond), ""},
		"a file":           {paths[0], time.Time{}, paths[0]},
		"a file at a time": {paths[0], noon, ""},
		"an empty folder":  {t.TempDir(), time.Time{}, ""},
		"nothing":          {filepath.Join(dir, "none"), time.Time{}, ""},
	} {
		got, err := pointAt(c.from, c.at)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
		}
	}
}
