package system_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/store/enginetest"
)

// migrate moves a party's database, and returns what the command said and how it ended.
func (s *site) migrate(t *testing.T, party, to string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(build(t), "migrate", "--data", s.data, "--party", party, "--to", to)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestMigrate moves a server's databases to PostgreSQL and back, killed at each step:
// the party always has one whole database, and the move can be begun again.
func TestMigrate(t *testing.T) {
	t.Parallel()
	if os.Getenv("KLUIS_TEST_STORE") == "postgres" {
		t.Skip("it begins with embedded databases")
	}
	ctx := t.Context()
	s, p := underKey(ctx, t)

	parties := []string{"login", "vault", "platform", "governance"}
	urls := map[string]string{}
	for _, party := range parties {
		var err error
		if urls[party], err = enginetest.PostgreSQL(filepath.Join(s.data, party)); err != nil {
			if slow {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	if said, err := s.migrate(t, "vault", urls["vault"]); err == nil || !strings.Contains(said, "another process serves") {
		t.Errorf("while it is served: %v: %s", err, said)
	}
	p.stop(t)
	served := func() {
		t.Helper()
		p := start(t, s.data, s.port)
		s.connect(t)
		must(t, s.readBack(ctx))
		s.put(ctx, t, "lake.Lakehouse/Files/more-"+devtest.FreePort(t), []byte("after the move"))
		p.stop(t)
	}
	move := func(to func(party string) string, points ...string) {
		t.Helper()
		for _, party := range parties {
			for _, point := range points {
				if party != "platform" && !(slow && point == "kluis/migrate/after-switch=exit") {
					continue
				}
				if said, err := s.migrate(t, party, to(party), "KLUIS_FAILPOINTS="+point); err == nil {
					t.Fatalf("%s: %s is not passed: %s", party, point, said)
				}
				if point != "kluis/migrate/after-switch=exit" { // which the next that opens the party finishes
					out, err := kluis(t, s.data, "fsck", "--structure-only", "--data", s.data).CombinedOutput()
					if err != nil {
						t.Errorf("%s: killed at %s: %v\n%s", party, point, err, out)
					}
				}
			}
			if len(points) > 0 && party == "governance" && slow {
				continue // killed after the switch: the server's start finishes it
			}
			said, err := s.migrate(t, party, to(party))
			if len(points) > 0 && (party == "platform" || slow) { // the last was killed after the switch
				if err == nil || !strings.Contains(said, "already") {
					t.Errorf("%s: it was switched already: %v: %s", party, err, said)
				}
			} else if err != nil {
				t.Fatalf("%s: %v: %s", party, err, said)
			}
		}
		s.fsck(t)
		served()
	}
	move(func(party string) string { return urls[party] },
		"store/postgres/before-commit=exit:2", "store/postgres/after-commit=exit:2", // the second: the first makes sure that nobody else is there
		"kluis/migrate/after-copy=exit", "kluis/migrate/before-switch=exit", "kluis/migrate/after-switch=exit")
	for _, party := range parties {
		if _, err := os.Stat(filepath.Join(s.data, party, "database")); err != nil {
			t.Error(err)
		}
	}
	stale := map[string]string{}
	for _, party := range parties {
		stale[party] = s.copyAddress(t, party)
	}
	move(func(string) string { return "embedded" },
		"store/sqlite/before-commit=exit", "store/sqlite/after-commit=exit",
		"kluis/migrate/after-copy=exit", "kluis/migrate/before-switch=exit", "kluis/migrate/after-switch=exit")

	// Another process that has not heard of the move does not go on with the old database.
	for _, party := range parties {
		said, err := exec.Command(build(t), "audit", "verify", "--data", stale[party]).CombinedOutput()
		if err == nil || !strings.Contains(string(said), "moved elsewhere") {
			t.Errorf("the %s's database that was left is opened: %v: %s", party, err, said)
		}
		if _, err := os.Stat(filepath.Join(s.data, party, "database.leaving")); err == nil {
			t.Errorf("the %s's move is not finished", party)
		}
	}
	// And the way there again: what was left is older, and replaced.
	move(func(party string) string { return urls[party] })
}

// copyAddress copies what of a party's folder another machine would have that shares its
// database, and returns the data directory.
func (s *site) copyAddress(t *testing.T, party string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.Mkdir(filepath.Join(to, party), 0o700))
	for _, name := range []string{"database", "audit.key.pub"} {
		text, err := os.ReadFile(filepath.Join(s.data, party, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, party, name), text, 0o600))
	}
	return to
}
