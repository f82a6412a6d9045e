package system_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/pgtest"
)

// TestPointInTime loses a PostgreSQL server and recovers all parties' databases from a
// base backup and the archived log, to a moment before a mistake: as docs/recovery.md
// says. What came back is refused until the restore is declared; then everything
// of that moment reads, what was deleted later too, and nothing that came later is there.
func TestPointInTime(t *testing.T) {
	if !slow && os.Getenv("KLUIS_EFFORT") != "full" {
		t.Skip("SKIPPED: two PostgreSQL servers; it runs in CI (CI=true)")
	}
	t.Parallel()
	ctx := t.Context()
	pg, err := pgtest.Start()
	if err != nil {
		effort.Missing(t, err.Error(), "recovery to a point in time")
	}
	t.Cleanup(func() { pg.Stop("immediate") }) // unless it is dead
	must(t, pg.Archive())
	parties := []string{"login", "vault", "platform", "governance"}
	var databases []string
	for _, party := range parties {
		url, err := pg.Named(party)
		must(t, err)
		databases = append(databases, party+"="+url)
	}
	witness := "KLUIS_WITNESS=" + t.TempDir()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, witness, "KLUIS_DATABASE="+strings.Join(databases, " "))
	s.connect(t)
	s.furnish(ctx, t)
	base, err := pg.BaseBackup()
	must(t, err)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	s.put(ctx, t, "lake.Lakehouse/Files/between.bin", make([]byte, 200_000))
	time.Sleep(20 * time.Millisecond) // a commit of before is not of the moment
	moment, err := pg.Moment()
	must(t, err)
	time.Sleep(20 * time.Millisecond)
	for path := range s.files { // the mistake
		_, err := s.engineer.Blobs.DeleteBlob(ctx, s.container, path, nil)
		must(t, err)
	}
	_, err = s.engineer.Blobs.UploadBuffer(ctx, s.container, "lake.Lakehouse/Files/later.bin", make([]byte, 100_000), nil)
	must(t, err)
	must(t, pg.Archived())
	p.stop(t)
	must(t, pg.Kill())

	must(t, base.RecoverTo(pg, moment))
	t.Cleanup(func() { base.Stop("immediate") })
	for _, party := range parties {
		must(t, os.WriteFile(filepath.Join(s.data, party, "database"), []byte(base.URL(party)+"\n"), 0o600))
	}
	p = start(t, s.data, s.port, witness)
	if p.alive() || !strings.Contains(p.log.String(), "restore --declare") {
		t.Fatalf("an older state is served, or refused otherwise: %s", p.log)
	}
	declare := kluis(t, s.data, "restore", "--declare", "--data", s.data, "--why", "files were deleted", "--by", "anna")
	declare.Env = append(declare.Env, witness)
	if out, err := declare.CombinedOutput(); err != nil || !strings.Contains(string(out), "declared by anna") {
		t.Fatalf("declaring: %v\n%s", err, out)
	}
	p = start(t, s.data, s.port, witness)
	if !p.alive() {
		t.Fatalf("declared, and not served:\n%s", p.log)
	}
	s.connect(t)
	s.await(ctx, t, "Active")
	must(t, s.readBack(ctx))
	if _, err := s.get(ctx, "lake.Lakehouse/Files/later.bin"); err == nil {
		t.Error("what came after the moment is there")
	}
	s.put(ctx, t, "lake.Lakehouse/Files/goes on.bin", make([]byte, 100_000))
	must(t, s.readBack(ctx))
	p.stop(t)
	for _, args := range [][]string{{"fsck"}, {"audit", "verify"}} {
		c := kluis(t, s.data, append(args, "--data", s.data)...)
		c.Env = append(c.Env, witness)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
