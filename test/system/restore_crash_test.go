package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/store/enginetest"
)

var databaseThere = regexp.MustCompile(`(\S+/kluis\.db) is there: move it away first`)

// TestRestoreCrash kills a restore before it puts each of the databases in its place, and,
// with full effort, at everything else that it passes. The same backup is restored once
// more, after what the refusal says to move away is moved, and the server serves all that
// was there.
func TestRestoreCrash(t *testing.T) {
	ctx := t.Context()
	s, p := underKey(ctx, t)
	p.stop(t)
	backups := t.TempDir()
	command := func(data, arm string, args ...string) (string, error) {
		cmd := kluis(t, data, args...)
		cmd.Env = append(cmd.Env, arm)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	databases, err := enginetest.Parties(s.data)
	must(t, err)
	if out, err := command(s.data, strings.Join(databases, ""), "backup", "--data", s.data, "--into", backups); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	restore := func(data, arm string) (string, error) {
		return command(data, arm, "restore", "--data", data, "--from", backups, "--why", "a test")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	if out, err := restore(filepath.Join(t.TempDir(), "data"), "KLUIS_FAILPOINTS_TRACE="+trace); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}

	const point = "kluis/restore/before-database"
	arms := []string{point + "=once"}
	for n := range 4 { // parties
		arms = append(arms, fmt.Sprintf("%s=exit:%d", point, n+1))
	}
	if effort.Of(0, 0, 1) > 0 {
		text, err := os.ReadFile(trace)
		must(t, err)
		for other := range strings.FieldsSeq(string(text)) {
			arms = append(arms, other+"=exit", other+"=once")
		}
	}
	for _, arm := range arms {
		t.Run(arm, func(t *testing.T) {
			r := *s
			r.data = filepath.Join(t.TempDir(), "data")
			if out, err := restore(r.data, "KLUIS_FAILPOINTS="+arm); err == nil || !strings.Contains(out, "failpoint") {
				t.Fatalf("armed, it says %v: %s", err, out)
			}
			for {
				out, err := restore(r.data, "")
				if err == nil {
					break
				}
				there := databaseThere.FindStringSubmatch(out)
				if there == nil {
					t.Fatalf("again: %v\n%s", err, out)
				}
				must(t, os.Remove(there[1]))
			}
			// The secrets of a first try are in no backup.
			secrets, err := os.ReadFile(filepath.Join(s.data, "bootstrap.json"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(r.data, "bootstrap.json"), secrets, 0o600))
			p := start(t, r.data, r.port)
			if !p.alive() {
				t.Fatalf("what was restored is not served:\n%s", p.log)
			}
			r.connect(t)
			r.await(ctx, t, "Active")
			must(t, r.readBack(ctx))
			p.stop(t)
			r.fsck(t)
		})
	}
}
