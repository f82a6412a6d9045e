package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal/client"
)

// TestFindKeys pages and filters a vault of 8,000 keys, of which the keys API gives 25 at a
// time and finds none by name: no question reads all of them.
func TestFindKeys(t *testing.T) {
	const all, page = 8_000, 25
	asked := 0
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		from := 0
		fmt.Sscan(r.URL.Query().Get("$skiptoken"), &from)
		keys := []map[string]any{}
		for i := from; i < min(from+page, all); i++ {
			keys = append(keys, map[string]any{"kid": fmt.Sprintf("https://v.vault.localhost/keys/Key-%04d", i), "attributes": map[string]any{"enabled": true}})
		}
		answer := map[string]any{"value": keys}
		if from+page < all {
			answer["nextLink"] = fmt.Sprintf("http://%s/keys?$skiptoken=%d", r.Host, from+page)
		}
		json.NewEncoder(w).Encode(answer)
	}))
	defer vault.Close()
	c := client.New(client.Parties{Keys: client.Party{Name: "vault", Address: vault.URL}}, vault.Client(), tokens{})
	for _, tc := range []struct {
		text         string
		pages, keys  int // of the first question
		total, turns int // until the last
	}{
		{"", 4, 100, all, 80},
		{"KEY-12", 56, 100, 100, 3}, // 1200 to 1299; what follows is looked through too
		{"nothing", 200, 0, 0, 2},
	} {
		total, turns := 0, 0
		for token := ""; ; {
			asked = 0
			found, next, err := c.FindKeys(t.Context(), client.Place{Name: "v"}, tc.text, token, 100)
			if err != nil {
				t.Fatal(err)
			}
			if turns == 0 && (len(found) != tc.keys || asked > tc.pages) {
				t.Errorf("%q: %d keys from %d pages, want %d from %d at most", tc.text, len(found), asked, tc.keys, tc.pages)
			}
			for _, k := range found {
				if !strings.Contains(strings.ToLower(k.Name()), strings.ToLower(tc.text)) {
					t.Errorf("%q finds %s", tc.text, k.Name())
				}
			}
			total, turns = total+len(found), turns+1
			if token = next; token == "" {
				break
			}
		}
		if total != tc.total || turns != tc.turns {
			t.Errorf("%q: %d keys in %d questions, want %d in %d", tc.text, total, turns, tc.total, tc.turns)
		}
	}
}
