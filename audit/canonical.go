package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxEntry is the most bytes that an entry's canonical form may take: what fits a bundle
// of c2sp.org/tlog-tiles.
const MaxEntry = 64<<10 - 1

// timeLayout is RFC 3339 in UTC with exactly six decimals, so that an instant
// has one spelling.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Encode returns the entry's canonical bytes: the leaf of the Merkle tree. They
// are the JSON object of the entry's non-empty fields in the canonical form of
// RFC 8785 (members in byte order of their names, no white space, shortest
// escapes), with the time in UTC and six decimals. The time is cut to
// microseconds, and bytes that are not UTF-8 become U+FFFD.
//
// It fails if the entry has no time, no operation or no known outcome, if a
// detail's name is not printable ASCII, or if the result would exceed
// [MaxEntry].
func Encode(e Entry) ([]byte, error) {
	t := e.Time.UTC()
	switch {
	case e.Time.IsZero() || t.Year() < 0 || t.Year() > 9999:
		return nil, errors.New("audit entry: no usable time")
	case e.Operation == "":
		return nil, errors.New("audit entry: no operation")
	case e.Outcome != Allowed && e.Outcome != Denied && e.Outcome != Failed:
		return nil, fmt.Errorf("audit entry: outcome %q", e.Outcome)
	}
	b := []byte{'{'}
	b = appendMember(b, "address", e.Address)
	b = appendMember(b, "application", e.Application)
	b = appendMember(b, "correlation", e.Correlation)
	if len(e.Detail) > 0 {
		b = append(appendName(b, "detail"), '{')
		for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
			if !printable(name) {
				return nil, fmt.Errorf("audit entry: detail named %q", name)
			}
			b = appendString(appendName(b, name), e.Detail[name])
		}
		b = append(b, '}')
	}
	b = appendMember(b, "operation", e.Operation)
	b = appendMember(b, "outcome", string(e.Outcome))
	b = appendMember(b, "principal", e.Principal)
	b = appendMember(b, "reason", string(e.Reason))
	b = appendMember(b, "request", e.Request)
	b = appendMember(b, "resource", e.Resource)
	b = appendMember(b, "tenant", e.Tenant)
	b = appendMember(b, "time", t.Format(timeLayout))
	b = append(b, '}')
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("audit entry: %d bytes, the most is %d", len(b), MaxEntry)
	}
	return b, nil
}

// Parse reads an entry's canonical bytes. It accepts exactly what [Encode]
// returns: any other spelling of the same entry is an error.
func Parse(body []byte) (Entry, error) {
	if len(body) > MaxEntry {
		return Entry{}, errors.New("audit entry: too long")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var e Entry
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("audit entry: %w", err)
	}
	e.Time = e.Time.UTC()
	canonical, err := Encode(e)
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(body, canonical) {
		return Entry{}, errors.New("audit entry: not in canonical form")
	}
	return e, nil
}

func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(appendName(b, name), value)
}

func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(appendString(b, name), ':')
}

// appendString writes a JSON string as RFC 8785 §3.2.2.2 asks.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			if i := strings.IndexRune("\b\t\n\f\r", r); i >= 0 {
				b = append(b, '\\', "btnfr"[i])
			} else {
				b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
			}
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// printable also keeps the byte order of names equal to the order by UTF-16
// units that RFC 8785 asks for.
func printable(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}
