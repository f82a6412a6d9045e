package export_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var azure = export.Azure{
	Suffix: "vault.example.com", ARM: "https://management.example.com",
	Status: func(r fault.Reason) int {
		return map[fault.Reason]int{fault.Denied: 403, fault.KeyNotFound: 404, fault.Throttled: 429}[r]
	},
}

// TestAuditEvent compares what a real vault recorded with Azure's shape.
func TestAuditEvent(t *testing.T) {
	f := vaulttest.New(t)
	f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "tde")
	c := f.Officer
	c.Correlation = "corr-1"
	_, out, err := f.Vaults.Use(t.Context(), c, "kv1", "tde", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: []byte("secret")})
	check(t, err)
	_, _, err = f.Vaults.Use(t.Context(), vaulttest.Caller(9), "kv1", "tde", b.Version.Version, vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: out.Value})
	if fault.ReasonOf(err) != fault.Denied {
		t.Fatal(err)
	}
	entries, err := f.Log.Entries(t.Context(), audit.Query{Limit: 1000})
	check(t, err)
	lines := map[string]string{}
	for _, e := range entries {
		line, err := azure.Format(e)
		check(t, err)
		lines[e.Operation] = string(line)
	}
	hide := regexp.MustCompile(`"(time":"[0-9-]{10}T[0-9:.]{16}Z|durationMs":"\d+|sequence":\d+|micros":"\d+|(?:assignment|appliedAssignmentId)":"[0-9a-f-]{36}|vault":"[0-9a-f-]{36})"?`)
	clean := func(s string) string {
		s = strings.ReplaceAll(s, string(b.Version.Version), "VERSION")
		return hide.ReplaceAllStringFunc(s, func(m string) string { return strings.SplitN(m, ":", 2)[0] + ":_" })
	}
	scope := strings.ToUpper(string(b.Vault.Scope()))
	officer, other := string(vaulttest.Caller(1).Principal), string(vaulttest.Caller(9).Principal)
	for op, want := range map[string]string{
		"KeyWrap": `{"time":_,"resourceId":"` + scope + `","operationName":"KeyWrap","operationVersion":"","category":"AuditEvent",` +
			`"resultType":"Success","resultSignature":"OK","resultDescription":"","durationMs":_,"callerIpAddress":"","correlationId":"corr-1",` +
			`"identity":{"claim":{"oid":"` + officer + `","appid":"app"}},"properties":{"clientInfo":"",` +
			`"requestUri":"https://kv1.vault.example.com/keys/tde/VERSION/wrapkey","id":"https://kv1.vault.example.com/keys/tde/VERSION",` +
			`"httpStatusCode":200,"algorithm":"RSA-OAEP-256","appliedAssignmentId":_,"kluis":{"sequence":_,"outcome":"allowed","tenant":"` +
			string(vaulttest.Tenant) + `","request":"request-1","detail":{"algorithm":"RSA-OAEP-256","assignment":_,"micros":_,"vault":_,"version":"VERSION"}}}}`,
		"KeyUnwrap": `{"time":_,"resourceId":"` + scope + `","operationName":"KeyUnwrap","operationVersion":"","category":"AuditEvent",` +
			`"resultType":"Failed","resultSignature":"Forbidden","resultDescription":"Denied","durationMs":_,"callerIpAddress":"","correlationId":"request-9",` +
			`"identity":{"claim":{"oid":"` + other + `","appid":"app"}},"properties":{"clientInfo":"",` +
			`"requestUri":"https://kv1.vault.example.com/keys/tde/unwrapkey","id":"https://kv1.vault.example.com/keys/tde",` +
			`"httpStatusCode":403,"algorithm":"RSA-OAEP-256","kluis":{"sequence":_,"outcome":"denied","reason":"Denied","tenant":"` +
			string(vaulttest.Tenant) + `","request":"request-9","detail":{"algorithm":"RSA-OAEP-256","micros":_,"vault":_}}}}`,
	} {
		if d := cmp.Diff(want, clean(lines[op])); d != "" {
			t.Errorf("%s: %s", op, d)
		}
	}
	var put export.AuditEvent
	check(t, json.Unmarshal([]byte(lines["VaultPut"]), &put))
	if put.ResourceID != scope || !strings.EqualFold(put.Properties.RequestURI, "https://management.example.com"+scope) {
		t.Errorf("VaultPut: %+v", put)
	}
}

