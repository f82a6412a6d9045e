package system_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/deploytest"
	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/objstore/servertest"
)

// A balancer is one that the test may close before it ends.
type balancer struct {
	*deploytest.Balancer
	close func()
}

func balance(t testing.TB, patience time.Duration, port string, ports ...string) *balancer {
	t.Helper()
	b, err := deploytest.Balance(patience, port, ports...)
	must(t, err)
	t.Cleanup(b.Close)
	return &balancer{b, b.Close}
}

// A fleet is several servers on one database for each party, behind a balancer.
type fleet struct {
	*site
	pg        *pgtest.Server
	platform  string // the address of the platform's database
	env       []string
	own       [][]string    // the environment of each alone
	front     string        // the balancer's port: the public one, unless something stands before it
	patience  time.Duration // the balancer's
	ports     []string
	replicas  []*site
	processes []*process
	balancer  *balancer
}

// newFleet makes an installation on PostgreSQL, and starts it n times.
func newFleet(t *testing.T, n int, env ...string) *fleet {
	t.Helper()
	f := makeFleet(t, n, env...)
	f.serve(t)
	return f
}

// makeFleet makes an installation on PostgreSQL that is to be started n times.
func makeFleet(t *testing.T, n int, env ...string) *fleet {
	t.Helper()
	pg, err := pgtest.Start()
	if err != nil {
		effort.Missing(t, err.Error(), "several replicas on PostgreSQL")
	}
	t.Cleanup(func() { pg.Stop("immediate") })
	return makeFleetOn(t, pg, func(string) string { return pg.Database(t) }, n, env...)
}

// makeFleetOn makes it on the database that address returns for each party.
func makeFleetOn(t *testing.T, pg *pgtest.Server, address func(party string) string, n int, env ...string) *fleet {
	t.Helper()
	f := &fleet{pg: pg, site: &site{port: devtest.FreePort(t)}, own: make([][]string, n), processes: make([]*process, n), patience: time.Second}
	f.front = f.port
	dir := t.TempDir()
	if os.Getenv("KLUIS_WITNESS") == "" { // else the test has said where
		t.Setenv("KLUIS_WITNESS", filepath.Join(dir, "witness")) // for the commands too
		must(t, os.Mkdir(filepath.Join(dir, "witness"), 0o700))
	}
	f.env = append(env, "KLUIS_PUBLIC_PORT="+f.port)
	var databases []string
	for _, party := range []string{"login", "vault", "platform", "governance"} {
		url := address(party)
		if party == "platform" {
			f.platform = url
		}
		databases = append(databases, party+"="+url)
	}
	// One makes it, and the others get copies of its folder.
	first := &site{data: filepath.Join(dir, "r0")}
	start(t, first.data, devtest.FreePort(t), append(f.env, "KLUIS_DATABASE="+strings.Join(databases, " "))...).stop(t)
	f.data = first.data
	f.env = append(f.env, fmt.Sprint("KLUIS_REPLICAS=", n))
	for i := range n {
		s := first
		if i > 0 {
			s = &site{data: filepath.Join(dir, fmt.Sprint("r", i))}
			must(t, deploytest.Copy(first.data, s.data))
			os.Remove(filepath.Join(s.data, "platform", "checkpoint")) // as in a copy from before the first start
		}
		f.ports = append(f.ports, devtest.FreePort(t))
		f.replicas = append(f.replicas, s)
	}
	return f
}

// serve starts the fleet's servers and its balancer, and connects to them.
func (f *fleet) serve(t *testing.T) {
	t.Helper()
	f.balancer = balance(t, f.patience, f.front, f.ports...)
	for i := range f.replicas {
		f.launch(t, i)
	}
	for i := range f.replicas {
		f.wait(t, i)
	}
	f.allUp(t)
	f.connect(t)
	t.Cleanup(func() {
		if t.Failed() {
			f.tell(t)
		}
	})
}

// allUp waits until the balancer has found every server.
func (f *fleet) allUp(t *testing.T) {
	t.Helper()
	eventually(t.Context(), t, 30*time.Second, func() error {
		if up := f.balancer.Up(); up < len(f.ports) {
			return fmt.Errorf("%d of %d servers are up", up, len(f.ports))
		}
		return nil
	})
}

// tell logs what every server was doing.
func (f *fleet) tell(t *testing.T) {
	for i, p := range f.processes {
		if !p.alive() {
			log := p.log.Bytes()
			t.Logf("replica %d has ended, %v:\n%s", i, p.err, log[max(0, len(log)-20_000):])
			continue
		}
		p.cmd.Process.Signal(syscall.SIGCONT)
		p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines
		select {
		case <-p.exited:
		case <-time.After(10 * time.Second):
		}
		log, stacks, _ := bytes.Cut(p.log.Bytes(), []byte("SIGQUIT"))
		t.Logf("replica %d:\n%s\n%s", i, log[max(0, len(log)-10_000):], stacks[:min(len(stacks), 20_000)])
	}
}

func (f *fleet) start(t *testing.T, i int) {
	t.Helper()
	f.launch(t, i)
	f.wait(t, i)
}

