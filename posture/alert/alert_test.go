package alert_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

var start = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// A receiver plays the other end.
type receiver struct {
	err error
	got []string // ids and severities
}

func (r *receiver) Send(_ context.Context, m alert.Message) error {
	if r.err == nil {
		r.got = append(r.got, strings.TrimPrefix(m.ID, m.Alert.ID)+" "+string(m.Alert.Kind)+" "+string(m.Alert.Severity))
	}
	return r.err
}

func (r *receiver) take() []string {
	got := r.got
	r.got = nil
	return got
}

func database(t *testing.T) *enginetest.DB {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.GovernanceSchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// An alert's life: told once, not again; again when it gets worse, when nobody has
// said anything for a day, when an acknowledgement runs out; resolved by itself; and
// kept for a sink that is down.
func TestLife(t *testing.T) {
	s := database(t).Alert()
	now := start
	var signals []alert.Signal
	var blind error
	siem, mail := &receiver{}, &receiver{}
	board := alert.New(alert.Config{
		Store: s, Sinks: map[string]alert.Sink{"siem": siem, "mail": mail}, Now: func() time.Time { return now },
		Signal: func(context.Context, time.Time) ([]alert.Signal, error) { return signals, blind },
	})
	near := alert.Signal{Kind: alert.KeyNearExpiry, Subject: "https://v/keys/k", Severity: posture.Medium}
	step := func(after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		if err := board.Step(t.Context()); err != nil && blind == nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, siem.take()); d != "" {
			t.Error(d)
		}
	}
	step(0)
	signals = []alert.Signal{near, near}
	step(time.Minute, "-1 KeyNearExpiry medium")
	step(time.Minute)
	near.Severity = posture.High
	signals = []alert.Signal{near}
	step(time.Minute, "-2 KeyNearExpiry high")
	near.Severity = posture.Medium // it gets better, which is no news
	signals = []alert.Signal{near}
	step(time.Minute)
	step(25*time.Hour, "-3 KeyNearExpiry medium")

	ack := alert.Ack{By: "ann", At: now, Until: now.Add(48 * time.Hour)}
	if _, err := alert.Acknowledge(t.Context(), s, near.ID()[:6], ack); err != nil {
		t.Fatal(err)
	}
	step(25 * time.Hour)
	all, err := alert.List(t.Context(), s, false)
	if err != nil || len(all) != 1 || all[0].State(now) != "acknowledged" || all[0].State(now.Add(24*time.Hour)) != "active" {
		t.Errorf("%+v %v", all, err)
	}
	step(24*time.Hour, "-4 KeyNearExpiry medium") // it ran out
	if _, err := alert.Acknowledge(t.Context(), s, near.ID(), alert.Ack{By: "ann", At: now, Until: now.Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	near.Severity = posture.Critical
	signals = []alert.Signal{near}
	step(time.Minute, "-5 KeyNearExpiry critical") // worse than what was acknowledged

	blind, signals = errors.New("no log"), nil
	step(time.Minute) // who cannot see resolves nothing
	if all, _ := alert.List(t.Context(), s, false); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	blind = nil
	step(time.Minute)
	if all, _ := alert.List(t.Context(), s, false); len(all) != 0 {
		t.Errorf("%+v", all)
	}

	mail.take()
	mail.err = errors.New("down")
	signals = []alert.Signal{near}
	step(time.Minute, "-6 KeyNearExpiry critical") // it is back, and one sink is down
	step(time.Minute)
	mail.err = nil
	step(time.Minute)
	if got := mail.take(); !slices.Equal(got, []string{"-6 KeyNearExpiry critical"}) {
		t.Errorf("mail got %q", got)
	}
	signals = nil
	step(time.Minute)
	step(31 * 24 * time.Hour)
	if all, _ := alert.List(t.Context(), s, true); len(all) != 0 {
		t.Errorf("a month later: %+v", all)
	}
}

func TestAcknowledge(t *testing.T) {
	s := database(t).Alert()
	for _, ack := range []alert.Ack{{}, {By: "ann", At: start, Until: start}, {By: "ann", At: start, Until: start.AddDate(1, 0, 0)}} {
		if _, err := alert.Acknowledge(t.Context(), s, "x", ack); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%+v: %v", ack, err)
		}
	}
	if _, err := alert.Acknowledge(t.Context(), s, "x", alert.Ack{By: "ann", At: start, Until: start.Add(time.Hour)}); !errors.Is(err, fault.NotFound) {
		t.Errorf("no alert: %v", err)
	}
}

// What scans say of keys and guardrails.
func TestFromScans(t *testing.T) {
	s := database(t).Posture()
	day := func(n int) *time.Time { return new(start.AddDate(0, 0, n)) }
	key := func(name string, dependants int, enabled bool, expires, due *time.Time) posture.KeyRecord {
		return posture.KeyRecord{Key: "https://v/keys/" + name, Read: true, Dependants: dependants, Due: due,
			Versions: []posture.VersionRecord{{Version: "1", Enabled: &enabled, Expires: expires}}}
	}
	deleted := key("deleted", 2, true, nil, nil)
	deleted.Deleted = true
	scan := func(at time.Time, findings ...posture.Finding) {
		t.Helper()
		found := &posture.Scan{Time: at, Findings: findings, Register: &posture.Register{Keys: []posture.KeyRecord{
			key("far", 1, true, day(99), nil), key("month", 1, true, day(29), nil), key("fortnight", 1, true, day(13), nil), key("week", 1, true, day(6), nil),
			key("tomorrow", 1, true, new(start.Add(20*time.Hour)), nil), key("over", 1, true, day(-1), nil), key("unused", 0, true, day(6), nil),
			key("rotates", 1, true, day(6), day(3)), key("late", 1, true, day(400), day(-3)), key("off", 3, false, nil, nil), key("off-unused", 0, false, nil, nil), deleted,
		}}}
		if _, err := history.Record(t.Context(), s, "e", "test", found); err != nil {
			t.Fatal(err)
		}
	}
	old := posture.Finding{ID: "1", Control: "G2", Resource: "/v1", Severity: posture.High, State: "fail"}
	scan(start.Add(-2*time.Hour), old)
	scan(start.Add(-time.Hour), old,
		posture.Finding{ID: "2", Control: "G4", Resource: "/v2", Severity: posture.Medium, State: "fail"},
		posture.Finding{ID: "3", Control: "G15", Resource: "/v3", State: "unknown"}, posture.Finding{ID: "4", Control: "CMK/x", Resource: "/r", State: "fail"})
	all, keys, err := alert.FromScans(t.Context(), s, start)
	if err != nil || len(keys) != 12 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	var got []string
	for _, s := range append(all, alert.FromDown([]alert.Down{{Vault: "V", Key: "FAR", How: "disabled"}, {Vault: "other", Key: "far"}, {Vault: "v", Key: "unused"}}, keys)...) {
		if s.Detail == "" || s.Mend == "" && s.Kind != alert.GuardrailChanged {
			t.Errorf("%+v does not say enough", s)
		}
		got = append(got, fmt.Sprint(s.Kind, " ", strings.TrimPrefix(s.Subject, "https://v/keys/"), " ", s.Severity))
	}
	slices.Sort(got)
	want := []string{
		"GuardrailChanged G4 /v2 medium", "KeyNearExpiry fortnight medium", "KeyNearExpiry month low", "KeyNearExpiry over critical", "KeyNearExpiry tomorrow critical",
		"KeyNearExpiry unused low", "KeyNearExpiry week high", "KeyUnavailable deleted critical", "KeyUnavailable far critical", "KeyUnavailable off critical", "RotationOverdue late high",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if all, _, err := alert.FromScans(t.Context(), s, start.AddDate(0, 1, 0)); err != nil || len(all) != 0 {
		t.Errorf("a month without scans says %v: %v", all, err)
	}
}

func TestFromAttempts(t *testing.T) {
	var attempts []kpi.Attempt
	for i := range 12 {
		attempts = append(attempts, kpi.Attempt{Time: start.Add(-time.Duration(i) * time.Minute), Principal: "eve"})
	}
	attempts = append(attempts, kpi.Attempt{Time: start.Add(-2 * time.Hour), Principal: "bob"}, kpi.Attempt{Time: start.AddDate(0, 0, -2), Principal: "old"})
	var got []string
	for _, s := range alert.FromAttempts(attempts, start) {
		got = append(got, string(s.Kind)+" "+s.Subject)
	}
	if d := cmp.Diff([]string{"AttemptFirstSeen eve", "AttemptRate eve", "AttemptFirstSeen bob"}, got); d != "" {
		t.Error(d)
	}
}

func TestCloudEvent(t *testing.T) {
	m := alert.Message{ID: "a-1", Alert: alert.Alert{ID: "a", Kind: alert.AttemptRate, Subject: "eve", Told: start, Failure: "x", Pending: []string{"y"}}}
	body, err := m.CloudEvent("/kluis/1")
	var got map[string]any
	if jerr := json.Unmarshal(body, &got); err != nil || jerr != nil {
		t.Fatal(err, jerr)
	}
	data := got["data"].(map[string]any)
	if got["specversion"] != "1.0" || got["id"] != "a-1" || got["type"] != "io.kluis.posture.alert.AttemptRate" || data["pendingAt"] != nil || data["deliveryError"] != nil {
		t.Errorf("%s", body)
	}
}

// smtp is a server on loopback, which offers STARTTLS if it has a certificate, and
// takes passwords only then. It gives what it is told.
func smtp(t *testing.T, certificate *tls.Certificate) (address string, letters chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	letters = make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "220 test ESMTP\r\n")
				in := bufio.NewScanner(c)
				var letter strings.Builder
				inData, safe := false, false
				for in.Scan() {
					line := in.Text()
					letter.WriteString(line + "\n")
					switch {
					case inData && line == ".":
						inData = false
						letters <- letter.String()
						fmt.Fprint(c, "250 taken\r\n")
					case inData:
					case strings.HasPrefix(line, "EHLO") && certificate != nil && !safe:
						fmt.Fprint(c, "250-test\r\n250 STARTTLS\r\n")
					case strings.HasPrefix(line, "EHLO") && safe:
						fmt.Fprint(c, "250-test\r\n250 AUTH PLAIN\r\n")
					case line == "STARTTLS" && certificate != nil:
						fmt.Fprint(c, "220 go on\r\n")
						c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*certificate}})
						in, safe = bufio.NewScanner(c), true
					case strings.HasPrefix(line, "AUTH PLAIN "):
						fmt.Fprint(c, "235 welcome\r\n")
					case line == "DATA":
						inData = true
						fmt.Fprint(c, "354 go on\r\n")
					case line == "QUIT":
						fmt.Fprint(c, "221 bye\r\n")
						return
					default:
						fmt.Fprint(c, "250 test\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String(), letters
}

func TestMail(t *testing.T) {
	address, letters := smtp(t, nil)
	m := alert.Mail{Server: address, Security: "none", From: "kluis@example.com", To: []string{"soc@example.com", "ann@example.com"}}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	a := alert.Alert{ID: "abc", Kind: alert.AttemptRate, Subject: "eve\r\nBcc: mallory@example.com", Severity: posture.High, Detail: "refused", Mend: "look", Told: start, First: start, Times: 2}
	if err := m.Send(t.Context(), alert.Message{ID: "abc-2", Alert: a}); err != nil {
		t.Fatal(err)
	}
	letter := <-letters
	head, _, _ := strings.Cut(letter, "\n\n")
	for _, want := range []string{"Message-ID: <abc-2@kluis>", "[kluis] high: AttemptRate eve", "Auto-Submitted: auto-generated", "RCPT TO:<soc@example.com>", "RCPT TO:<ann@example.com>", "To: <soc@example.com>, <ann@example.com>"} {
		if !strings.Contains(head, want) {
			t.Errorf("no %q in\n%s", want, letter)
		}
	}
	if !strings.Contains(letter, "kluis posture alerts ack abc") || strings.Contains(head, "\nBcc:") {
		t.Error(letter)
	}
	m.Security = "starttls"
	if err := m.Send(t.Context(), alert.Message{ID: "abc-3", Alert: a}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a server without TLS: %v", err)
	}
	web := httptest.NewTLSServer(nil) // for its certificate, which is of 127.0.0.1
	defer web.Close()
	address, letters = smtp(t, &web.TLS.Certificates[0])
	m = alert.Mail{Server: address, Username: "kluis", Password: "secret", From: "kluis@example.com", To: []string{"soc@example.com"}, TLS: &tls.Config{RootCAs: x509.NewCertPool()}}
	if err := m.Send(t.Context(), alert.Message{ID: "abc-4", Alert: a}); !errors.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a server whose certificate nobody knows: %v", err)
	}
	m.TLS.RootCAs.AddCert(web.Certificate())
	if err := m.Send(t.Context(), alert.Message{ID: "abc-5", Alert: a}); err != nil {
		t.Fatal(err)
	}
	if letter := <-letters; !strings.Contains(letter, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00kluis\x00secret"))) || !strings.Contains(letter, "abc-5@kluis") {
		t.Error(letter)
	}
	for _, bad := range []alert.Mail{
		{}, {Server: "mail.example.com:25", Security: "none", From: "a@b.c", To: []string{"a@b.c"}}, {Server: "mail.example.com:25", Security: "ssl", From: "a@b.c", To: []string{"a@b.c"}},
		{Server: "mail.example.com", From: "a@b.c", To: []string{"a@b.c"}}, {Server: "mail.example.com:25", From: "nobody", To: []string{"a@b.c"}}, {Server: "mail.example.com:25", From: "a@b.c"},
	} {
		if err := bad.Check(); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
