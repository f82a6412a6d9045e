package system_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/pgtest"
)

// TestReady has a balancer's question answered by what the server can do: not while a
// database stands still, though its machine acknowledges everything, and again when that
// goes on. It says whose database it is.
func TestReady(t *testing.T) {
	t.Parallel()
	pg, err := pgtest.Start()
	if err != nil {
		effort.Missing(t, err.Error(), "readiness on PostgreSQL")
	}
	t.Cleanup(func() { pg.Stop("immediate") })
	t.Cleanup(func() { pg.GoOn() })
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, "KLUIS_DATABASE=vault="+pg.Database(t)+" platform="+pg.Database(t))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server:\n%s", p.log)
		}
	})
	s.connect(t)
	ask := func() (status int, databases string, err error) {
		r, err := s.clients.HTTP.Get("https://localhost:" + s.port + "/readyz")
		if err != nil {
			return 0, "", err
		}
		defer r.Body.Close()
		var answer struct{ Databases map[string]string }
		err = json.NewDecoder(r.Body).Decode(&answer)
		for party, why := range answer.Databases {
			databases += party + ": " + why + "\n"
		}
		return r.StatusCode, databases, err
	}
	want := func(code int, all ...string) {
		t.Helper()
		eventually(t.Context(), t, time.Minute, func() error {
			got, databases, err := ask()
			for _, one := range all {
				if !strings.Contains(databases, one) {
					err = fmt.Errorf("%d %q", got, databases)
				}
			}
			if err == nil && got != code {
				err = fmt.Errorf("%d %q", got, databases)
			}
			return err
		})
	}
	want(200)
	must(t, pg.Hang())
	want(503, "vault: does not answer", "platform: does not answer")
	if _, databases, err := ask(); err != nil || strings.Contains(databases, "login") {
		t.Errorf("the directory's database is in a file: %q %v", databases, err)
	}
	must(t, pg.GoOn())
	want(200)
	p.stop(t)
}
