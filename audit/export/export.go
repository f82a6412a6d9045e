// Package export carries a party's audit log to whoever watches it: as Azure's
// AuditEvent records or as kluis's own entries, into rotated files that a SIEM
// reads, over syslog, or to an OpenTelemetry collector.
//
// It reads the log as it lies there, after the fact, and goes on by sequence
// number: an operation never waits for it and never fails with it. What it writes
// is a copy without proof; the log itself, and [audit.Verify], are the evidence.
package export

import (
	"encoding/json"
	"fmt"

	"github.com/kluis-io/kluis/audit"
)

// A Format turns an entry into one line of JSON, without the line's end.
type Format func(audit.Numbered) ([]byte, error)

// JSON is kluis's own format: the entry as it was recorded, with its sequence
// number.
func JSON(n audit.Numbered) ([]byte, error) { return json.Marshal(n) }

// Formats names the formats.
func Formats() []string { return []string{"azure", "json"} }

// FormatNamed returns the format of a name.
func FormatNamed(name string, a Azure) (Format, error) {
	switch name {
	case "azure":
		return a.Format, nil
	case "json":
		return JSON, nil
	}
	return nil, fmt.Errorf("no such format: %q; there are azure and json", name)
}
