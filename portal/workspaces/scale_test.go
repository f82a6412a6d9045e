package workspaces_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/workspaces"
)

const id = "6f1c0a52-6f3d-4a6b-9e59-0f6a8d2b7c11"

// many is a platform with one workspace of n items, of which every tenth has failed, and
// workspaces workspaces beside it.
func many(n, all int) http.Handler {
	type object = map[string]any
	var active, failed []object
	for i := range n {
		item := object{"id": fmt.Sprint(i), "displayName": fmt.Sprintf("item %d", i), "type": "Notebook"}
		if i%10 == 9 {
			item["reason"], item["detail"] = "Integrity", "It does not open."
			failed = append(failed, item)
		} else {
			active = append(active, item)
		}
	}
	encryption, _ := json.Marshal(object{
		"encryptionDetail": object{"keyIdentifier": "https://v/keys/k", "encryptionStatus": "Failed"}, "serving": object{"state": "Serving"},
		"workspaceEncryptionItemsDetails": []object{{"encryptionStatus": "Failed", "items": failed}, {"encryptionStatus": "Active", "items": active}},
		"killSwitchBoundSeconds":          60, "mayChange": true,
	})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/workspaces/{id}/encryption", func(w http.ResponseWriter, _ *http.Request) { w.Write(encryption) })
	mux.HandleFunc("GET /v1/workspaces/{id}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"id":"`+id+`","displayName":"Big"}`)
	})
	mux.HandleFunc("GET /v1/workspaces", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"value":[]}`) })
	mux.HandleFunc("GET /v1/admin/workspaces", func(w http.ResponseWriter, r *http.Request) {
		var from int
		fmt.Sscan(r.URL.Query().Get("continuationToken"), &from)
		page := []object{}
		for i := from; i < min(from+100, all); i++ {
			status := "Active"
			if i%7 == 0 {
				status = "Disabled"
			}
			page = append(page, object{"id": fmt.Sprint("w", i), "name": fmt.Sprintf("workspace %d", i), "encryption": object{"status": status, "serving": object{"state": "Serving"}}})
		}
		token := ""
		if from+100 < all {
			token = fmt.Sprint(from + 100)
		}
		json.NewEncoder(w).Encode(object{"workspaces": page, "continuationToken": token})
	})
	return mux
}

type anybody struct{}

func (anybody) User() portal.User                                         { return portal.User{Name: "A", ID: "a"} }
func (anybody) Token(context.Context, string) (string, error)             { return "t", nil }
func (anybody) Session(http.ResponseWriter, *http.Request) portal.Session { return anybody{} }
func (anybody) Begin(w http.ResponseWriter, _ *http.Request, _ string)    { w.WriteHeader(401) }
func (anybody) ServeHTTP(http.ResponseWriter, *http.Request)              {}

func get(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// TestManyItems checks that a workspace of ten thousand items is shown page by page, and
// filtered before it is sent.
func TestManyItems(t *testing.T) {
	platform := httptest.NewServer(many(10_000, 950))
	defer platform.Close()
	p, err := portal.New(portal.Config{Parties: client.Parties{Fabric: client.Party{Name: "platform", Address: platform.URL}}, Sessions: anybody{}}, workspaces.Section())
	if err != nil {
		t.Fatal(err)
	}
	at := "/workspaces/" + id + "/encryption"
	for _, c := range []struct {
		query string
		rows  int
		want  []string
	}{
		{"", 50, []string{"10000 items, page 1 of 200", "Integrity", "Retry the failed items", "<strong>9000</strong> active"}},
		{"?page=200", 50, []string{"page 200 of 200"}},
		{"?page=9999", 50, []string{"page 200 of 200"}},
		{"?status=Failed", 50, []string{"1000 items, page 1 of 20", "It does not open."}},
		{"?q=item+123&status=Active", 10, []string{"10 items"}},
		{"?q=nothing+of+the+kind", 0, []string{"Nothing matches"}},
	} {
		body := get(t, p, at+c.query)
		_, items, _ := strings.Cut(body, `id="itemrows"`)
		items, _, _ = strings.Cut(items, "<footer>")
		if n := strings.Count(items, "<td>Notebook"); n != c.rows {
			t.Errorf("%q: %d rows, want %d", c.query, n, c.rows)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%q: the page lacks %q", c.query, want)
			}
		}
		if len(body) > 60<<10 {
			t.Errorf("%q: the page has %d bytes", c.query, len(body))
		}
	}
}

// TestManyWorkspaces checks the pages of a long list of workspaces, and its filter.
func TestManyWorkspaces(t *testing.T) {
	platform := httptest.NewServer(many(0, 950))
	defer platform.Close()
	p, err := portal.New(portal.Config{Parties: client.Parties{Fabric: client.Party{Name: "platform", Address: platform.URL}}, Sessions: anybody{}}, workspaces.Section())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for at := "/workspaces"; at != ""; {
		body := get(t, p, at)
		seen += strings.Count(body, `class="row"`)
		_, next, more := strings.Cut(body, `<a class="button" href="/workspaces?q=`)
		for more && !strings.Contains(next[:strings.Index(next, "</a>")], "Next") {
			_, next, more = strings.Cut(next, `<a class="button" href="/workspaces?q=`)
		}
		if at = ""; more {
			at = "/workspaces?q=" + strings.ReplaceAll(next[:strings.Index(next, `"`)], "&amp;", "&")
		}
	}
	if seen != 950 {
		t.Errorf("%d workspaces on all pages, want 950", seen)
	}
	if body := get(t, p, "/workspaces?q=WORKSPACE+949"); strings.Count(body, `class="row"`) != 1 {
		t.Error("the filter does not find the last workspace")
	}
	if body := get(t, p, "/workspaces?status=Failed"); !strings.Contains(body, "Nothing matches") {
		t.Error("no workspace has failed, and the page does not say so")
	}
}
