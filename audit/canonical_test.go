package audit_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

var at = time.Date(2026, 7, 1, 14, 0, 0, 123456789, time.FixedZone("", 2*3600))

func TestEncode(t *testing.T) {
	for _, test := range []struct {
		name string
		e    audit.Entry
		want string
	}{
		{"least", audit.Entry{Time: at, Operation: "o", Outcome: audit.Allowed},
			`{"operation":"o","outcome":"allowed","time":"2026-07-01T12:00:00.123456Z"}`},
		{"all", audit.Entry{Time: at, Operation: "o", Outcome: audit.Denied, Reason: fault.Denied, Tenant: "t", Principal: "p",
			Application: "a", Resource: "/r", Request: "q", Correlation: "c", Address: "::1", Detail: map[string]string{"b": "2", "a": "1", "B": ""}},
			`{"address":"::1","application":"a","correlation":"c","detail":{"B":"","a":"1","b":"2"},"operation":"o","outcome":"denied",` +
				`"principal":"p","reason":"Denied","request":"q","resource":"/r","tenant":"t","time":"2026-07-01T12:00:00.123456Z"}`},
		{"escapes of RFC 8785", audit.Entry{Time: at, Operation: "<é\u2028\"\\/\n\x1f\x7f\xff>", Outcome: audit.Failed},
			"{\"operation\":\"<é\u2028\\\"\\\\/\\n\\u001f\x7f\ufffd>\",\"outcome\":\"failed\",\"time\":\"2026-07-01T12:00:00.123456Z\"}"},
	} {
		got, err := audit.Encode(test.e)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %s, %v\nwant %s", test.name, got, err, test.want)
		}
		e, err := audit.Parse(got)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if again, err := audit.Encode(e); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: again %s, %v", test.name, again, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, e := range map[string]audit.Entry{
		"no time":         {Operation: "o", Outcome: audit.Allowed},
		"year 10000":      {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Operation: "o", Outcome: audit.Allowed},
		"no operation":    {Time: at, Outcome: audit.Allowed},
		"no outcome":      {Time: at, Operation: "o"},
		"unknown outcome": {Time: at, Operation: "o", Outcome: "perhaps"},
		"detail's name":   {Time: at, Operation: "o", Outcome: audit.Allowed, Detail: map[string]string{"é": "x"}},
		"nameless detail": {Time: at, Operation: "o", Outcome: audit.Allowed, Detail: map[string]string{"": "x"}},
		"too long":        {Time: at, Operation: strings.Repeat("o", audit.MaxEntry), Outcome: audit.Allowed},
	} {
		if b, err := audit.Encode(e); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := `{"operation":"o","outcome":"allowed","time":"2026-07-01T12:00:00.123456Z"}`
	for name, bad := range map[string]string{
		"empty":          "",
		"white space":    good + " ",
		"order":          `{"outcome":"allowed","operation":"o","time":"2026-07-01T12:00:00.123456Z"}`,
		"letter case":    strings.Replace(good, "operation", "Operation", 1),
		"unknown member": strings.Replace(good, "{", `{"x":1,`, 1),
		"member twice":   strings.Replace(good, "{", `{"operation":"o",`, 1),
		"empty member":   strings.Replace(good, "{", `{"address":"",`, 1),
		"another escape": strings.Replace(good, `"o"`, `"\u006f"`, 1),
		"time zone":      strings.Replace(good, "12:00:00.123456Z", "14:00:00.123456+02:00", 1),
		"decimals":       strings.Replace(good, ".123456Z", ".1234560Z", 1),
		"not UTF-8":      strings.Replace(good, `"o"`, "\"\xff\"", 1),
		"outcome":        strings.Replace(good, "allowed", "maybe", 1),
		"two values":     good + good,
		"null":           "null",
	} {
		if e, err := audit.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: taken as %+v", name, e)
		}
	}
}

// What is written is what is read back.
func TestRoundTrip(t *testing.T) {
	text := rapid.String()
	rapid.Check(t, func(t *rapid.T) {
		e := audit.Entry{
			Time:      time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "time")).UTC(),
			Operation: rapid.StringN(1, 20, -1).Draw(t, "operation"),
			Outcome:   rapid.SampledFrom([]audit.Outcome{audit.Allowed, audit.Denied, audit.Failed}).Draw(t, "outcome"),
			Reason:    rapid.SampledFrom(append(fault.Reasons(), "")).Draw(t, "reason"),
			Principal: text.Draw(t, "principal"), Tenant: text.Draw(t, "tenant"), Application: text.Draw(t, "application"),
			Resource: text.Draw(t, "resource"), Request: text.Draw(t, "request"), Correlation: text.Draw(t, "correlation"),
			Address: text.Draw(t, "address"),
			Detail:  rapid.MapOfN(rapid.StringMatching(`[!-~]{1,8}`), text, 1, 5).Draw(t, "detail"),
		}
		b, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := audit.Parse(b)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"operation":"o","outcome":"allowed","time":"2026-07-01T12:00:00.123456Z"}`))
	f.Add([]byte(`{"address":"::1","detail":{"a":"\n"},"operation":"o","outcome":"failed","reason":"Internal","time":"0001-01-01T00:00:00.000001Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.Parse(b)
		if err != nil {
			return
		}
		if again, err := audit.Encode(e); err != nil || !bytes.Equal(b, again) {
			t.Errorf("%q is taken and becomes %q, %v", b, again, err)
		}
	})
}
