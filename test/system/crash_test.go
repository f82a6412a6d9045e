package system_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/sdk"
)

// A change is something that is done to a workspace's encryption, and what must be
// true once it is done.
type change struct {
	name   string
	before string // the status in which it starts
	do     func(context.Context, *site) error
	done   func(*site, sdk.EncryptionStatus) bool
	after  []string // statuses that may follow a crash, once all work is done
}

var changes = []change{
	{
		name: "assign", before: "Disabled",
		do:    func(ctx context.Context, s *site) error { return s.assign(ctx) },
		done:  func(_ *site, st sdk.EncryptionStatus) bool { return st.Detail.Status == "Active" },
		after: []string{"Active", "Disabled"},
	},
	{
		name: "rotate", before: "Active",
		do: func(ctx context.Context, s *site) error {
			_, err := s.keys.RotateKey(ctx, keyName, nil)
			return err
		},
		done:  func(_ *site, st sdk.EncryptionStatus) bool { return len(st.KeyVersions) >= 2 },
		after: []string{"Active"},
	},
	{
		name: "reset", before: "Active",
		do:    func(ctx context.Context, s *site) error { return s.reset(ctx) },
		done:  func(_ *site, st sdk.EncryptionStatus) bool { return st.Detail.Status == "Disabled" },
		after: []string{"Active", "Disabled"},
	},
}

// quickPoints are the failpoints of the changes themselves: those that the default
// run crashes at. CI crashes at all of them.
func quickPoint(name string) bool {
	for _, p := range []string{"encryption/assign/", "encryption/rotate/after-wrap", "encryption/rotate/after-publish", "encryption/reset/", "encryption/item/after-refresh", "lake/reencrypt/"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// TestCrash kills the server at every failpoint that assign, rotate, re-encrypt and reset
// pass. The work resumes after a restart, the status is truthful, every file
// reads back, and fsck finds nothing.
func TestCrash(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	out, err := exec.Command(build(t), "failpoints").Output()
	must(t, err)
	points := strings.Fields(string(out))
	if len(points) < 30 {
		t.Fatalf("the binary names %d failpoints only", len(points))
	}

	// One site for each state that a change starts in.
	base := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, base.data, base.port)
	base.connect(t)
	base.furnish(ctx, t)
	p.stop(t)
	base.fsck(t)
	sites := map[string]*site{"Disabled": base, "Active": base.copy(t)}
	p = start(t, sites["Active"].data, base.port)
	sites["Active"].connect(t)
	must(t, sites["Active"].assign(ctx))
	sites["Active"].await(ctx, t, "Active")
	p.stop(t)

	passed := map[string]bool{}
	tried, died := 0, 0
	for _, c := range changes {
		unarmed := sites[c.before].copy(t)
		onWay := unarmed.traced(ctx, t, func() {
			must(t, c.do(ctx, unarmed))
			eventually(ctx, t, 40*time.Second, func() error {
				st, err := unarmed.engineer.Fabric.Encryption(ctx, unarmed.workspace)
				if err == nil && !c.done(unarmed, st) {
					err = errNotDone(st.Detail.Status)
				}
				return err
			})
		})
		for _, point := range points {
			if !onWay[point] || !slow && !quickPoint(point) {
				continue
			}
			passed[point] = true
			t.Run(c.name+"/"+point, func(t *testing.T) {
				tried++
				if crash(ctx, t, sites[c.before].copy(t), c, point) {
					died++
				}
			})
		}
	}
	for _, point := range points {
		if quickPoint(point) && !passed[point] {
			t.Errorf("no change passes the failpoint %s: it proves nothing", point)
		}
	}
	effort.Proof(t, "changes-with-a-failpoint-armed", tried, "crashes", died, "keys-or-files-lost", 0)
}

// crash makes the change with the server armed to die at the point, and reports
// whether it did.
func crash(ctx context.Context, t *testing.T, s *site, c change, point string) (died bool) {
	p := start(t, s.data, s.port, "KLUIS_FAILPOINTS="+point+"=exit")
	acknowledged := false
	if p.alive() {
		s.connect(t)
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		acknowledged = c.do(call, s) == nil // it may fail: the server dies of it
		cancel()
		// Until it has died, or done all that there was to do.
		for deadline := time.Now().Add(15 * time.Second); p.alive() && time.Now().Before(deadline); {
			st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
			if err == nil && c.done(s, st) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	died = !p.alive()
	p.kill()

	p = start(t, s.data, s.port)
	s.connect(t)
	st := s.await(ctx, t, c.after...)
	if got := st.Count("Active"); st.Detail.Status == "Active" && got != 2 {
		t.Errorf("the status is Active, and %d of 2 items are", got)
	}
	if st.Serving.State != "Serving" {
		t.Errorf("the workspace says that it is %s", st.Serving.State)
	}
	must(t, s.readBack(ctx))
	// What was acknowledged is done, by itself; what was not can be asked for again.
	if acknowledged && c.name != "rotate" && !c.done(s, st) {
		t.Errorf("the change was acknowledged, and the status is %s", st.Detail.Status)
	}
	eventually(ctx, t, 40*time.Second, func() error {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		switch {
		case err != nil:
			return err
		case c.done(s, st):
			return nil
		case !acknowledged:
			acknowledged = c.do(ctx, s) == nil
		}
		return errNotDone(st.Detail.Status)
	})
	must(t, s.readBack(ctx))
	p.stop(t)
	s.fsck(t)
	return died
}

type errNotDone string

func (e errNotDone) Error() string { return "not done: " + string(e) }