func (f *fleet) launch(t *testing.T, i int) {
	t.Helper()
	f.processes[i] = launch(t, f.replicas[i].data, f.ports[i], slices.Concat(f.env, f.own[i])...)
}

func (f *fleet) wait(t *testing.T, i int) {
	t.Helper()
	if f.processes[i].await(t); !f.processes[i].alive() {
		t.Fatalf("replica %d did not start:\n%s", i, f.processes[i].log)
	}
}

// at returns the site with clients that reach one replica alone.
func (f *fleet) at(t *testing.T, i int) *site {
	t.Helper()
	s := *f.site
	var err error
	s.clients, err = sdk.New(f.clients.Target)
	must(t, err)
	s.clients.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, "127.0.0.1:"+f.ports[i])
	}
	s.use(t)
	return &s
}

// A load is writers and readers who go on whatever happens.
type load struct {
	s    *site
	stop context.CancelFunc
	busy sync.WaitGroup

	mu      sync.Mutex
	written map[string][]byte // that was acknowledged
	names   []string

	writes, reads, failed atomic.Int64
	wrong                 atomic.Pointer[string]
	cause                 atomic.Pointer[error] // why one failed last
}

func (s *site) load(ctx context.Context, writers, readers int) *load {
	l := &load{s: s, written: map[string][]byte{}}
	ctx, l.stop = context.WithCancel(ctx)
	each := func(n int, do func(ctx context.Context, i, k int, r *rand.Rand)) {
		for i := range n {
			l.busy.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				for k := 0; ctx.Err() == nil; k++ {
					ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // a machine may be busy
					do(ctx, i, k, r)
					cancel()
				}
			})
		}
	}
	each(writers, func(ctx context.Context, i, k int, r *rand.Rand) {
		name := fmt.Sprintf("lake.Lakehouse/Files/load/%p/w%d-%d.bin", l, i, k)
		size := []int{100, 9_000, 60_000, 400_000}[r.IntN(4)]
		body := bytes.Repeat([]byte(fmt.Sprintf("%d/%d|", i, k)), size/6+1)
		if _, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, name, body, nil); err != nil {
			l.fails(err)
			return
		}
		l.writes.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.written[name] = body
		l.names = append(l.names, name)
	})
	each(readers, func(ctx context.Context, i, k int, r *rand.Rand) {
		l.mu.Lock()
		name := ""
		if len(l.names) > 0 {
			name = l.names[r.IntN(len(l.names))]
		}
		want := l.written[name]
		l.mu.Unlock()
		if name == "" {
			time.Sleep(10 * time.Millisecond)
			return
		}
		got, err := s.get(ctx, name)
		switch {
		case err != nil && strings.Contains(err.Error(), "BlobNotFound"):
			said := name + " was acknowledged, and is not there"
			l.wrong.Store(&said)
		case err != nil:
			l.fails(err)
		case !bytes.Equal(got, want):
			said := fmt.Sprintf("%s has %d bytes, of which some are others: want %d", name, len(got), len(want))
			l.wrong.Store(&said)
		default:
			l.reads.Add(1)
		}
	})
	return l
}

func (l *load) fails(err error) {
	l.cause.Store(&err)
	l.failed.Add(1)
}

func (l *load) check(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: %d writes, %d reads, %d failed", what, l.writes.Load(), l.reads.Load(), l.failed.Load())
	if said := l.wrong.Load(); said != nil {
		t.Fatalf("%s: %s", what, *said)
	}
}

// goesOn waits until reads and writes went on for a while without a failure between them.
func (l *load) goesOn(ctx context.Context, t *testing.T, what string) {
	t.Helper()
	eventually(ctx, t, 2*time.Minute, func() error {
		failed, reads, writes := l.failed.Load(), l.reads.Load(), l.writes.Load()
		began := time.Now()
		return within(ctx, 30*time.Second, func() error {
			switch {
			case l.failed.Load() > failed:
				failed, reads, writes, began = l.failed.Load(), l.reads.Load(), l.writes.Load(), time.Now()
				return fmt.Errorf("some requests fail: %w", *l.cause.Load())
			case l.reads.Load() == reads || l.writes.Load() == writes || time.Since(began) < time.Second:
				return errors.New("nothing was read or written yet")
			}
			return nil
		})
	})
	l.check(t, what)
}

