package kpi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// longestRecord bounds a line of a log, in bytes.
const longestRecord = 1 << 20

// An auditEvent is what is wanted of Key Vault's AuditEvent record
// (learn.microsoft.com/azure/key-vault/general/logging).
type auditEvent struct {
	Time          time.Time `json:"time"`
	ResourceID    string    `json:"resourceId"`
	Operation     string    `json:"operationName"`
	Category      string    `json:"category"`
	Signature     string    `json:"resultSignature"`
	Description   string    `json:"resultDescription"`
	CorrelationID string    `json:"correlationId"`
	Identity      struct {
		Claim map[string]any `json:"claim"`
	} `json:"identity"`
	Properties struct {
		ID     string `json:"id"`
		Status int    `json:"httpStatusCode"`
		Kluis  struct {
			Outcome string `json:"outcome"`
			Request string `json:"request"`
		} `json:"kluis"`
	} `json:"properties"`
}

// ReadAuditEvents reads Key Vault's audit log, a line a record, as a diagnostic
// setting writes it and as 'kluis audit export' does. It returns the refusals, and
// the time of the first record, zero if there is none.
//
// A record counts if the vault answered 403, or 401 to a caller that it could name:
// the 401 that asks for a token names none. Azure answers 403 to a disabled key as
// well; where the record is of a kluis vault, only refusals of the caller count.
func ReadAuditEvents(r io.Reader) (all []Attempt, since time.Time, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestRecord)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(bytes.TrimPrefix(lines.Bytes(), []byte("\xef\xbb\xbf")))
		if len(line) == 0 {
			continue
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil || e.Time.IsZero() {
			return nil, time.Time{}, fault.New(fault.InvalidArgument, fmt.Sprintf("Line %d is no record of a key vault's audit log.", n)).
				WithMend("Give lines of JSON, as a diagnostic setting writes them to a storage account, or 'kluis audit export'.")
		}
		if since.IsZero() || e.Time.Before(since) {
			since = e.Time.UTC()
		}
		if a, ok := e.attempt(); ok {
			all = append(all, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, time.Time{}, fault.Wrap(fault.InvalidArgument, err, "The audit log cannot be read.")
	}
	return all, since, nil
}

func (e auditEvent) attempt() (Attempt, bool) {
	if e.Category != "" && !strings.EqualFold(e.Category, "AuditEvent") || !strings.HasPrefix(e.Operation, "Key") {
		return Attempt{}, false
	}
	principal := ""
	for _, name := range []string{"oid", "http://schemas.microsoft.com/identity/claims/objectidentifier", "appid"} {
		if s, ok := e.Identity.Claim[name].(string); ok && s != "" {
			principal = s
			break
		}
	}
	k := e.Properties.Kluis
	switch status := e.Properties.Status; {
	case k.Outcome != "" && k.Outcome != "denied":
		return Attempt{}, false
	case status == 403, status == 401 && principal != "":
	default:
		return Attempt{}, false
	}
	a := Attempt{Time: e.Time.UTC(), Request: k.Request, Principal: principal, Key: e.Properties.ID, Operation: e.Operation, Reason: e.Description}
	if a.Key == "" {
		a.Key = strings.ToLower(e.ResourceID)
	}
	if a.Request == "" && e.CorrelationID != "" {
		// Azure's own correlation id is the client's, which it may use for several
		// requests: together with time and operation it tells copies of a record apart.
		a.Request = e.CorrelationID + " " + e.Operation + " " + a.Key + " " + e.Time.UTC().Format(time.RFC3339Nano)
	}
	return a, true
}
