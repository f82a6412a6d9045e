package portal

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kluis-io/kluis/portal/chart"
)

// functions are those that every template has, beside "asset", which returns a file's
// address.
var functions = template.FuncMap{
	"icon":     icon,
	"bytes":    bytesText,
	"seconds":  func(n int64) string { return lengthText(time.Duration(n) * time.Second) },
	"length":   lengthText,
	"moment":   moment,
	"ago":      ago,
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"day":      func(t time.Time) string { return t.UTC().Format("2 January 2006") },
	"many":     many,
	"count":    count,
	"period":   period,
	"rough":    func(n int64) string { return lengthText(rough(time.Duration(n) * time.Second)) },
	"sentence": sentence,
	"pair":     pair,
	"after":    func(s, separator string) string { return s[strings.LastIndex(s, separator)+1:] },
	"lower":    strings.ToLower,
	"tone":     tone,
	"label":    Label,
	"line":     chart.Line,
	"columns":  chart.Columns,
	"meter":    chart.Meter,
	"list":     func(all ...any) []any { return all },
	"initial":  initial,
}

// bytesText spells a size.
func bytesText(n int64) string {
	f, unit := float64(n), "B"
	for _, unit = range []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f < 1024 {
			break
		}
		if unit != "PiB" {
			f /= 1024
		}
	}
	if unit == "B" || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// lengthText spells a length of time in its two largest units.
func lengthText(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	d = d.Round(time.Second)
	var parts []string
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / u.length; n > 0 {
			parts, d = append(parts, fmt.Sprintf("%d %s", n, u.name)), d%u.length
		} else if len(parts) == 1 {
			break
		}
		if len(parts) == 2 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// period spells a length of time that is written as ISO 8601 has it, in years, months, weeks
// and days; what it does not know it leaves as it is.
func period(iso string) string {
	rest, ok := strings.CutPrefix(strings.ToUpper(iso), "P")
	var parts []string
	for ok && rest != "" {
		i := strings.IndexAny(rest, "YMWD")
		n, err := strconv.Atoi(rest[:max(i, 0)])
		if err != nil || n < 0 {
			return iso
		}
		parts = append(parts, many(n, map[byte]string{'Y': "year", 'M': "month", 'W': "week", 'D': "day"}[rest[i]]))
		rest = rest[i+1:]
	}
	if len(parts) == 0 {
		return iso
	}
	return strings.Join(parts, " ")
}

// rough rounds what is an estimate to its largest unit.
func rough(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Hour, time.Minute} {
		if d >= 2*unit {
			return d.Round(unit)
		}
	}
	return d
}

// ago spells how long ago, or in how long, a time is.
func ago(t time.Time) string { return agoFrom(t, time.Now()) }

func agoFrom(t, now time.Time) string {
	d := now.Sub(t)
	future := d < 0
	d = d.Abs()
	var s string
	switch {
	case d < 45*time.Second:
		return "just now"
	case d < time.Hour:
		s = many(int(d.Round(time.Minute)/time.Minute), "minute")
	case d < 48*time.Hour:
		s = many(int(d.Round(time.Hour)/time.Hour), "hour")
	default:
		s = many(int(d/(24*time.Hour)), "day")
	}
	if future {
		return "in " + s
	}
	return s + " ago"
}

// moment is a time as people read it, with the exact one for machines.
func moment(t any) template.HTML {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *time.Time:
		if t == nil {
			return "–"
		}
		at = *t
	}
	if at.IsZero() {
		return "–"
	}
	at = at.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, at.Format(time.RFC3339), at.Format("2 January 2006, 15:04:05 UTC"), ago(at)))
}

// count spells a whole number, in groups of three digits.
func count(n any) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// many spells a count of things.
func many(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if strings.HasSuffix(thing, "y") && !strings.HasSuffix(thing, "ey") && !strings.HasSuffix(thing, "ay") {
		return count(n) + " " + strings.TrimSuffix(thing, "y") + "ies"
	}
	return count(n) + " " + thing + "s"
}

// pair gives a template that calls another one several values: name, value, name, value.
func pair(all ...any) (map[string]any, error) {
	if len(all)%2 != 0 {
		return nil, fmt.Errorf("pair takes names and values")
	}
	m := map[string]any{}
	for i := 0; i < len(all); i += 2 {
		name, ok := all[i].(string)
		if !ok {
			return nil, fmt.Errorf("pair: %v is no name", all[i])
		}
		m[name] = all[i+1]
	}
	return m, nil
}

// A standing is how a state is shown.
type standing struct{ label, tone string }

// standings are all states that the parties' interfaces tell.
var standings = map[string]standing{
	"Active":            {"Active", "good"},
	"Serving":           {"Serving", "good"},
	"Disabled":          {"Platform-managed", "plain"},
	"EnableInProgress":  {"In progress", "busy"},
	"DisableInProgress": {"Resetting", "busy"},
	"Failed":            {"Failed", "bad"},
	"Revoked":           {"Revoked", "bad"},
	"Unreachable":       {"Unreachable", "warn"},
	"KeyLost":           {"Key lost", "bad"},
	"critical":          {"Critical", "bad"},
	"high":              {"High", "bad"},
	"medium":            {"Medium", "warn"},
	"low":               {"Low", "plain"},
	"info":              {"Info", "plain"},
}

// Label spells a state that a party tells, for people.
func Label(state string) string {
	if s, ok := standings[state]; ok {
		return s.label
	}
	return state
}

// tone is the colour of a state: good, busy, warn, bad or plain.
func tone(state string) string {
	if s, ok := standings[state]; ok {
		return s.tone
	}
	return "plain"
}

// sentence begins a text with a capital letter.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

// initial is what stands for a person's picture.
func initial(name string) string {
	for _, r := range name {
		return strings.ToUpper(string(r))
	}
	return "?"
}
