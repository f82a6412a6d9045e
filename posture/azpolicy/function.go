package azpolicy

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// A function is one of the template language's. Arguments that are unknown never
// reach it.
type function struct {
	min, max int
	call     func(e *evaluation, args []any) (any, error)
}

func known(name string, n int) bool {
	f, ok := functions[name]
	return ok && n >= f.min && n <= f.max
}

// functions are those that the built-in definitions of key management use, and
// their nearest relatives.
var functions map[string]function

func init() {
	functions = map[string]function{
		"field":          {1, 1, func(e *evaluation, a []any) (any, error) { return e.fieldValue(text(a[0])), nil }},
		"current":        {0, 1, func(e *evaluation, a []any) (any, error) { return e.current(a) }},
		"parameters":     {1, 1, func(e *evaluation, a []any) (any, error) { return e.parameter(text(a[0])) }},
		"resourcegroup":  {0, 0, func(e *evaluation, _ []any) (any, error) { return e.group(), nil }},
		"subscription":   {0, 0, func(e *evaluation, _ []any) (any, error) { return e.subscription(), nil }},
		"requestcontext": {0, 0, func(*evaluation, []any) (any, error) { return map[string]any{"apiVersion": apiVersion}, nil }},
		"utcnow":         {0, 1, func(e *evaluation, _ []any) (any, error) { return stamp(e.now), nil }},
		"adddays":        {2, 2, func(_ *evaluation, a []any) (any, error) { return addDays(a) }},
		"length":         {1, 1, func(_ *evaluation, a []any) (any, error) { return float64(length(a[0])), nil }},
		"empty":          {1, 1, func(_ *evaluation, a []any) (any, error) { return length(a[0]) == 0, nil }},
		"contains":       {2, 2, func(_ *evaluation, a []any) (any, error) { return contains(a[0], a[1]), nil }},
		"last": {1, 1, func(_ *evaluation, a []any) (any, error) {
			return end(a[0], func(n int) int { return n - 1 })
		}},
		"first":   {1, 1, func(_ *evaluation, a []any) (any, error) { return end(a[0], func(int) int { return 0 }) }},
		"split":   {2, 2, func(_ *evaluation, a []any) (any, error) { return split(a), nil }},
		"concat":  {1, 64, func(_ *evaluation, a []any) (any, error) { return concat(a), nil }},
		"tolower": {1, 1, func(_ *evaluation, a []any) (any, error) { return strings.ToLower(text(a[0])), nil }},
		"toupper": {1, 1, func(_ *evaluation, a []any) (any, error) { return strings.ToUpper(text(a[0])), nil }},
		"replace": {3, 3, func(_ *evaluation, a []any) (any, error) {
			return strings.ReplaceAll(text(a[0]), text(a[1]), text(a[2])), nil
		}},
		"startswith":      {2, 2, func(_ *evaluation, a []any) (any, error) { return strings.HasPrefix(fold(a[0]), fold(a[1])), nil }},
		"endswith":        {2, 2, func(_ *evaluation, a []any) (any, error) { return strings.HasSuffix(fold(a[0]), fold(a[1])), nil }},
		"string":          {1, 1, func(_ *evaluation, a []any) (any, error) { return text(a[0]), nil }},
		"int":             {1, 1, func(_ *evaluation, a []any) (any, error) { return number(a[0]) }},
		"createarray":     {0, 1024, func(_ *evaluation, a []any) (any, error) { return append([]any{}, a...), nil }},
		"equals":          {2, 2, func(_ *evaluation, a []any) (any, error) { return equal(a[0], a[1]), nil }},
		"not":             {1, 1, func(_ *evaluation, a []any) (any, error) { return !equal(a[0], true), nil }},
		"padleft":         {2, 3, func(_ *evaluation, a []any) (any, error) { return padLeft(a) }},
		"iprangecontains": {2, 2, func(_ *evaluation, a []any) (any, error) { return rangeContains(a) }},
		"if":              {3, 3, nil}, // it evaluates but one of its branches
	}
}

// apiVersion is what requestContext() says: a scan is no request, so it is taken for
// one of today's. Definitions ask whether it is older than a certain one.
const apiVersion = "2023-07-01"

