package system_test

import (
	"bytes"
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/pgtest"
)

// TestFailover kills the database server of three replicas under load and promotes its
// standby: no acknowledged write is lost, the replicas find the standby by themselves, and
// neither the witness nor fsck nor the logs' verification find an older state.
func TestFailover(t *testing.T) {
	if !slow {
		t.Skip("three servers and two databases: CI=true")
	}
	ctx := t.Context()
	primary, err := pgtest.Start()
	if err != nil {
		effort.Missing(t, err.Error(), "failover to a standby")
	}
	t.Cleanup(func() { primary.Stop("immediate") }) // unless it is dead
	standby, err := primary.Standby()
	must(t, err)
	t.Cleanup(func() { standby.Stop("immediate") })
	f := makeFleetOn(t, primary, func(party string) string {
		_, err := primary.Named(party)
		must(t, err)
		return pgtest.Either(party, primary, standby)
	}, 3)
	f.serve(t)
	f.furnish(ctx, t)
	must(t, f.assign(ctx))
	f.await(ctx, t, "Active")
	l := f.load(ctx, 3, 3)
	defer l.stop()
	l.goesOn(ctx, t, "at first")

	must(t, primary.Kill())
	must(t, standby.Promote())
	l.goesOn(ctx, t, "after the failover")
	for i, p := range f.processes {
		if !p.alive() {
			t.Fatalf("replica %d has given up:\n%s", i, p.log)
		}
	}
	// One that starts now takes the promoted server too.
	f.processes[0].stop(t)
	f.start(t, 0)
	l.goesOn(ctx, t, "one started anew")
	l.stop()
	l.busy.Wait()
	l.check(t, "at last")
	must(t, f.readAll(ctx, l.written))
	for i, p := range f.processes {
		p.stop(t)
		if bytes.Contains(p.log.Bytes(), []byte("witness")) {
			t.Errorf("replica %d speaks of the witness:\n%s", i, p.log)
		}
	}
	f.balancer.close() // the check serves the vault for itself
	f.once(t)
	t.Log(f.fsck(t))
}
