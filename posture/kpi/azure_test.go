package kpi_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture/kpi"
)

func TestReadAuditEvents(t *testing.T) {
	const log = "\xef\xbb\xbf" + `{"time":"2026-01-05T00:00:00.1234567Z","category":"AuditEvent","operationName":"KeyUnwrap","resourceId":"/V","correlationId":"c","properties":{"id":"https://v/keys/k","httpStatusCode":403},"identity":{"claim":{"oid":"eve"}}}

{"time":"2026-01-05T00:00:00.1234567Z","category":"AuditEvent","operationName":"KeyUnwrap","resourceId":"/V","correlationId":"c","properties":{"id":"https://v/keys/k","httpStatusCode":403},"identity":{"claim":{"oid":"eve"}}}
{"time":"2026-01-04T00:00:00Z","category":"AuditEvent","operationName":"KeyGet","resourceId":"/V","properties":{"httpStatusCode":401},"identity":{}}
{"time":"2026-01-06T00:00:00Z","category":"AuditEvent","operationName":"KeyGet","resourceId":"/V","correlationId":"d","properties":{"httpStatusCode":401},"identity":{"claim":{"appid":"app"}}}
{"time":"2026-01-06T00:00:00Z","category":"AuditEvent","operationName":"SecretGet","resourceId":"/V","properties":{"httpStatusCode":403},"identity":{"claim":{"oid":"eve"}}}
{"time":"2026-01-06T00:00:00Z","category":"AuditEvent","operationName":"KeyUnwrap","resourceId":"/V","properties":{"httpStatusCode":403,"kluis":{"outcome":"failed","request":"r1"}},"identity":{"claim":{"oid":"p"}}}
{"time":"2026-01-07T00:00:00Z","category":"AuditEvent","operationName":"KeyUnwrap","resourceId":"/V","properties":{"httpStatusCode":403,"kluis":{"outcome":"denied","request":"r2"}},"identity":{"claim":{"oid":"p"}}}
`
	all, since, err := kpi.ReadAuditEvents(strings.NewReader(log))
	if err != nil || len(all) != 4 || !since.Equal(day(3)) {
		t.Fatalf("%v since %s: %v", all, since, err)
	}
	r := kpi.Reckon(kpi.Input{Attempts: all, LogFrom: since}, window(0, 30))
	if got := value(t, r, "blockedAttempts"); got != 3 { // one record is there twice
		t.Errorf("%v attempts: %+v", got, all)
	}
	if _, _, err := kpi.ReadAuditEvents(strings.NewReader("{}\n")); err == nil || !strings.Contains(err.Error(), "Line 1") {
		t.Errorf("no record: %v", err)
	}
}

func FuzzReadAuditEvents(f *testing.F) {
	f.Add(`{"time":"2026-01-05T00:00:00Z","operationName":"KeyGet","properties":{"httpStatusCode":403}}`)
	f.Add("\xef\xbb\xbf{}\n\n[]")
	f.Fuzz(func(t *testing.T, text string) {
		all, since, err := kpi.ReadAuditEvents(strings.NewReader(text))
		for _, a := range all {
			if err != nil || a.Time.Before(since) || !strings.HasPrefix(a.Operation, "Key") {
				t.Errorf("%+v since %s: %v", a, since, err)
			}
		}
	})
}