// stamp writes a time so that the order of texts is that of times.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func addDays(a []any) (any, error) {
	if a[0] == nil {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text(a[0]))
	if err != nil {
		return nil, fmt.Errorf("addDays of %q, which is no time", text(a[0]))
	}
	n, err := number(a[1])
	if err != nil || math.Abs(n) > 1e6 {
		return nil, fmt.Errorf("addDays by %q, which is no number of days", text(a[1]))
	}
	return stamp(t.AddDate(0, 0, int(n))), nil
}

func length(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	}
	return 0
}

func contains(in, what any) bool {
	switch in := in.(type) {
	case []any:
		for _, e := range in {
			if equal(e, what) {
				return true
			}
		}
	case map[string]any:
		_, ok := property(in, text(what))
		return ok
	case string:
		return strings.Contains(fold(in), fold(what))
	}
	return false
}

func end(of any, which func(n int) int) (any, error) {
	switch of := of.(type) {
	case []any:
		if len(of) > 0 {
			return of[which(len(of))], nil
		}
	case string:
		if of != "" {
			return string(of[which(len(of))]), nil
		}
	}
	return nil, nil
}

func split(a []any) any {
	out := []any{}
	for s := range strings.SplitSeq(text(a[0]), text(a[1])) {
		out = append(out, s)
	}
	return out
}

func concat(a []any) any {
	if _, lists := a[0].([]any); lists {
		out := []any{}
		for _, v := range a {
			l, _ := v.([]any)
			out = append(out, l...)
		}
		return out
	}
	var b strings.Builder
	for _, v := range a {
		b.WriteString(text(v))
	}
	return b.String()
}

func padLeft(a []any) (any, error) {
	n, err := number(a[1])
	if err != nil || n > 1024 {
		return nil, fmt.Errorf("padLeft to %q", text(a[1]))
	}
	pad := " "
	if len(a) == 3 {
		pad = text(a[2])
	}
	s := text(a[0])
	for len(s) < int(n) && pad != "" {
		s = pad + s
	}
	return s, nil
}

// rangeContains reports whether the first range of addresses contains the second, or
// the address that the second is.
func rangeContains(a []any) (any, error) {
	var r [2]netip.Prefix
	for i := range r {
		s := text(a[i])
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var one netip.Addr
			if one, err = netip.ParseAddr(s); err == nil {
				p = netip.PrefixFrom(one, one.BitLen())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no range of addresses", s)
		}
		r[i] = p.Masked()
	}
	return r[0].Bits() <= r[1].Bits() && r[0].Contains(r[1].Addr()), nil
}

func number(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	}
	var n float64
	if _, err := fmt.Sscanf(strings.TrimSpace(text(v)), "%g", &n); err != nil {
		return 0, fmt.Errorf("%q is no number", text(v))
	}
	return n, nil
}

// text is a value as a text: how the language compares what is of different types.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return fmt.Sprintf("%d", int64(v))
		}
	}
	return fmt.Sprint(v)
}

func fold(v any) string { return strings.ToLower(text(v)) }

// equal compares as the language does: without regard to case, and to whether a
// number or a truth stands in quotes. Nothing equals what is not there.
func equal(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return strings.EqualFold(text(a), text(b))
}

// value evaluates an expression.
func (e *evaluation) value(x *expr) (any, error) {
	if x.call == "" {
		return x.literal, nil
	}
	args := make([]any, len(x.args))
	for i, a := range x.args {
		if x.call == "if" && i > 0 {
			if want := 1; equal(args[0], true) != (i == want) {
				continue
			}
		}
		v, err := e.value(a)
		if err != nil {
			return nil, err
		}
		if v == posture.UnknownValue {
			return v, nil
		}
		args[i] = v
	}
	var v any
	if x.call == "if" {
		v = args[2]
		if equal(args[0], true) {
			v = args[1]
		}
	} else {
		var err error
		if v, err = functions[x.call].call(e, args); err != nil {
			return nil, err
		}
	}
	return e.takeFrom(v, x.take)
}

func (e *evaluation) takeFrom(v any, take []*expr) (any, error) {
	for _, t := range take {
		if v == posture.UnknownValue {
			return v, nil
		}
		index, err := e.value(t)
		if err != nil {
			return nil, err
		}
		switch of := v.(type) {
		case map[string]any:
			v, _ = property(of, text(index))
		case []any:
			n, err := number(index)
			if err != nil || n < 0 || int(n) >= len(of) {
				return nil, nil
			}
			v = of[int(n)]
		default:
			return nil, nil
		}
	}
	return v, nil
}
