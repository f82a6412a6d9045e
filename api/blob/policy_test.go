package blob_test

import (
	"encoding/xml"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/blob"
)

// FuzzPolicies feeds bodies to the parser of stored access policies: what it takes, it
// takes again from what a client would write of it.
func FuzzPolicies(f *testing.F) {
	for _, s := range []string{
		"", "<SignedIdentifiers/>", "<SignedIdentifiers><SignedIdentifier><Id>a</Id></SignedIdentifier></SignedIdentifiers>",
		"<SignedIdentifiers><SignedIdentifier><Id>a</Id><AccessPolicy><Start>2026-01-02</Start><Expiry>2026-01-03T04:05Z</Expiry><Permission>rw</Permission></AccessPolicy></SignedIdentifier></SignedIdentifiers>",
		"<SignedIdentifiers><SignedIdentifier><Id>a</Id><AccessPolicy><Start>x</Start></AccessPolicy></SignedIdentifier></SignedIdentifiers>",
		"<!DOCTYPE a [<!ENTITY b 'c'>]><SignedIdentifiers>&b;</SignedIdentifiers>",
	} {
		f.Add([]byte(s))
	}
	type policy struct {
		Start, Expiry, Permission string
	}
	type identifier struct {
		ID     string `xml:"Id"`
		Policy policy `xml:"AccessPolicy"`
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := blob.ParsePolicies(body)
		if err != nil || len(all) == 0 {
			return
		}
		var doc struct {
			XMLName xml.Name     `xml:"SignedIdentifiers"`
			All     []identifier `xml:"SignedIdentifier"`
		}
		format := func(at time.Time) string {
			if at.IsZero() {
				return ""
			}
			return at.Format("2006-01-02T15:04:05.0000000Z07:00")
		}
		for _, p := range all {
			if p.Start.Year() > 9999 || p.Expiry.Year() > 9999 || p.Start.Year() < 0 || p.Expiry.Year() < 0 || p.Start.Nanosecond()%100+p.Expiry.Nanosecond()%100 != 0 {
				return // beyond what the form can say
			}
			doc.All = append(doc.All, identifier{p.ID, policy{format(p.Start.UTC()), format(p.Expiry.UTC()), p.Permissions}})
		}
		text, err := xml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		again, err := blob.ParsePolicies(text)
		if d := cmp.Diff(all, again, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", text, err, d)
		}
	})
}

// FuzzKeyTime feeds texts to the parser of user delegation keys' times.
func FuzzKeyTime(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04Z", "2026-01-02", "", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := blob.ParseKeyTime(s)
		if err == nil && at.Location() != time.UTC {
			t.Errorf("%q is not in UTC: %v", s, at)
		}
	})
}
