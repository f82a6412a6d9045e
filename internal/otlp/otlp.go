// Package otlp posts log records to a collector: OTLP/HTTP 1, in its JSON encoding
// (opentelemetry.io/docs/specs/otlp), of which it speaks the little that logs take. The
// official exporter brings gRPC and some eighty modules.
package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// Bounds of one request.
const (
	timeout    = 30 * time.Second
	answerSize = 64 << 10 // bytes read of an answer
)

// A Severity is a log record's, by OpenTelemetry's numbers.
type Severity int

// The severities that there are here.
const (
	Info  Severity = 9
	Warn  Severity = 13
	Error Severity = 17
)

var severityText = map[Severity]string{Info: "INFO", Warn: "WARN", Error: "ERROR"}

// An Attribute is one of a record or resource: a text, or a number.
type Attribute struct {
	Key    string
	Text   string
	Number *int64 // if it is not nil
}

// MarshalJSON writes the attribute as OTLP does: 64-bit numbers are texts in JSON.
func (a Attribute) MarshalJSON() ([]byte, error) {
	v := map[string]string{"stringValue": a.Text}
	if a.Number != nil {
		v = map[string]string{"intValue": strconv.FormatInt(*a.Number, 10)}
	}
	return json.Marshal(map[string]any{"key": a.Key, "value": v})
}

// A Record is one log record.
type Record struct {
	Time       time.Time
	Severity   Severity
	Event      string // what happened, as one word
	Body       string
	Attributes []Attribute
}

type logRecord struct {
	Time       string            `json:"timeUnixNano"`
	Observed   string            `json:"observedTimeUnixNano"`
	Severity   Severity          `json:"severityNumber"`
	Text       string            `json:"severityText"`
	Event      string            `json:"eventName,omitempty"`
	Body       map[string]string `json:"body"`
	Attributes []Attribute       `json:"attributes,omitempty"`
}

type (
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	scopeLogs struct {
		Scope   scope       `json:"scope"`
		Records []logRecord `json:"logRecords"`
	}
	resource struct {
		Attributes []Attribute `json:"attributes"`
	}
	resourceLogs struct {
		Resource resource    `json:"resource"`
		Scopes   []scopeLogs `json:"scopeLogs"`
	}
	request struct {
		Resources []resourceLogs `json:"resourceLogs"`
	}
	answer struct {
		Partial struct {
			Rejected json.Number `json:"rejectedLogRecords"` // a text, by the specification
			Message  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
)

// Config is what [New] needs.
type Config struct {
	URL      string // https; http is for this machine alone
	Token    string // sent as a bearer token; none if it is ""
	Roots    *x509.CertPool
	Resource []Attribute // who sends: service.name and so on
	Scope    string      // what in it
	Version  string      // of that
}

// A Client posts to one collector. It follows no redirect.
type Client struct {
	config Config
	http   *http.Client
}

// New returns a client.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fault.New(fault.InvalidArgument, "An OTLP collector needs an https URL without user and password, such as https://collector.example.com:4318/v1/logs; http is for this machine alone.")
	}
	return &Client{config: c, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A Rejected error says that the collector took some of the records and will not take
// the rest, however often they come.
type Rejected struct {
	Records int64
	Message string // the collector's
}

func (r *Rejected) Error() string {
	return fmt.Sprintf("the collector rejected %d log records: %.200q", r.Records, r.Message)
}

// Export posts records, all in one request. It fails with [Rejected] if the collector
// has taken only some.
func (c *Client) Export(ctx context.Context, records []Record) error {
	logs := scopeLogs{Scope: scope{c.config.Scope, c.config.Version}}
	now := nanos(time.Now())
	for _, r := range records {
		logs.Records = append(logs.Records, logRecord{
			Time: nanos(r.Time), Observed: now, Severity: r.Severity, Text: severityText[r.Severity], Event: r.Event,
			Body: map[string]string{"stringValue": r.Body}, Attributes: r.Attributes,
		})
	}
	body, err := json.Marshal(request{[]resourceLogs{{resource{c.config.Resource}, []scopeLogs{logs}}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "kluis")
	if c.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerSize))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector answered %s", res.Status)
	}
	if err != nil {
		return err
	}
	var a answer
	if len(text) > 0 && json.Unmarshal(text, &a) != nil {
		return errors.New("the collector's answer is not OTLP in JSON")
	}
	if n, _ := a.Partial.Rejected.Int64(); n > 0 {
		return &Rejected{n, a.Partial.Message}
	}
	return nil
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
