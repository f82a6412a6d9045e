package storagewire_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/lake"
)

// headersOf reads "Name: value" lines.
func headersOf(text string) http.Header {
	h := http.Header{}
	for line := range strings.Lines(text) {
		if name, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": "); ok && name != "" {
			h.Add(name, v)
		}
	}
	return h
}

// FuzzHeaders feeds headers to the parsers of conditions, hashes, content headers and
// access: what each takes it takes again when it is written as the protocol has it.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{
		"If-Match: \"1\", \"2\"\nIf-None-Match: *\nIf-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT\nx-ms-lease-id: x",
		"x-ms-source-If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 UTC\nx-ms-access-tier-if-modified-since: Mon, 02 Jan 2006 15:04:05 GMT",
		"Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\nx-ms-content-crc64: AAAAAAAAAAA=", "Content-MD5: x\nx-ms-content-crc64: AAAA",
		"x-ms-blob-content-type: a/b\nx-ms-blob-content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==", "x-ms-owner: o\nx-ms-permissions: 0750\nx-ms-umask: 0022",
		"x-ms-acl: user::rwx,group::r-x,other::---\nx-ms-access-tier: cool", "x-ms-proposed-lease-id: 11111111-1111-4111-8111-111111111111\nx-ms-lease-duration: 15",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h := headersOf(text)
		for _, prefix := range []string{"", "x-ms-source-"} {
			c, err := storagewire.ParseConditions(h, prefix)
			if err != nil {
				continue
			}
			again := http.Header{}
			set := func(name, v string) {
				if v != "" {
					again.Set(name, v)
				}
			}
			date := func(name string, at time.Time) {
				if !at.IsZero() {
					again.Set(name, at.UTC().Format(http.TimeFormat))
				}
			}
			set(prefix+"If-Match", c.IfMatch)
			set(prefix+"If-None-Match", c.IfNoneMatch)
			date(prefix+"If-Modified-Since", c.IfModifiedSince)
			date(prefix+"If-Unmodified-Since", c.IfUnmodifiedSince)
			date("x-ms-access-tier-if-modified-since", c.TierIfModifiedSince)
			date("x-ms-access-tier-if-unmodified-since", c.TierIfUnmodifiedSince)
			if name := prefix + "lease-id"; prefix == "" {
				set("x-ms-lease-id", c.Lease)
			} else {
				set(name, c.Lease)
			}
			same := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
			if got, err := storagewire.ParseConditions(again, prefix); err != nil || !cmp.Equal(c, got, same) {
				t.Errorf("%v, then %v, %v", c, got, err)
			}
		}
		if hashes, err := storagewire.ParseHashes(h); err == nil {
			again := http.Header{}
			storagewire.SetHashes(again, hashes, hashes.CRC64)
			if got, err := storagewire.ParseHashes(again); err != nil || !cmp.Equal(hashes, got) {
				t.Errorf("%v, then %v, %v", hashes, got, err)
			}
		}
		for _, prefix := range []string{"x-ms-", "x-ms-blob-"} {
			if c, n, err := storagewire.ParseContentHeaders(h, prefix); err == nil && n == 0 && !cmp.Equal(c, lake.ContentHeaders{}) {
				t.Errorf("none given, and %v", c)
			}
		}
		if a, err := storagewire.ParseAccess(h); err == nil && a != nil && a.ACL != nil {
			again := http.Header{"X-Ms-Acl": {a.ACL.String()}}
			if got, err := storagewire.ParseAccess(again); err != nil || !cmp.Equal(a.ACL, got.ACL) {
				t.Errorf("%v, then %v, %v", a, got, err)
			}
		}
		if tier, err := storagewire.ParseTier(h); err == nil && !strings.EqualFold(string(tier), h.Get("x-ms-access-tier")) {
			t.Errorf("%q is %q", h.Get("x-ms-access-tier"), tier)
		}
		if r, err := storagewire.ParseMadeLease(h); err == nil && r != nil && r.Proposed == "" {
			t.Error("a lease without an id")
		}
	})
}

// FuzzQuery feeds queries: each parameter is there once, whatever its case.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"comp=list&prefix=a%2Fb", "a=1&A=2", "a=1;b=2", "%zz", "maxresults=5&timeout=", "x=%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		q, err := storagewire.ParseQuery(r)
		if err != nil {
			return
		}
		for name := range r.URL.Query() {
			if !q.Has(strings.ToLower(name)) {
				t.Errorf("%q is lost", name)
			}
		}
		for name := range q {
			if name != strings.ToLower(name) {
				t.Errorf("%q is not in lower case", name)
			}
		}
		q.Int("maxresults", 1, 0)
		q.Bool("recursive")
	})
}

// FuzzTime feeds texts to the parser of signatures' times.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05.0000001Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04Z", "2026-01-02", "2026-13-02", "", "9999-12-31T23:59:59Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := storagewire.ParseTime(s)
		if !ok {
			return
		}
		if again, ok := storagewire.ParseTime(at.UTC().Format(time.RFC3339Nano)); at.Year() > 0 && at.Year() < 9999 && (!ok || !again.Equal(at)) {
			t.Errorf("%q is %v, then %v", s, at, again)
		}
	})
}

// FuzzSharedKey feeds requests whose signatures are nobody's: none speaks for anybody.
func FuzzSharedKey(f *testing.F) {
	f.Add("GET", "/c/b?comp=list&a=1&A=2", "SharedKey acct1:"+strings.Repeat("A", 43)+"=", "x-ms-a: 1\nx-ms-a: 2")
	f.Add("PUT", "/%2F", "SharedKeyLite acct1:AAAA", "Content-Length: 5\nContent-MD5: x")
	f.Add("HEAD", "", "SharedKey :", "")
	f.Add("GET", "/c?%zz", "SharedKey acct1:"+strings.Repeat("A", 43)+"=", "") // no message can be made of it
	c := storagewire.Config{Account: "acct1", Keys: noKeys{}}
	f.Fuzz(func(t *testing.T, method, target, authorization, headers string) {
		r := &http.Request{Method: method, Header: headersOf(headers), RequestURI: target}
		r.URL = httptest.NewRequest("GET", "/", nil).URL
		r.Header.Set("Authorization", authorization)
		r.Header.Set("x-ms-date", time.Now().UTC().Format(http.TimeFormat))
		if who, err := c.Caller(r, storagewire.Query{}, tokens{}); err == nil && authorization != "Bearer good" {
			t.Errorf("%q speaks for %v", authorization, who)
		}
	})
}
