// Command mutation shows of each threat's tests that they would notice if what stands
// against the threat were gone.
//
// Each break of the list takes one check out of the source, by an overlay that only the
// test's build sees, and has to make the named test fail: a test that passes all the same
// proves nothing, and its threat counts as open. The tests pass unbroken, which is seen
// first. Production code holds nothing for the purpose.
//
//	go run ./test/mutation [-threat T5] [-quick] [-list] [-doc]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	threat := flag.String("threat", "", "only the breaks of this threat")
	list := flag.Bool("list", false, "only list the breaks")
	doc := flag.Bool("doc", false, "only print docs/threats.md")
	quick := flag.Bool("quick", false, "only one break of each threat")
	flag.Parse()
	root, err := filepath.Abs(".")
	if err == nil {
		_, err = os.Stat(filepath.Join(root, "go.mod"))
	}
	if err != nil {
		fail("run it in the repository's root: %v", err)
	}
	if *doc {
		fmt.Print(document())
		return
	}
	var tried, noticed int
	seen := map[string]bool{}
	for _, b := range breaks {
		if *threat != "" && b.Threat != *threat || *quick && seen[b.Threat] {
			continue
		}
		seen[b.Threat] = true
		fmt.Printf("%-4s %s\n", b.Threat, b.Does)
		if *list {
			continue
		}
		tried++
		began := time.Now()
		if err := b.prove(root); err != nil {
			fmt.Printf("     NOT NOTICED by %s %s: %v\n", b.Package, b.Test, err)
			continue
		}
		noticed++
		fmt.Printf("     noticed by %s %s, %.0f s\n", b.Package, b.Test, time.Since(began).Seconds())
	}
	if *list {
		return
	}
	figures := "threats=%d breaks=%d"
	if *threat != "" { // of which there are more runs, to be added up
		figures = "threats-with-all-their-breaks=%d their-breaks=%d"
	}
	fmt.Printf("proof: "+figures+" breaks-that-no-test-noticed=%d\n", len(seen), tried, tried-noticed)
	if noticed < tried || tried == 0 {
		os.Exit(1)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "mutation: "+format+"\n", args...)
	os.Exit(1)
}

// A Break is a mistake that takes a mitigation away.
type Break struct {
	Threat  string
	Does    string // what is wrong then
	Edits   []Edit
	Package string // whose test notices
	Test    string // its name; it may name a subtest after a slash
}

// An Edit replaces a text that a file holds exactly once.
type Edit struct{ File, Old, New string }

// apply returns the file's text with the edit made to text, or why that is not possible.
func (e Edit) apply(text string) (string, error) {
	if n := strings.Count(text, e.Old); n != 1 {
		return "", fmt.Errorf("%s holds the text to be replaced %d times: bring the break up to date: %s", e.File, n, e.Old)
	}
	return strings.Replace(text, e.Old, e.New, 1), nil
}

// edited returns the broken files' texts by their names.
func (b Break) edited(root string) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range b.Edits {
		text, ok := texts[e.File]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		var err error
		if texts[e.File], err = e.apply(text); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// limit is how long one run of a test may take; who runs longer hangs.
const limit = 10 * time.Minute

// prove runs the test as things are, where it must pass, and broken, where it must not.
func (b Break) prove(root string) error {
	if out, err := b.test(root, ""); err != nil {
		return fmt.Errorf("it fails unbroken:\n%s", out)
	} else if !regexp.MustCompile(`(?m)^\s*--- PASS: `).MatchString(out) {
		return fmt.Errorf("it does not run:\n%s", out)
	}
	texts, err := b.edited(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kluis-mutation-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, text := range texts {
		at := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			return err
		}
		overlay.Replace[filepath.Join(root, name)] = at
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	at := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(at, raw, 0o600); err != nil {
		return err
	}
	found := filepath.Join(root, b.Package, "testdata", "rapid") // where rapid keeps what has failed
	_, kept := os.Stat(found)
	out, err := b.test(root, at)
	if kept != nil {
		os.RemoveAll(found)
		os.Remove(filepath.Dir(found)) // if nothing else is in it
	}
	switch {
	case err == nil:
		return fmt.Errorf("it passes")
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return fmt.Errorf("the broken source does not compile:\n%s", out)
	case !strings.Contains(out, "--- FAIL: ") && !strings.Contains(out, "panic: "):
		return fmt.Errorf("it fails in another way:\n%s", out)
	}
	return nil
}

// test runs the test over an overlay, or over the source as it is. The overlay is in the
// environment, so that what a test builds is broken too.
func (b Break) test(root, overlay string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	name, sub, _ := strings.Cut(b.Test, "/")
	pattern := "^" + name + "$"
	if sub != "" {
		pattern += "/" + sub
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-v", "-timeout", limit.String(), "-run", pattern)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CI=", "KLUIS_EFFORT=") // as a developer runs it
	if overlay != "" {
		cmd.Args = append(cmd.Args, "-count", "1") // the cache knows nothing of what a test builds
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.Args = append(cmd.Args, b.Package)
	out, err := cmd.CombinedOutput()
	if len(out) > 8<<10 {
		out = append(out[:4<<10:4<<10], out[len(out)-4<<10:]...)
	}
	return string(out), err
}
