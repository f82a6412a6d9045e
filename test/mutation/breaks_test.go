package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// Every break applies to the source as it is, and leaves Go behind; every test that has to
// notice one is there.
func TestBreaksAreUpToDate(t *testing.T) {
	for _, b := range breaks {
		texts, err := b.edited(root)
		if err != nil {
			t.Errorf("%s, %s: %v", b.Threat, b.Does, err)
			continue
		}
		for name, text := range texts {
			if _, err := parser.ParseFile(token.NewFileSet(), name, text, 0); err != nil {
				t.Errorf("%s, %s: %v", b.Threat, b.Does, err)
			}
		}
		name, _, _ := strings.Cut(b.Test, "/")
		if !hasTest(t, filepath.Join(root, b.Package), name) {
			t.Errorf("%s, %s: %s has no %s", b.Threat, b.Does, b.Package, name)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?m)^func (` + name + `)\(`).Match(text) {
			return true
		}
	}
	return false
}

// Every threat has a break, every break a threat, and the page says so.
func TestThreats(t *testing.T) {
	known := map[string]bool{}
	for i, threat := range threats {
		known[threat.ID] = true
		if want := fmt.Sprintf("T%d", i+1); threat.ID != want || len(threats) != 26 {
			t.Errorf("%s stands where %s should", threat.ID, want)
		}
		if !slices.ContainsFunc(breaks, func(b Break) bool { return b.Threat == threat.ID }) {
			t.Errorf("%s has no break", threat.ID)
		}
	}
	for _, b := range breaks {
		if !known[b.Threat] {
			t.Errorf("%s is no threat", b.Threat)
		}
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/threats.md"))
	if err != nil || string(page) != document() {
		t.Errorf("docs/threats.md is not current: go run ./test/mutation -doc > docs/threats.md: %v", err)
	}
}