func TestRequestURIs(t *testing.T) {
	scope := "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1"
	for _, x := range []struct{ op, resource, version, want string }{
		{"KeyGet", scope + "/keys/k", "v1", "/keys/k/v1"},
		{"KeyUpdate", scope + "/keys/k", "v1", "/keys/k/v1"},
		{"KeyCreate", scope + "/keys/k", "v1", "/keys/k/create"},
		{"KeyRotate", scope + "/keys/k", "v1", "/keys/k/rotate"},
		{"KeyDelete", scope + "/keys/k", "v1", "/keys/k"},
		{"KeyListVersions", scope + "/keys/k", "", "/keys/k/versions"},
		{"KeyList", scope, "", "/keys"},
		{"KeyListDeleted", scope, "", "/deletedkeys"},
		{"KeyPurge", scope + "/keys/k", "v1", "/deletedkeys/k"},
		{"KeyRecover", scope + "/keys/k", "v1", "/deletedkeys/k/recover"},
		{"KeyDecrypt", scope + "/keys/k", "v1", "/keys/k/v1/decrypt"},
	} {
		e := audit.Numbered{Entry: audit.Entry{Operation: x.op, Outcome: audit.Allowed, Resource: x.resource, Detail: map[string]string{"version": x.version}}}
		if got := azure.Record(e).Properties.RequestURI; got != "https://kv1.vault.example.com"+x.want {
			t.Errorf("%s: %s", x.op, got)
		}
	}
	if r := azure.Record(audit.Numbered{Entry: audit.Entry{Operation: "audit/restore", Resource: "/audit", Outcome: audit.Allowed}}); r.ResourceID != "/AUDIT" || r.DurationMs != "" {
		t.Errorf("%+v", r)
	}
}

// A fakeLog holds n entries.
type fakeLog struct{ n int64 }

func (l *fakeLog) Entries(_ context.Context, q audit.Query) (out []audit.Numbered, err error) {
	at := int64(0)
	if q.After != nil {
		at = *q.After + 1
	}
	for ; at < l.n && len(out) < q.Limit; at++ {
		out = append(out, entry(at))
	}
	return out, nil
}

func entry(n int64) audit.Numbered {
	return audit.Numbered{Sequence: n, Entry: audit.Entry{
		Time: time.Date(2026, 7, 1, 12, 0, int(n), 5000, time.UTC), Operation: "KeyUnwrap", Outcome: audit.Allowed, Resource: "/r",
	}}
}

// TestFilesHoldEachEntryOnce lets the log grow, files rotate, and the process crash
// in the middle of a line and between a write and its position.
func TestFilesHoldEachEntryOnce(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		dir := filepath.Join(t.TempDir(), "files")
		state, active := dir+".position", filepath.Join(dir, export.FileName)
		log := &fakeLog{}
		now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
		format := []export.Format{export.JSON, azure.Format}[seed%2]
		open := func() (*export.Follower, *export.Files) {
			s := &export.Files{Dir: dir, Format: format, MaxSize: 3000, Now: func() time.Time { return now }}
			return &export.Follower{Log: log, Sink: s, Position: export.File(state)}, s
		}
		f, s := open()
		for range 15 {
			log.n += random.Int64N(15)
			now = now.Add([]time.Duration{time.Second, 25 * time.Hour}[random.IntN(2)])
			position, perr := os.ReadFile(state)
			before, _ := os.ReadFile(active)
			if _, err := f.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if random.IntN(2) == 0 {
				continue
			}
			s.Close() // the process dies before the position is on the disk, and perhaps before all lines are
			after, err := os.ReadFile(active)
			if err == nil {
				fresh := len(after)
				if bytes.HasPrefix(after, before) {
					fresh -= len(before)
				}
				check(t, os.WriteFile(active, after[:len(after)-random.IntN(fresh+1)], 0o600))
			}
			if perr == nil {
				check(t, os.WriteFile(state, position, 0o600))
			} else {
				os.Remove(state)
			}
			f, s = open()
		}
		if _, err := f.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close()
		files, err := filepath.Glob(filepath.Join(dir, "audit-*.ndjson"))
		check(t, err)
		slices.Sort(files)
		if len(files) == 0 {
			t.Errorf("seed %d: nothing was rotated", seed)
		}
		var got []string
		for _, p := range append(files, active) {
			b, err := os.ReadFile(p)
			check(t, err)
			for line := range strings.Lines(string(b)) {
				got = append(got, regexp.MustCompile(`"sequence":(\d+)`).FindStringSubmatch(line)[1])
			}
		}
		for i, n := range got {
			if n != strconv.Itoa(i) {
				t.Fatalf("seed %d: line %d holds entry %s", seed, i, n)
			}
		}
		if int64(len(got)) != log.n {
			t.Fatalf("seed %d: %d lines of %d entries", seed, len(got), log.n)
		}
	}
}

func TestFilesAreDropped(t *testing.T) {
	s := &export.Files{Dir: t.TempDir(), Format: export.JSON, MaxSize: 1, Keep: 2}
	for n := range int64(5) {
		check(t, s.Write(t.Context(), []audit.Numbered{entry(n)}))
	}
	files, err := filepath.Glob(filepath.Join(s.Dir, "*"))
	check(t, err)
	if len(files) != 3 || !strings.HasSuffix(files[1], fmt.Sprintf("-%012d.ndjson", 3)) {
		t.Errorf("%v", files)
	}
	s.Close()
	check(t, os.WriteFile(filepath.Join(s.Dir, export.FileName), []byte("something else\n"), 0o600))
	if err := s.Write(t.Context(), []audit.Numbered{entry(9)}); err == nil {
		t.Error("somebody else's file was written to")
	}
}

