package kek_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

var share = []byte("0123456789abcdef0123456789abcdef")

// TestAnswers is the table of answers of the design, over the wire: what the vault
// or the directory does, and what it means.
func TestAnswers(t *testing.T) {
	const (
		refused     = fault.KEKRefused
		gone        = fault.KEKVaultGone
		token       = fault.KEKTokenRefused
		unreachable = fault.KEKUnreachable
		integrity   = fault.KEKIntegrity
	)
	var flooded int64
	vault := func(l kektest.Lie) func(*kektest.Server) {
		return func(s *kektest.Server) { s.Always(kektest.Unwrap, l) }
	}
	directory := func(l kektest.Lie) func(*kektest.Server) {
		return func(s *kektest.Server) { s.Always(kektest.Token, l) }
	}
	discovery := func(l kektest.Lie) func(*kektest.Server) {
		return func(s *kektest.Server) { s.Always(kektest.Discovery, l) }
	}
	t.Run("each", func(t *testing.T) {
		for _, tc := range []struct {
			name    string
			arrange func(*kektest.Server)
			reason  fault.Reason
			because error
			alert   bool
		}{
			{"403 ForbiddenByRbac", vault(kektest.Status(403, "ForbiddenByRbac")), refused, fault.Denied, false},
			{"403 AccessDenied", vault(kektest.Status(403, "AccessDenied")), refused, fault.Denied, false},
			{"403 ForbiddenByFirewall", vault(kektest.Status(403, "ForbiddenByFirewall")), refused, fault.Denied, false},
			{"403 ForbiddenByConnection", vault(kektest.Status(403, "ForbiddenByConnection")), refused, fault.Denied, false},
			{"403 KeyDisabled", vault(kektest.Status(403, "KeyDisabled")), refused, fault.KeyDisabled, false},
			{"403 KeyNotYetValid", vault(kektest.Status(403, "KeyNotYetValid")), refused, fault.KeyNotYetValid, false},
			{"403 KeyExpired", vault(kektest.Status(403, "KeyExpired")), refused, fault.KeyExpired, false},
			{"403 KeyOperationForbidden", vault(kektest.Status(403, "KeyOperationForbidden")), refused, fault.KeyOperationForbidden, false},
			{"403 with an unknown code", vault(kektest.Status(403, "Novel")), refused, fault.Denied, false},
			{"403 with a hostile code", vault(kektest.Status(403, "\r\nlevel=info")), refused, fault.Denied, false},
			{"403 without a body", vault(kektest.Raw(403, "")), refused, fault.Denied, false},
			{"404 KeyNotFound", vault(kektest.Status(404, "KeyNotFound")), refused, fault.KeyNotFound, false},
			{"404 without a body", vault(kektest.Raw(404, "")), refused, fault.KeyNotFound, false},
			{"404 VaultNotFound", vault(kektest.Status(404, "VaultNotFound")), gone, fault.VaultNotFound, false},
			{"401 to every token", vault(kektest.Status(401, "Unauthorized")), token, fault.Unauthenticated, false},
			{"401 to every token, no challenge", vault(kektest.Raw(401, "")), token, fault.Unauthenticated, false},

			{"disabled", func(s *kektest.Server) { s.SetEnabled("k", false) }, refused, fault.KeyDisabled, false},
			{"deleted", func(s *kektest.Server) { s.Delete("k") }, refused, fault.KeyNotFound, false},
			{"role removed", func(s *kektest.Server) { s.Grant(false) }, refused, fault.Denied, false},
			{"vault removed", func(s *kektest.Server) { s.Remove(true) }, gone, fault.VaultNotFound, false},

			{"invalid_client", directory(kektest.OAuth(401, "invalid_client", "")), token, fault.InvalidClient, false},
			{"wrong secret", directory(kektest.OAuth(401, "invalid_client", "AADSTS7000215: Invalid client secret")), token, fault.InvalidClient, false},
			{"expired secret", directory(kektest.OAuth(401, "invalid_client", "AADSTS7000222: expired")), token, fault.InvalidClient, false},
			{"unknown principal", directory(kektest.OAuth(400, "unauthorized_client", "AADSTS700016: not found")), token, fault.PrincipalNotFound, false},
			{"disabled principal", directory(kektest.OAuth(400, "unauthorized_client", "AADSTS7000112: disabled")), token, fault.PrincipalNotFound, false},
			{"unauthorized_client", directory(kektest.OAuth(400, "unauthorized_client", "")), token, fault.PrincipalNotFound, false},
			{"unknown tenant", directory(kektest.OAuth(400, "invalid_request", "AADSTS90002: Tenant not found")), token, fault.TenantNotFound, false},
			{"unknown tenant at discovery", discovery(kektest.OAuth(400, "invalid_tenant", "AADSTS90002: Tenant not found")), token, fault.TenantNotFound, false},

			{"408", vault(kektest.Status(408, "")), unreachable, nil, false},
			{"429", vault(kektest.Throttle("")), unreachable, nil, false},
			{"429 with Retry-After", vault(kektest.Throttle("60")), unreachable, nil, false},
			{"500", vault(kektest.Status(500, "InternalServerError")), unreachable, nil, false},
			{"502", vault(kektest.Raw(502, "<html>")), unreachable, nil, false},
			{"503 that claims KeyDisabled", vault(kektest.Status(503, "KeyDisabled")), unreachable, nil, false},
			{"hang", vault(kektest.Hang()), unreachable, nil, false},
			{"hang at the challenge", func(s *kektest.Server) { s.Always(kektest.Challenge, kektest.Hang()) }, unreachable, nil, false},
			{"drip", vault(kektest.Drip()), unreachable, nil, false},
			{"cut", vault(kektest.Cut()), unreachable, nil, false},
			{"disconnected", func(s *kektest.Server) { s.Disconnect(true) }, unreachable, nil, false},
			{"expired certificate", func(s *kektest.Server) { s.ExpireCertificate(true) }, unreachable, nil, false},
			{"directory hangs", directory(kektest.Hang()), unreachable, nil, false},
			{"directory cut", directory(kektest.Cut()), unreachable, nil, false},
			{"directory 429", directory(kektest.OAuth(429, "invalid_client", "")), unreachable, nil, false},
			{"directory 500", directory(kektest.OAuth(500, "server_error", "")), unreachable, nil, false},
			{"directory 503 that claims invalid_client", directory(kektest.OAuth(503, "invalid_client", "")), unreachable, nil, false},
			{"temporarily_unavailable", directory(kektest.OAuth(400, "temporarily_unavailable", "AADSTS90033")), unreachable, nil, false},

			{"another kid", vault(kektest.WrongKID()), integrity, kek.ErrWrongKID, true},
			{"no kid", vault(kektest.NoKID()), integrity, kek.ErrWrongKID, true},
			{"31 bytes", vault(kektest.Result(share[:31])), integrity, kek.ErrWrongLength, true},
			{"33 bytes", vault(kektest.Result(append(slices.Clone(share), 0))), integrity, kek.ErrWrongLength, true},
			{"no bytes", vault(kektest.Result(nil)), integrity, kek.ErrWrongLength, true},

			{"400", vault(kektest.Status(400, "BadParameter")), unreachable, nil, true},
			{"409", vault(kektest.Status(409, "Conflict")), unreachable, nil, true},
			{"418", vault(kektest.Status(418, "Teapot")), unreachable, nil, true},
			{"204", vault(kektest.Raw(204, "")), unreachable, nil, true},
			{"302", vault(kektest.Redirect(302, "https://example.com/")), unreachable, nil, true},
			{"307", vault(kektest.Redirect(307, "https://example.com/")), unreachable, nil, true},
			{"400 that claims KeyDisabled", vault(kektest.Status(400, "KeyDisabled")), unreachable, nil, true},
			{"garbage", vault(kektest.Garbage()), unreachable, kek.ErrMalformed, true},
			{"truncated", vault(kektest.Truncated()), unreachable, kek.ErrMalformed, true},
			{"10 GB", vault(kektest.Flood(&flooded)), unreachable, kek.ErrMalformed, true},
			{"401 before any token without a challenge", func(s *kektest.Server) { s.Always(kektest.Challenge, kektest.Ask("")) }, unreachable, nil, true},
			{"access_denied", directory(kektest.OAuth(400, "access_denied", "")), unreachable, nil, true},
			{"invalid_scope", directory(kektest.OAuth(400, "invalid_scope", "AADSTS70011")), unreachable, nil, true},
			{"directory 418 that claims invalid_client", directory(kektest.OAuth(418, "invalid_client", "")), unreachable, nil, true},
		} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				s := kektest.New(t)
				id := s.Create("k")
				config := s.Config()
				if strings.Contains(tc.name, "hang") || tc.name == "drip" {
					config.Timeout = 500 * time.Millisecond
				} else {
					config.Timeout = time.Minute // a slow machine is not the vault's silence
				}
				c := kek.NewClient(config)
				t.Cleanup(c.Close)
				// Wrapped by the same vault in memory, so that the client begins as strangers do.
				wrapped, err := s.Wrap(t.Context(), kektest.Tenant, s.Newest("k"), kek.RSAOAEP256, share)
				if err != nil {
					t.Fatal(err)
				}
				tc.arrange(s)
				got, err := c.Unwrap(t.Context(), kektest.Tenant, s.Newest("k"), kek.RSAOAEP256, wrapped)
				if got != nil || fault.ReasonOf(err) != tc.reason {
					t.Fatalf("Unwrap = %d bytes, %v; want %s", len(got), err, tc.reason)
				}
				if tc.because != nil && !errors.Is(err, tc.because) {
					t.Errorf("error %v does not say %v", err, tc.because)
				}
				if kek.Alert(err) != tc.alert {
					t.Errorf("Alert = %v, want %v: %v", !tc.alert, tc.alert, err)
				}
				f := fault.As(err)
				if f.Subject != string(s.Newest("k")) || f.Detail == "" || strings.Contains(f.Public(), "{") {
					t.Errorf("error is of little help: %q about %q", f.Public(), f.Subject)
				}
				if f.Reason.RefusedByVault() && f.Mend == "" {
					t.Errorf("no mend for %v", err)
				}
				if strings.ContainsAny(err.Error(), "\r\x00") || strings.Contains(err.Error(), kektest.Secret) {
					t.Errorf("error carries the other side's text: %q", err)
				}
				// Whatever it was, it is not remembered.
				if tc.reason == unreachable || tc.reason == integrity {
					honest(s)
					got, err := kekUnwrap(c, s, id, wrapped)
					for began := time.Now(); fault.ReasonOf(err) == unreachable && time.Since(began) < time.Minute; {
						got, err = kekUnwrap(c, s, id, wrapped) // a busy machine is slower than half a second
					}
					if err != nil || string(got) != string(share) {
						t.Errorf("afterwards, Unwrap = %q, %v", got, err)
					}
				}
			})
		}
	})
	if flooded > 64<<20 { // what the kernel's buffers take
		t.Errorf("the client let itself be fed %d bytes of a flood", flooded)
	}
}

