package otlp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
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
	text, err := c.post(ctx, "application/json", body)
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
