package storagewire_test

import (
	"encoding/base64"
	"hash/crc64"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestParseRange(t *testing.T) {
	for _, tt := range []struct {
		h      http.Header
		want   lake.Range
		ranged bool
		bad    bool
	}{
		{h: header()},
		{h: header("Range", "bytes=0-"), ranged: true},
		{h: header("Range", "bytes=5-"), want: lake.Range{Offset: 5}, ranged: true},
		{h: header("Range", "bytes=5-5"), want: lake.Range{Offset: 5, Count: 1}, ranged: true},
		{h: header("Range", "bytes=1-2", "x-ms-range", "bytes=3-6"), want: lake.Range{Offset: 3, Count: 4}, ranged: true},
		{h: header("Range", "bytes=0-9223372036854775807"), ranged: true},
		{h: header("Range", "bytes=1-9223372036854775807"), want: lake.Range{Offset: 1, Count: math.MaxInt64}, ranged: true},
		{h: header("Range", "bytes=-5"), want: lake.Range{Suffix: 5}, ranged: true},
		{h: header("Range", "bytes=-0"), bad: true},
		{h: header("Range", "bytes=6-5"), bad: true},
		{h: header("Range", "bytes=+1-5"), bad: true},
		{h: header("Range", "bytes=1-5,7-9"), bad: true},
		{h: header("Range", "bytes=9223372036854775808-"), bad: true},
		{h: header("Range", "items=0-1"), bad: true},
		{h: header("x-ms-range", "0-1"), bad: true},
	} {
		got, ranged, err := storagewire.ParseRange(tt.h)
		if got != tt.want || ranged != tt.ranged || (err != nil) != tt.bad {
			t.Errorf("%v: got %+v, %v, %v", tt.h, got, ranged, err)
		}
		if tt.bad && fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%v: %v", tt.h, err)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=1-2", "bytes=-1", "bytes=0-9223372036854775807", "bytes=3-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ranged, err := storagewire.ParseRange(http.Header{"Range": {s}})
		if r.Offset < 0 || r.Count < 0 || err != nil && (ranged || r != lake.Range{}) {
			t.Fatalf("%q: %+v, %v, %v", s, r, ranged, err)
		}
	})
}

func TestParseConditions(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	got, err := storagewire.ParseConditions(header(
		"If-Match", `"a"`, "If-None-Match", "*", "If-Modified-Since", at.Format(http.TimeFormat), "If-Unmodified-Since", at.Format(time.RFC1123),
		"x-ms-source-if-match", `"b"`), "")
	want := lake.Conditions{IfMatch: `"a"`, IfNoneMatch: "*", IfModifiedSince: at, IfUnmodifiedSince: at}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = storagewire.ParseConditions(header("If-Match", `"a"`, "x-ms-source-if-match", `"b"`), "x-ms-source-")
	if diff := cmp.Diff(lake.Conditions{IfMatch: `"b"`}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := storagewire.ParseConditions(header("If-Modified-Since", "yesterday"), ""); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a date that is none: %v", err)
	}
}

