package arm

import (
	"reflect"
	"testing"

	"github.com/kluis-io/kluis/posture/azure"
)

func TestParseQuestion(t *testing.T) {
	if q, err := parseQuestion(azure.Query()); err != nil || len(q.types) < 40 || q.order != "id" || q.desc || len(q.columns) != 9 {
		t.Errorf("the scanner's own query: %+v, %v", q, err)
	}
	for text, want := range map[string]*question{
		"resources": {},
		"Resources | where type =~ 'Microsoft.KeyVault/Vaults'":   {types: []string{"microsoft.keyvault/vaults"}},
		"Resources|where type in('a','b')|where type=='B'|take 5": {types: []string{"b"}, limit: 5},
		"Resources\n| sort by Location\n| project ID,tags":        {order: "location", desc: true, columns: []string{"id", "tags"}},
		"Resources | where type == \"a\" | where type == 'b'":     {types: []string{}},
		"": nil, "AuthorizationResources": nil, "Resources |": nil, "Resources | limit": nil, "Resources | limit 0": nil, "Resources | limit 1 | limit 2": nil,
		"Resources | where name =~ 'x'": nil, "Resources | where type =~ x": nil, "Resources | where type in~ ()": nil, "Resources | where type in~ ('a' 'b')": nil,
		"Resources | where type in~ ('a',)": nil, "Resources | where type !in~ ('a')": nil, "Resources | project id,": nil, "Resources | project id id": nil,
		"Resources | project id, id": nil, "Resources | project secret": nil, "Resources | order by tags": nil, "Resources | order by id up": nil,
		"Resources | project id | where type =~ 'a'": nil, "Resources | limit 1 | where type =~ 'a'": nil, "Resources | where type =~ 'a": nil,
		"Resources | where type =~ 'a\\'": nil, "Resources | count": nil, "Resources | extend x = 1": nil, "Resources ; Resources": nil,
	} {
		got, err := parseQuestion(text)
		switch {
		case want == nil && err == nil:
			t.Errorf("%q is understood as %+v", text, got)
		case want != nil && (err != nil || !reflect.DeepEqual(got, *want)):
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, *want)
		}
	}
}

// FuzzParseQuestion: what is understood names only columns that there are.
func FuzzParseQuestion(f *testing.F) {
	f.Add(azure.Query())
	f.Add("Resources | where type in~ ('a','b') | project id, tags | sort by name | take 3")
	f.Add("Resources|where type=~\"a\"|order by id desc")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseQuestion(text)
		if err != nil {
			return
		}
		rows := []graphRow{{"id": "b", "name": "x", "type": "a", "location": "l"}, {"id": "a", "name": "x", "type": "a", "location": "l"}}
		if n := q.compare(rows[0], rows[1]); n == 0 || n != -q.compare(rows[1], rows[0]) {
			t.Errorf("no order: %d", n)
		}
		for _, r := range q.project(rows) {
			if q.columns != nil && len(r) != len(q.columns) {
				t.Errorf("columns %v", r)
			}
		}
	})
}
