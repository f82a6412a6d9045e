package system_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
)

// Whoever watches a change sees it go on, may stop at any time, and is let go when it is
// done.
func TestWatch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, "KLUIS_FAILPOINTS=encryption/item/after-refresh=pause")
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	watch := func() (*exec.Cmd, *bufio.Scanner) {
		t.Helper()
		cmd := exec.CommandContext(ctx, build(t), "encryption", "status", s.container, "--watch", "--profile", filepath.Join(s.data, "bootstrap.json"))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		return cmd, bufio.NewScanner(out)
	}
	// statuses reads on until n statuses were shown, all if it is 0.
	statuses := func(lines *bufio.Scanner, n int) (shown []string) {
		for lines.Scan() {
			if word, status, ok := strings.Cut(lines.Text(), " "); ok && word == "status" {
				shown = append(shown, strings.TrimSpace(status))
				if len(shown) == n {
					break
				}
			}
		}
		return shown
	}

	cmd, lines := watch()
	for _, status := range statuses(lines, 3) { // four seconds of a change that goes on
		if !strings.HasSuffix(status, "InProgress") {
			t.Errorf("shown is %s, of a change in progress", status)
		}
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	interrupted := time.Now()
	statuses(lines, 0)
	if err := cmd.Wait(); err != nil || time.Since(interrupted) > 5*time.Second {
		t.Errorf("after an interrupt it ends with %v in %s", err, time.Since(interrupted))
	}

	p.kill()
	p = start(t, s.data, s.port)
	s.connect(t)
	cmd, lines = watch()
	shown := statuses(lines, 0)
	if err := cmd.Wait(); err != nil || len(shown) == 0 || shown[len(shown)-1] != "Active" {
		t.Errorf("it shows %v and ends with %v", shown, err)
	}
	p.stop(t)
}