// The check value of CRC-64/NVME, and the order of its bytes in the header.
func TestHashes(t *testing.T) {
	const check = 0xae8b14860a799888
	if got := crc64.Checksum([]byte("123456789"), storagewire.CRC64); got != check {
		t.Fatalf("CRC-64/NVME of the check string is %#x", got)
	}
	v := base64.StdEncoding.EncodeToString([]byte{0x88, 0x98, 0x79, 0x0a, 0x86, 0x14, 0x8b, 0xae})
	got, err := storagewire.ParseHashes(header("x-ms-content-crc64", v))
	if err != nil || got.MD5 != nil || *got.CRC64 != check {
		t.Fatalf("%+v, %v", got, err)
	}
	h := http.Header{}
	storagewire.SetHashes(h, lake.Hashes{}, got.CRC64)
	if h.Get("x-ms-content-crc64") != v {
		t.Errorf("%v", h)
	}
	for _, bad := range []http.Header{header("x-ms-content-crc64", "AAAA"), header("Content-MD5", "AAAA"), header("Content-MD5", "no base64")} {
		if _, err := storagewire.ParseHashes(bad); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestMetadata(t *testing.T) {
	got, err := storagewire.ParseMetadata(header("x-ms-meta-Hdi_isfolder", "true", "X-Ms-Meta-B", "", "x-ms-blob-type", "BlockBlob"))
	if diff := cmp.Diff(map[string]string{"hdi_isfolder": "true", "b": ""}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for name, m := range map[string]map[string]string{
		"no name":           {"": "v"},
		"digit first":       {"1a": "v"},
		"hyphen":            {"a-b": "v"},
		"line break":        {"a": "x\r\ny: z"},
		"not UTF-8":         {"a": "\xff"},
		"above 8 KiB":       {"a": strings.Repeat("x", 8<<10)},
		"beyond ASCII":      {"ä": "v"},
		"name with a space": {"a b": "v"},
	} {
		if err := storagewire.CheckMetadata(m); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Metadata that is taken can be given back as headers, unchanged.
func FuzzMetadata(f *testing.F) {
	f.Add("x-ms-meta-a", "b")
	f.Add("X-MS-META-Hdi_isfolder", "true")
	f.Add("x-ms-meta-a", "x\ny")
	f.Fuzz(func(t *testing.T, name, value string) {
		m, err := storagewire.ParseMetadata(http.Header{name: {value}})
		if err != nil {
			return
		}
		h := http.Header{}
		storagewire.SetMetadata(h, m)
		back, err := storagewire.ParseMetadata(h)
		if err != nil || !cmp.Equal(m, back) {
			t.Fatalf("%q became %q, %v", m, back, err)
		}
		for _, v := range h {
			if strings.ContainsAny(v[0], "\r\n\x00") {
				t.Fatalf("a value that is no header: %q", v)
			}
		}
	})
}

func TestRefuse(t *testing.T) {
	for name, want := range map[string]fault.Reason{
		"x-ms-expiry-time": fault.NotSupported,
		"x-ms-if-tags":     fault.NotSupported,
	} {
		if got := fault.ReasonOf(storagewire.Refuse(header(name, "x"))); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if err := storagewire.Refuse(header(name, "")); err != nil { // az sends empty ones
			t.Errorf("%s, empty: %v", name, err)
		}
	}
}

func TestQuery(t *testing.T) {
	parse := func(raw string) (storagewire.Query, error) {
		return storagewire.ParseQuery(httptest.NewRequest("GET", "/c?"+raw, nil))
	}
	q, err := parse("MaxResults=7&startFrom=a%2Fb&recursive=True&empty=")
	if err != nil {
		t.Fatal(err)
	}
	n, err := q.Int("maxresults", 1, 0)
	recursive, err2 := q.Bool("recursive")
	if n != 7 || err != nil || !recursive || err2 != nil || q["startfrom"] != "a/b" || !q.Has("empty") || q.Has("other") {
		t.Errorf("%v", q)
	}
	for _, raw := range []string{"a=1&A=2", "a=1&a=1", "a=%zz", "a;b=1"} {
		if _, err := parse(raw); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{"n=0", "n=x", "n=-1", "n=", "n=99999999999999999999"} {
		q, _ := parse(raw)
		if _, err := q.Int("n", 1, 0); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", raw, err)
		}
	}
	q, _ = parse("b=yes")
	if _, err := q.Bool("b"); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("b=yes: %v", err)
	}
}

// What each client really sends to an endpoint that speaks both dialects.
func TestSpeaksDFS(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		header         http.Header
		dfs            bool
	}{
		{"PUT", "/c/f", header("x-ms-blob-type", "BlockBlob", "Accept", "application/xml"), false},
		{"PUT", "/c/f?comp=block&blockid=x", nil, false},
		{"PUT", "/c?restype=container", nil, false},
		{"GET", "/c?restype=container&comp=list", nil, false},
		{"GET", "/?comp=list", header("Accept", "application/json"), false},
		{"HEAD", "/c/f", header("Accept", "application/xml"), false},
		{"GET", "/c/f", header("x-ms-range", "bytes=0-1"), false},
		{"DELETE", "/c/f", nil, false},
		{"PUT", "/c/f?resource=file", nil, true},
		{"PUT", "/c/f/?resource=directory", header("If-None-Match", "*"), true},
		{"PATCH", "/c/f?action=append&position=0", nil, true},
		{"PUT", "/c/f?action=flush&position=1", header("X-HTTP-Method-Override", "PATCH"), true},
		{"GET", "/c?resource=filesystem&recursive=true", nil, true},
		{"PUT", "/c/g?mode=legacy", header("x-ms-rename-source", "/onelake/c/f"), true},
		{"PUT", "/c/g", header("x-ms-rename-source", "/c/f"), true},
		{"DELETE", "/c/f?recursive=true", nil, true},
		{"DELETE", "/c/f?paginated=false", nil, true},
		{"DELETE", "/c/f", header("Accept", "application/json"), true},
		{"HEAD", "/c//?action=getAccessControl", nil, true},
		{"GET", "/c/f", header("Accept", "application/json, application/octet-stream"), true},
	} {
		r := httptest.NewRequest(tt.method, tt.target, nil)
		r.Header = tt.header
		if tt.header == nil {
			r.Header = http.Header{}
		}
		if got := storagewire.SpeaksDFS(r); got != tt.dfs {
			t.Errorf("%s %s %v: DFS is %v", tt.method, tt.target, tt.header, got)
		}
	}
}
