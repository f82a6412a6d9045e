package system_test

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/effort"
)

// TestLinearizableReplicas has the clients of TestLinearizable each at one of three replicas,
// while one of those is killed or stands still for longer than its lease, the database
// crashes, or the vault is out of reach.
func TestLinearizableReplicas(t *testing.T) {
	v := os.Getenv("KLUIS_LINEARIZABLE")
	if v == "" {
		t.Skip("SKIPPED: three replicas and their faults take minutes; make proof runs it (KLUIS_LINEARIZABLE=60s)")
	}
	lasting, err := time.ParseDuration(v)
	must(t, err)
	inS3(t)
	const lease = 10 * time.Second // as long as a replica may go on that hears nothing
	f := makeFleet(t, 3, "KLUIS_LEASE="+lease.String(), "KLUIS_BOUND=20s")
	f.patience = 10 * time.Second
	f.serve(t)
	at := []*site{f.at(t, 0), f.at(t, 1), f.at(t, 2)}
	var kills, pauses, crashes, absences int
	linearizable(t, f.site, at, lasting, lease, func(pause func(time.Duration), _ func()) {
		pause(8 * time.Second)
		i := rand.N(len(at))
		switch rand.N(4) {
		case 0:
			f.processes[i].kill()
			f.start(t, i)
			kills++
		case 1:
			must(t, f.processes[i].cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(lease + lease/4)
			must(t, f.processes[i].cmd.Process.Signal(syscall.SIGCONT))
			pauses++
		case 2:
			must(t, f.pg.Stop("immediate"))
			must(t, f.pg.Restart())
			crashes++
		case 3:
			f.balancer.close() // the replicas reach the vault through it
			pause(lease / 2)
			f.balancer = balance(t, f.patience, f.front, f.ports...)
			absences++
		}
	})
	effort.Proof(t, "replicas-killed", kills, "paused", pauses, "database-crashes", crashes, "vault-out-of-reach", absences)
	for _, p := range f.processes {
		p.stop(t)
	}
	f.balancer.close()
	f.once(t)
	f.fsck(t)
}
