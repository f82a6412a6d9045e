package system_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/internal/sdk"
)

// streamedFile is large: its extent lies in the object store, and who reads it is under way
// when the key goes.
const streamedFile = "lake.Lakehouse/Files/large.bin"

// A subject is a customer with a vault of its own, whose files are read at the replicas
// without a pause.
type subject struct {
	*customer
	turns atomic.Int64 // even while the key is given and every replica reads
	reads []*atomic.Int64
}

// await waits until every reader has ended what it began before.
func (s *subject) await(ctx context.Context) error {
	var was []int64
	for _, n := range s.reads {
		was = append(was, n.Load())
	}
	return within(ctx, time.Minute, func() error {
		for i, n := range s.reads {
			if n.Load() == was[i] {
				return errors.New("a reader still reads")
			}
		}
		return nil
	})
}

// A trial is how long it took to go dark and to come back, at the last of the replicas.
type trial struct {
	way         string
	dark, light time.Duration
}

// try takes the key away and gives it back. The last byte of plaintext counts that any
// reader got at any replica, be it of a read that had begun long before.
func (s *subject) try(ctx context.Context, w way, replicas []*sdk.Engineer) (trial, error) {
	s.turns.Add(1)
	if err := w.revoke(ctx); err != nil {
		return trial{}, fmt.Errorf("%s: revoking: %w", w.name, err)
	}
	revoked := time.Now()
	each := func(limit time.Duration, want func(error) bool) error {
		errs := make([]error, len(replicas))
		var all sync.WaitGroup
		for i, at := range replicas {
			all.Go(func() {
				errs[i] = within(ctx, limit, func() error {
					if err := s.stream(ctx, at, customerFile, []byte(s.name)); !want(err) {
						return fmt.Errorf("customer %d at replica %d: a read is answered with %w", s.n, i, err)
					}
					return nil
				})
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
	if err := each(2*time.Minute, refusedByKey); err != nil {
		return trial{}, fmt.Errorf("%s: %w", w.name, err)
	}
	if err := s.await(ctx); err != nil {
		return trial{}, err
	}
	done := trial{way: w.name, dark: max(0, time.Unix(0, s.last.Load()).Sub(revoked))}
	if err := w.restore(ctx); err != nil {
		return trial{}, fmt.Errorf("%s: restoring: %w", w.name, err)
	}
	restored := time.Now()
	err := each(3*time.Minute, func(err error) bool { return err == nil })
	done.light = time.Since(restored)
	s.turns.Add(1)
	return done, err
}

// patience is how long a replica that these readers keep busy may take to answer the
// balancer's question: none of them fails here.
const patience = time.Minute

// TestRevocationAtReplicas has 50 readers read in 20 workspaces, of small files and of large
// ones, each at one of three replicas, and takes keys away in every way that there is at a
// vault, KLUIS_REVOCATIONS times, a few at once: wherever plaintext last came, it came within
// the bound. Nobody whose key was not taken is ever refused.
func TestRevocationAtReplicas(t *testing.T) {
	if !slow && os.Getenv("KLUIS_REVOCATIONS") == "" {
		t.Skip("SKIPPED: three servers, a database and readers load the machine: CI=true")
	}
	customers, readers, trials := 7, 18, 7
	if os.Getenv("KLUIS_REVOCATIONS") != "" {
		customers, readers, trials = 20, 50, times(t, "KLUIS_REVOCATIONS", 0, 0)
	}
	inS3(t)
	f := makeFleet(t, 3)
	f.patience = patience
	f.serve(t)
	revokeAtReplicas(t, f, "replicas", bound, 4, customers, readers, trials)
}

// TestRevocationOfForeignVaults does the same with vaults that have no change feed, as
// others' have none: the platform asks at each renewal, and what holds is the tenant's bound.
func TestRevocationOfForeignVaults(t *testing.T) {
	if os.Getenv("KLUIS_REVOCATIONS") == "" {
		t.Skip("SKIPPED: each revocation waits for a renewal, half a minute; make proof runs it (KLUIS_REVOCATIONS=N). Package encryption tests it in virtual time.")
	}
	inS3(t)
	f := makeFleet(t, 3)
	f.patience = patience
	f.withoutFeed(t)
	const killSwitch = 60 * time.Second // as it is by default
	revokeAtReplicas(t, f, "foreign", killSwitch, 20, 20, 50, times(t, "KLUIS_REVOCATIONS", 0, 0))
}

// withoutFeed starts the fleet behind something that takes the vaults' change feed from
// them: to the platform they are foreign vaults.
func (f *fleet) withoutFeed(t *testing.T) {
	t.Helper()
	ca, err := localca.Open(filepath.Join(f.data, "tls"), "localhost")
	must(t, err)
	cert, err := ca.Issue()
	must(t, err)
	f.front = devtest.FreePort(t)
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "https", "127.0.0.1:"+f.front }, // the host stays what it was
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 50},
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/changes" {
			http.NotFound(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	s.Listener.Close()
	s.Listener, err = net.Listen("tcp", "127.0.0.1:"+f.port)
	must(t, err)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	f.serve(t)
	closed := f.balancer.close
	f.balancer.close = func() {
		s.Close()
		closed()
	}
}

func revokeAtReplicas(t *testing.T, f *fleet, what string, bound time.Duration, atOnce, customers, readers, trials int) {
	ctx := t.Context()
	var replicas []*sdk.Engineer
	for i := range f.replicas {
		replicas = append(replicas, f.at(t, i).engineer)
	}
	large := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{3}).Read(large)
	all := make([]*subject, customers)
	errs := make([]error, customers)
	var making sync.WaitGroup
	for n := range all {
		own := *f.site
		s := &subject{customer: &customer{site: &own, n: n, key: "key", name: fmt.Sprint("customer-", n), grant: fmt.Sprintf("11111111-2222-4333-8444-%012d", n)}}
		all[n] = s
		making.Go(func() {
			if errs[n] = own.foundVault(ctx, fmt.Sprint("custody-", n)); errs[n] != nil {
				return
			}
			if errs[n] = s.found(ctx); errs[n] != nil {
				return
			}
			if _, errs[n] = s.engineer.Blobs.UploadBuffer(ctx, s.name, streamedFile, large, nil); errs[n] != nil {
				return
			}
			errs[n] = within(ctx, 2*time.Minute, func() error {
				st, err := s.engineer.Fabric.Encryption(ctx, s.id)
				if err == nil && st.Detail.Status != "Active" {
					err = errNotDone(st.Detail.Status)
				}
				return err
			})
		})
	}
	making.Wait()
	must(t, errors.Join(errs...))

	reading, stop := context.WithCancel(ctx)
	defer stop()
	var busy sync.WaitGroup
	var reads, wrong, different atomic.Int64
	for i := range readers {
		s, at, n := all[i%customers], replicas[i%len(replicas)], new(atomic.Int64)
		s.reads = append(s.reads, n)
		file, want := customerFile, []byte(s.name)
		if i%3 == 2 {
			file, want = streamedFile, large
		}
		busy.Go(func() {
			for reading.Err() == nil {
				turn := s.turns.Load()
				err := s.stream(reading, at, file, want)
				switch {
				case err == nil:
					reads.Add(1)
				case refusedByKey(err) && turn%2 == 0 && s.turns.Load() == turn:
					wrong.Add(1)
				case errors.Is(err, errEndedEarly):
					different.Add(1)
				}
				n.Add(1)
				time.Sleep(rand.N(100 * time.Millisecond))
			}
		})
	}

	var mu sync.Mutex
	var found []trial
	var failed error
	var revoking sync.WaitGroup
	began := time.Now()
	for k := range min(atOnce, customers) {
		revoking.Go(func() {
			for n := range trials {
				i := n % customers
				if i%atOnce != k { // each has its customers, whose ways follow each other
					continue
				}
				ways := all[i].ways()
				one, err := all[i].try(ctx, ways[(n/customers+i)%len(ways)], replicas)
				mu.Lock()
				if err == nil {
					found = append(found, one)
				}
				if len(found)%100 == 0 {
					t.Logf("%d revocations in %s", len(found), time.Since(began).Round(time.Second))
				}
				failed = errors.Join(failed, err)
				stopped := failed != nil
				mu.Unlock()
				if stopped {
					return
				}
			}
		})
	}
	revoking.Wait()
	stop()
	busy.Wait()
	must(t, failed)

	var dark, light []time.Duration
	longest := map[string]time.Duration{}
	for _, one := range found {
		dark, light = append(dark, one.dark), append(light, one.light)
		longest[one.way] = max(longest[one.way], one.dark)
		if one.dark > bound {
			t.Errorf("%s: plaintext came %s after the custodian's call had returned, bound %s", one.way, one.dark, bound)
		}
	}
	if wrong.Load() > 0 || different.Load() > 0 || reads.Load() == 0 {
		t.Errorf("%d reads, %d refused for the sake of another's key, %d ended early", reads.Load(), wrong.Load(), different.Load())
	}
	report(t, what+" last byte", dark)
	for _, w := range all[0].ways() {
		if d, ok := longest[w.name]; ok {
			effort.Proof(t, what+"-by-"+strings.ReplaceAll(w.name, " ", "-")+"-max", d.Round(time.Millisecond))
		}
	}
	report(t, what+" back at all", light)
	effort.Proof(t, what+"-reads", reads.Load(), what+"-refused-for-anothers-key", 0)
	for _, p := range f.processes {
		p.stop(t)
	}
	f.balancer.close()
	f.once(t)
	f.fsck(t)
}