// A brittle sink fails as often as it is told.
type brittle struct {
	mu     sync.Mutex
	fail   int
	got    []int64
	closed bool
}

func (b *brittle) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

func (b *brittle) Write(_ context.Context, entries []audit.Numbered) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail > 0 {
		b.fail--
		return errors.New("no")
	}
	for _, e := range entries {
		b.got = append(b.got, e.Sequence)
	}
	return nil
}

func (b *brittle) Close() error { b.closed = true; return nil }

func TestFollowerWaitsForItsSink(t *testing.T) {
	position := filepath.Join(t.TempDir(), "position")
	synctest.Test(t, func(t *testing.T) {
		s := &brittle{fail: 6}
		f := &export.Follower{Name: "test", Log: &fakeLog{1200}, Sink: s, Position: export.File(position)}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		time.Sleep(62 * time.Second) // 1+2+4+8+16+32 are 63
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("%d entries came too early", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		stop()
		<-done
		if len(s.got) != 1200 || !slices.IsSorted(s.got) || !s.closed {
			t.Errorf("%d entries, closed %t", len(s.got), s.closed)
		}
	})
	again := &brittle{}
	f := &export.Follower{Log: &fakeLog{1201}, Sink: again, Position: export.File(position)}
	if more, err := f.Step(t.Context()); err != nil || more || !slices.Equal(again.got, []int64{1200}) {
		t.Errorf("after a restart: %v, %t, %v", again.got, more, err)
	}
}

var header = regexp.MustCompile(`^<110>1 2026-07-01T12:00:\d\d\.000005Z host kluis - KeyUnwrap \[meta sequenceId="(\d+)"\] \{.*\}$`)

// receive reads octet-counted messages.
func receive(c net.Conn, out chan<- string) {
	r := bufio.NewReader(c)
	for {
		n, err := r.ReadString(' ')
		if err != nil {
			return
		}
		size, err := strconv.Atoi(strings.TrimSpace(n))
		if err != nil {
			out <- "bad frame " + n
			return
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		out <- string(b)
	}
}

func expect(t *testing.T, got <-chan string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		select {
		case m := <-got:
			if h := header.FindStringSubmatch(m); h == nil || h[1] != id {
				t.Errorf("message %s, want sequenceId %s", m, id)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no message %s came", id)
		}
	}
}

func TestSyslogStream(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS() // for its certificate
	defer ts.Close()
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(t, err)
			defer l.Close()
			if network == "tls" {
				l = tls.NewListener(l, &tls.Config{Certificates: ts.TLS.Certificates})
			}
			got, conns := make(chan string, 10), make(chan net.Conn, 10)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					conns <- c
					go receive(c, got)
				}
			}()
			s := &export.Syslog{Network: network, Address: l.Addr().String(), Hostname: "host", Format: export.JSON}
			defer s.Close()
			if network == "tls" {
				if err := s.Write(t.Context(), []audit.Numbered{entry(0)}); err == nil {
					t.Error("an unknown authority's certificate was taken")
				}
				pool := x509.NewCertPool()
				pool.AddCert(ts.Certificate())
				s.TLS = &tls.Config{RootCAs: pool, ServerName: "example.com"}
			}
			check(t, s.Write(t.Context(), []audit.Numbered{entry(0), entry(1)}))
			expect(t, got, "1", "2")
			for len(conns) > 0 {
				(<-conns).Close()
			}
			for deadline := time.Now().Add(5 * time.Second); ; { // until the far end's going is noticed
				if err := s.Write(t.Context(), []audit.Numbered{entry(2)}); err == nil {
					select {
					case <-got:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
				if time.Now().After(deadline) {
					t.Fatal("nothing came after a reconnection")
				}
			}
		})
	}
}

func TestSyslogDatagrams(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	defer c.Close()
	got := make(chan string, 10)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	s := &export.Syslog{Network: "udp", Address: c.LocalAddr().String(), Hostname: "host", Format: export.JSON}
	defer s.Close()
	check(t, s.Write(t.Context(), []audit.Numbered{entry(3), entry(4)}))
	expect(t, got, "4", "5")
}

func TestSyslogSeverity(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(t, err)
	defer c.Close()
	s := &export.Syslog{Network: "udp", Address: c.LocalAddr().String(), Format: export.JSON}
	defer s.Close()
	for outcome, want := range map[audit.Outcome]string{audit.Allowed: "<110>1", audit.Denied: "<108>1", audit.Failed: "<107>1"} {
		e := entry(0)
		e.Outcome, e.Operation = outcome, "a b\n"
		check(t, s.Write(t.Context(), []audit.Numbered{e}))
		b := make([]byte, 4096)
		check(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, _, err := c.ReadFrom(b)
		check(t, err)
		if f := strings.Fields(string(b[:n])); f[0] != want || f[2] != "-" || f[5] != "ab" {
			t.Errorf("%s: %s", outcome, b[:n])
		}
	}
}
