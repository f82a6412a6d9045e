package webhook_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestPublishedSignature is the example of the Standard Webhooks specification.
func TestPublishedSignature(t *testing.T) {
	key, err := webhook.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set(webhook.IDHeader, "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set(webhook.TimestampHeader, "1614265330")
	h.Set(webhook.SignatureHeader, "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	at := time.Unix(1614265330, 0)
	body := []byte(`{"test": 2432232314}`)
	if err := webhook.Verify(key, h, body, at); err != nil {
		t.Error(err)
	}
	for name, x := range map[string]struct {
		body string
		at   time.Time
		key  string
	}{
		"another body":   {`{"test": 2432232315}`, at, string(key)},
		"too old":        {string(body), at.Add(6 * time.Minute), string(key)},
		"of the future":  {string(body), at.Add(-6 * time.Minute), string(key)},
		"another secret": {string(body), at, strings.Repeat("x", 32)},
	} {
		if err := webhook.Verify([]byte(x.key), h, []byte(x.body), x.at); fault.ReasonOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func send(t *testing.T, h http.HandlerFunc) (time.Duration, error) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	s, err := webhook.New(webhook.Config{URL: srv.URL + "/hook?token=geheim", Secret: secret, Roots: pool, ContentType: "application/json"})
	if err != nil {
		t.Fatal(err)
	}
	return s.Send(t.Context(), "id-1", []byte("body"))
}

func TestSend(t *testing.T) {
	key, _ := webhook.ParseSecret(secret)
	if _, err := send(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := webhook.Verify(key, r.Header, body, time.Now()); err != nil || string(body) != "body" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v: %v %s", err, r.Header, body)
		}
		w.WriteHeader(202)
	}); err != nil {
		t.Error(err)
	}
	for name, x := range map[string]struct {
		header, value string
		status        int
		want          fault.Reason
		pause         time.Duration
	}{
		"gone":              {"", "", 410, fault.NotFound, 0},
		"broken":            {"", "", 500, fault.Unavailable, 0},
		"busy":              {"Retry-After", "7", 429, fault.Unavailable, 7 * time.Second},
		"busy until":        {"Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 503, fault.Unavailable, time.Hour},
		"busy in the past":  {"Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT", 503, fault.Unavailable, 0},
		"busy for nonsense": {"Retry-After", "-5", 503, fault.Unavailable, 0},
		"redirect":          {"Location", "https://localhost:1/", 307, fault.Unavailable, 0},
	} {
		asked := 0
		wait, err := send(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if x.header != "" {
				w.Header().Set(x.header, x.value)
			}
			w.WriteHeader(x.status)
		})
		if fault.ReasonOf(err) != x.want || wait < x.pause-2*time.Second || wait > x.pause || asked != 1 {
			t.Errorf("%s: %v, wait %s, asked %d times", name, err, wait, asked)
		}
	}
}

// TestHostileReceivers lets a receiver answer without end, and hang up.
func TestHostileReceivers(t *testing.T) {
	began := time.Now()
	if _, err := send(t, func(w http.ResponseWriter, r *http.Request) {
		for b := make([]byte, 32<<10); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("an endless answer: %v after %s", err, time.Since(began))
	}
	_, err := send(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	if fault.ReasonOf(err) != fault.Unavailable || strings.Contains(err.Error(), "geheim") {
		t.Errorf("a receiver that hangs up: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]webhook.Config{
		"http":         {URL: "http://example.com/", Secret: secret},
		"no host":      {URL: "https:///x", Secret: secret},
		"user":         {URL: "https://a:b@example.com/", Secret: secret},
		"short secret": {URL: "https://example.com/", Secret: "short"},
		"not base64":   {URL: "https://example.com/", Secret: "whsec_*"},
	} {
		if _, err := webhook.New(c); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
