package account_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

func TestBlobService(t *testing.T) {
	ctx := t.Context()
	a, _, rec := start(t)
	location := "westeurope"
	at := path("acct1")
	if _, _, err := a.Put(ctx, who(1), at, account.Spec{Location: &location}); err != nil {
		t.Fatal(err)
	}
	rule := account.CORSRule{Origins: []string{"https://a.test"}, Methods: []string{"GET"}}
	if err := a.SetBlobService(ctx, who(1), "acct1", account.BlobServiceChange{CORS: &[]account.CORSRule{rule}, Version: new("2021-12-02")}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]account.BlobServiceChange{
		"six rules":            {CORS: new(slices.Repeat([]account.CORSRule{rule}, 6))},
		"no origin":            {CORS: &[]account.CORSRule{{Methods: rule.Methods}}},
		"no method":            {CORS: &[]account.CORSRule{{Origins: rule.Origins}}},
		"an unknown method":    {CORS: &[]account.CORSRule{{Origins: rule.Origins, Methods: []string{"TRACE"}}}},
		"a negative age":       {CORS: &[]account.CORSRule{{Origins: rule.Origins, Methods: rule.Methods, MaxAge: -1}}},
		"a line in an origin":  {CORS: &[]account.CORSRule{{Origins: []string{"https://a\r\nb"}, Methods: rule.Methods}}},
		"an asterisk within":   {CORS: &[]account.CORSRule{{Origins: rule.Origins, Methods: rule.Methods, Headers: []string{"x-*-y"}}}},
		"three prefixes":       {CORS: &[]account.CORSRule{{Origins: rule.Origins, Methods: rule.Methods, Exposed: []string{"a*", "b*", "c*"}}}},
		"more than 2 KiB":      {CORS: &[]account.CORSRule{{Origins: slices.Repeat([]string{"https://" + strings.Repeat("a", 200)}, 10), Methods: rule.Methods}}},
		"no day of retention":  {Logging: &account.Logging{Retention: account.Retention{Enabled: true}}},
		"too many days":        {HourMetrics: &account.Metrics{Retention: account.Retention{Enabled: true, Days: 366}}},
		"days of none":         {MinuteMetrics: &account.Metrics{Retention: account.Retention{Days: 3}}},
		"APIs of no metrics":   {HourMetrics: &account.Metrics{APIs: true}},
		"a version of logging": {Logging: &account.Logging{Version: "3.0"}},
		"a version":            {Version: new("latest")},
	} {
		if err := a.SetBlobService(ctx, who(1), "acct1", change); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]account.BlobServiceChange{
		"soft delete":      {DeleteRetention: &account.Retention{Enabled: true, Days: 7}, Version: new("2020-02-10")},
		"a static website": {StaticWebsite: new(true), Version: new("2020-02-10")},
	} {
		if err := a.SetBlobService(ctx, who(1), "acct1", change); fault.ReasonOf(err) != fault.Conflict {
			t.Errorf("%s would promise what is not there: %v", name, err)
		}
	}
	got, err := a.BlobService(ctx, who(1), "acct1")
	if err != nil || got.Version != "2021-12-02" || len(got.CORS) != 1 {
		t.Errorf("what was refused changed something: %+v %v", got, err)
	}
	other := who(1)
	other.Tenant = "99999999-9999-4999-8999-999999999999"
	for name, c := range map[string]identity.Caller{"without a role": who(9), "of another directory": other} {
		if err := a.SetBlobService(ctx, c, "acct1", account.BlobServiceChange{}); fault.ReasonOf(err) != fault.Denied || rec.last.Operation != "SetBlobServiceProperties" {
			t.Errorf("%s: %v %+v", name, err, rec.last)
		}
		if _, err := a.BlobService(ctx, c, "acct1"); fault.ReasonOf(err) != fault.Denied || rec.last.Operation != "GetBlobServiceProperties" {
			t.Errorf("%s: %v %+v", name, err, rec.last)
		}
	}
	if s, err := a.BlobServiceOf(ctx, "nobody"); err != nil || len(s.CORS) != 0 {
		t.Errorf("of no account: %+v %v", s, err)
	}
	// What else is changed of an account leaves its service alone, and the reverse.
	if _, err := a.Patch(ctx, who(1), at, account.Spec{Tags: &map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	if s, err := a.BlobServiceOf(ctx, "acct1"); err != nil || s.Version != "2021-12-02" {
		t.Errorf("after a change of tags: %+v %v", s, err)
	}
}

func TestCORSRule(t *testing.T) {
	s := account.BlobService{CORS: []account.CORSRule{
		{Origins: []string{"https://a.test"}, Methods: []string{"GET", "PUT"}, Headers: []string{"x-ms-meta-*", "Content-Type"}, MaxAge: 1},
		{Origins: []string{"*"}, Methods: []string{"GET"}, Headers: []string{"*"}, MaxAge: 2},
	}}
	for _, c := range []struct {
		origin, method, headers string
		age                     int // of the rule, 0 if there is none
	}{
		{"https://a.test", "GET", "", 1},
		{"https://a.test", "GET", "X-MS-META-a content-type", 1},
		{"https://a.test", "GET", "x-ms-met", 2}, // the first rule lacks it
		{"https://a.test", "PUT", "x-ms-met", 0},
		{"https://b.test", "GET", "any", 2},
		{"https://b.test", "PUT", "", 0},
		{"", "GET", "", 2},
	} {
		r, ok := s.Rule(c.origin, c.method, strings.Fields(c.headers))
		if ok != (c.age != 0) || r.MaxAge != c.age {
			t.Errorf("%+v: %v %+v", c, ok, r)
		}
	}
}
