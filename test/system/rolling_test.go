package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/store"
)

// nextRelease returns the variable that makes the binary play the next release, whose
// tables are one version ahead: an index, a table and columns more, which the release
// before knows nothing of. breaking adds a version that it cannot live with.
func nextRelease(t *testing.T, breaking bool) string {
	t.Helper()
	dir := t.TempDir()
	add := func(set string, ahead int64, text string) {
		t.Helper()
		known, _, err := store.Known(set)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(dir, set), 0o700))
		name := filepath.Join(dir, set, fmt.Sprintf("%05d_next.sql", known+ahead))
		must(t, os.WriteFile(name, []byte(fmt.Sprintf("-- +goose Up\n"+text, known+ahead)), 0o600))
	}
	add("lake", 1, "-- version %d\nALTER TABLE lake_node ADD COLUMN next TEXT NOT NULL DEFAULT '';\nCREATE INDEX lake_node_by_next ON lake_node (next);\nCREATE TABLE lake_next (id TEXT NOT NULL PRIMARY KEY) STRICT;\n")
	add("audit", 1, "-- version %d\nALTER TABLE audit_entry ADD COLUMN next TEXT NOT NULL DEFAULT '';\n")
	if breaking {
		add("lake", 2, "-- kluis:oldest %d\nDROP TABLE lake_next;\n")
	}
	return "KLUIS_NEXT_MIGRATIONS=" + dir
}

// TestRollingUpgrade replaces replicas one after another by the next release, under load,
// and one of them back: no request fails, and nothing is lost. A release whose tables the
// others could not live with waits until they are gone, and keeps them out from then on.
func TestRollingUpgrade(t *testing.T) {
	if !slow {
		t.Skip("two servers and a database, replaced under load: CI=true")
	}
	ctx := t.Context()
	f := newFleet(t, 2, "KLUIS_DRAIN=1s")
	f.furnish(ctx, t)
	must(t, f.assign(ctx))
	f.await(ctx, t, "Active")
	l := f.load(ctx, 2, 2)
	defer l.stop()
	l.goesOn(ctx, t, "at first")
	failed := l.failed.Load()
	replace := func(i int, what string, env ...string) {
		t.Helper()
		f.processes[i].stop(t)
		f.own[i] = env
		f.start(t, i)
		f.allUp(t)
		l.goesOn(ctx, t, what)
	}
	next := nextRelease(t, false)
	replace(0, "the first is replaced", next)
	replace(1, "the second is replaced", next)
	replace(0, "the first is put back")
	if n := l.failed.Load() - failed; n > 0 {
		t.Errorf("%d requests failed while servers were replaced, the last by %v", n, *l.cause.Load())
	}
	l.stop()
	l.busy.Wait()
	l.check(t, "at last")
	must(t, f.readAll(ctx, l.written))

	// One that the older cannot live with.
	breaking := nextRelease(t, true)
	f.processes[1].stop(t)
	f.own[1] = []string{breaking}
	refused := func(i int, why string) {
		t.Helper()
		f.launch(t, i)
		if f.processes[i].await(t); f.processes[i].alive() || !strings.Contains(f.processes[i].log.String(), why) {
			t.Fatalf("replica %d is not refused because of %q:\n%s", i, why, f.processes[i].log)
		}
	}
	refused(1, "Stop every server of the older release first")
	f.processes[0].stop(t)
	f.start(t, 1)
	refused(0, "use the newer release")
	if _, err := f.get(ctx, l.names[0]); err != nil {
		t.Errorf("beside one that was refused: %v", err)
	}
	f.processes[1].stop(t)
	f.balancer.close() // the check serves the vault for itself
	name, value, _ := strings.Cut(breaking, "=")
	t.Setenv(name, value)
	f.once(t)
	t.Log(f.fsck(t))
}