// TestReplicas runs three replicas of one installation under load: one is killed, one
// stands still, the database and the object store fail. No acknowledged write is lost,
// no job is done twice, and a revocation holds on each of them.
func TestReplicas(t *testing.T) {
	if !slow {
		t.Skip("three servers and a database for a minute: CI=true")
	}
	ctx := t.Context()
	store := inS3(t)
	t.Setenv("KLUIS_WITNESS", s3Address(store.Place, "witness", store.URL)) // they share no file
	t.Setenv("KLUIS_WITNESS_CREDENTIAL", os.Getenv("KLUIS_OBJECTS_CREDENTIAL"))
	f := newFleet(t, 3, "KLUIS_LEASE=5s", "KLUIS_BOUND=10s")
	f.furnish(ctx, t)
	l := f.load(ctx, 3, 3)
	defer l.stop()
	l.goesOn(ctx, t, "at first")

	// The key is assigned under load, and a replica is killed meanwhile.
	soon, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	must(t, f.assign(soon))
	f.processes[0].kill()
	l.goesOn(ctx, t, "one killed")
	f.await(soon, t, "Active")
	f.start(t, 0)

	for range effort.Of(1, 1, 5) {
		// One stands still for twice its lease, and goes on.
		must(t, f.processes[1].cmd.Process.Signal(syscall.SIGSTOP))
		time.Sleep(10 * time.Second)
		l.check(t, "one paused")
		must(t, f.processes[1].cmd.Process.Signal(syscall.SIGCONT))
		l.goesOn(ctx, t, "one resumed")

		must(t, f.pg.Stop("immediate"))
		time.Sleep(time.Second)
		must(t, f.pg.Restart())
		l.goesOn(ctx, t, "the database restarted")

		store.Reset(func(_ *http.Request, n int) servertest.Fault {
			return []servertest.Fault{servertest.Fails, servertest.Lost}[n%2]
		})
		time.Sleep(2 * time.Second)
		store.Reset(func(_ *http.Request, n int) servertest.Fault {
			if n%3 == 0 {
				return servertest.Lost
			}
			return servertest.None
		})
		time.Sleep(2 * time.Second)
		store.Reset(nil)
		l.goesOn(ctx, t, "the object store failed")
	}

	// Every replica refuses by itself, within the bound, and gives back.
	l.stop()
	l.busy.Wait()
	l.check(t, "at last")
	each := []*site{f.at(t, 0), f.at(t, 1), f.at(t, 2)}
	name := l.names[0]
	for i, s := range each {
		if got, err := s.get(ctx, name); err != nil || !bytes.Equal(got, l.written[name]) {
			t.Fatalf("replica %d before the revocation: %v", i, err)
		}
	}
	began := time.Now()
	must(t, f.setEnabled(ctx, keyName, false))
	var all sync.WaitGroup
	for i, s := range each {
		all.Go(func() {
			for {
				_, err := s.get(ctx, name)
				if err != nil && !refusedByKey(err) {
					t.Logf("replica %d answers %v", i, err) // on a busy machine a lease of 5 s may end unrenewed
				}
				if refusedByKey(err) || time.Since(began) > 10*time.Second {
					break
				}
			}
			took := time.Since(began)
			t.Logf("replica %d refuses %v after the key was disabled", i, took.Round(time.Millisecond))
			if took > 10*time.Second {
				t.Errorf("replica %d still reads after the bound", i)
			}
		})
	}
	all.Wait()
	for range 50 {
		for i, s := range each {
			if _, err := s.get(ctx, name); !refusedByKey(err) {
				t.Fatalf("replica %d reads again: %v", i, err)
			}
		}
	}
	must(t, f.setEnabled(ctx, keyName, true))
	for i, s := range each {
		eventually(ctx, t, 20*time.Second, func() error {
			_, err := s.get(ctx, name)
			if err != nil {
				err = fmt.Errorf("replica %d: %w", i, err)
			}
			return err
		})
	}

	must(t, f.readAll(ctx, l.written))
	for _, p := range f.processes {
		p.stop(t)
	}
	f.balancer.close() // the check serves the vault for itself
	f.once(t)
	t.Log(f.fsck(t))
}

// setEnabled switches every version of a key on or off.
func (s *site) setEnabled(ctx context.Context, key string, enabled bool) error {
	pager := s.keys.NewListKeyPropertiesVersionsPager(key, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, k := range page.Value {
			if _, err := s.keys.UpdateKey(ctx, key, k.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &enabled}}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll compares all that was acknowledged with what is there.
func (s *site) readAll(ctx context.Context, written map[string][]byte) error {
	for name, want := range written {
		got, err := s.get(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s came back different", name)
		}
	}
	return nil
}

// once checks in the audit logs, which must verify, that no job was done twice.
func (f *fleet) once(t *testing.T) {
	t.Helper()
	if out, err := exec.Command(build(t), "audit", "verify", "--data", f.data).CombinedOutput(); err != nil {
		t.Errorf("audit verify: %v\n%s", err, out)
	}
	db, err := sql.Open("pgx", f.platform)
	must(t, err)
	defer db.Close()
	rows, err := db.Query("SELECT body FROM audit_entry ORDER BY seq")
	must(t, err)
	defer rows.Close()
	times := map[string]int{}
	for rows.Next() {
		var body []byte
		must(t, rows.Scan(&body))
		e, err := audit.Parse(body)
		must(t, err)
		if e.Outcome == audit.Allowed && (e.Operation == "ReencryptItem" || e.Operation == "CompleteWorkspaceEncryption") {
			times[e.Operation+" "+e.Resource+" "+e.Detail["generation"]]++
		}
	}
	must(t, rows.Err())
	for what, n := range times {
		if n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if len(times) < 3 {
		t.Errorf("the log tells only of %v", times)
	}
}