func honest(s *kektest.Server) {
	for _, step := range []kektest.Step{kektest.Challenge, kektest.Unwrap, kektest.Token, kektest.Discovery} {
		s.Always(step, nil)
	}
	s.Disconnect(false)
	s.ExpireCertificate(false)
}

func kekUnwrap(c *kek.Client, s *kektest.Server, id kek.KeyIdentifier, wrapped []byte) ([]byte, error) {
	var last error
	for range 3 { // a connection that was just cut may be picked again
		got, err := c.Unwrap(context.Background(), kektest.Tenant, s.Newest(id.Name()), kek.RSAOAEP256, wrapped)
		if err == nil {
			return got, nil
		}
		last = err
	}
	return nil, last
}

// TestTableHasNoDeadRow gives the table every answer that its own rows can fit, and
// demands that each row is the first to fit one of them.
func TestTableHasNoDeadRow(t *testing.T) {
	texts := make(map[string]int)
	for _, from := range []kek.Party{kek.Vault, kek.Directory} {
		for status := range 600 {
			for _, row := range kek.Table() {
				codes := append([]string{"", "Unforeseen"}, row.Codes...)
				for _, code := range codes {
					for _, fresh := range []bool{true, false} {
						a := kek.Answer{From: from, Op: kek.OpGet, Status: status, Code: code, Fresh: fresh, Err: row.Err}
						f := a.Fault("")
						texts[fmt.Sprint(f.Reason, f.Detail, kek.Alert(f))]++
						no := f.Reason.RefusedByVault()
						if no && (status < 400 || status > 404 || row.Err != nil) {
							t.Fatalf("%v %d %q %v is taken for a no", from, status, code, row.Err)
						}
						if from == kek.Vault && row.Err == nil && (status == 403 || status == 404 || status == 401 && fresh) != no {
							t.Fatalf("vault's %d %q, fresh %v: %v", status, code, fresh, f)
						}
					}
				}
			}
		}
	}
	// Two rows say the same of a vault that does not answer; the rest differ.
	if got, want := len(texts), len(kek.Table())-1; got < want {
		t.Errorf("%d different meanings for %d rows: %v", got, want, texts)
	}
}

func TestRetryAfter(t *testing.T) {
	s := kektest.New(t)
	s.Create("k")
	c := s.Client()
	for header, want := range map[string]time.Duration{
		"":                     0,
		"1":                    time.Second,
		"60":                   time.Minute,
		"-5":                   0,
		"soon":                 0,
		"9999999":              time.Hour,
		"99999999999999999999": 0,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		s.Script(kektest.Get, kektest.Throttle(header))
		_, err := c.Get(t.Context(), kektest.Tenant, s.Newest("k"))
		if a := kek.AnswerOf(err); a == nil || a.Status != 429 || a.RetryAfter != want {
			t.Errorf("Retry-After %q: %+v, want %v", header, a, want)
		}
	}
}

func TestCallerGivesUp(t *testing.T) {
	s := kektest.New(t)
	s.Create("k")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Client().Get(ctx, kektest.Tenant, s.Newest("k"))
	if !errors.Is(err, context.Canceled) || fault.ReasonOf(err) != fault.KEKUnreachable {
		t.Errorf("Get = %v", err)
	}
}
