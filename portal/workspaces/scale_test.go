package workspaces_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/workspaces"
)

const id = "6f1c0a52-6f3d-4a6b-9e59-0f6a8d2b7c11"

// A big platform has one workspace of n items, of which every tenth has failed, and all
// workspaces beside it. It counts what it is asked for.
type big struct {
	n, all int
	listed int // items that left it
	whole  int // answers with all items in them

	moving atomic.Bool // they are being re-encrypted
	asked  atomic.Int64
}

func (b *big) handler() http.Handler {
	type object = map[string]any
	statusOf := func(i int) string {
		if i%10 == 9 {
			return "Failed"
		}
		return "Active"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/workspaces/{id}/encryption", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("items") != "none" {
			b.whole++
		}
		if b.moving.Load() {
			done := int(b.asked.Add(1))
			json.NewEncoder(w).Encode(object{
				"encryptionDetail": object{"keyIdentifier": "https://v/keys/k", "encryptionStatus": "EnableInProgress"}, "serving": object{"state": "Serving"},
				"itemCounts": object{"Active": done, "EnableInProgress": b.n - b.n/10 - done, "Failed": b.n / 10}, "killSwitchBoundSeconds": 60, "mayChange": true,
				"percentComplete": 40, "progress": object{"bytes": done << 20, "totalBytes": b.n << 20},
			})
			return
		}
		json.NewEncoder(w).Encode(object{
			"encryptionDetail": object{"keyIdentifier": "https://v/keys/k", "encryptionStatus": "Failed"}, "serving": object{"state": "Serving"},
			"itemCounts": object{"Active": b.n - b.n/10, "Failed": b.n / 10}, "killSwitchBoundSeconds": 60, "mayChange": true,
		})
	})
	mux.HandleFunc("GET /v1/workspaces/{id}/encryption/items", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		var top, from int
		fmt.Sscan(q.Get("top"), &top)
		fmt.Sscan(q.Get("continuationToken"), &from)
		page, next := []object{}, ""
		for i := from; i < b.n; i++ {
			name := fmt.Sprintf("item %d", i)
			if q.Get("status") != "" && q.Get("status") != statusOf(i) || !strings.Contains(name, q.Get("search")) {
				continue
			}
			if len(page) == top {
				next = fmt.Sprint(i)
				break
			}
			item := object{"id": fmt.Sprint(i), "displayName": name, "type": "Notebook", "encryptionStatus": statusOf(i)}
			if statusOf(i) == "Failed" {
				item["reason"], item["detail"] = "Integrity", "It does not open."
			}
			page = append(page, item)
		}
		b.listed += len(page)
		json.NewEncoder(w).Encode(object{"value": page, "continuationToken": next})
	})
	mux.HandleFunc("GET /v1/workspaces/{id}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"id":"`+id+`","displayName":"Big"}`)
	})
	mux.HandleFunc("GET /v1/workspaces", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"value":[]}`) })
	mux.HandleFunc("GET /v1/admin/workspaces", func(w http.ResponseWriter, r *http.Request) {
		var from int
		fmt.Sscan(r.URL.Query().Get("continuationToken"), &from)
		page := []object{}
		for i := from; i < min(from+100, b.all); i++ {
			status := "Active"
			if i%7 == 0 {
				status = "Disabled"
			}
			page = append(page, object{"id": fmt.Sprint("w", i), "name": fmt.Sprintf("workspace %d", i), "encryption": object{"status": status, "serving": object{"state": "Serving"}}})
		}
		token := ""
		if from+100 < b.all {
			token = fmt.Sprint(from + 100)
		}
		json.NewEncoder(w).Encode(object{"workspaces": page, "continuationToken": token})
	})
	return mux
}

type anybody struct{}

func (anybody) User() portal.User      { return portal.User{Name: "A", ID: "a"} }
func (anybody) Refused(string, string) {}

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

// portal returns a portal before the platform.
func (b *big) portal(t *testing.T) *portal.Portal {
	t.Helper()
	platform := httptest.NewServer(b.handler())
	t.Cleanup(platform.Close)
	p, err := portal.New(portal.Config{Parties: client.Parties{Fabric: client.Party{Name: "platform", Address: platform.URL}}, Sessions: anybody{}}, workspaces.Section())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestManyItems checks that a workspace of ten thousand items is filtered and cut into
// pages before it reaches the portal: what one page costs does not grow with them.
func TestManyItems(t *testing.T) {
	b := &big{n: 10_000}
	p := b.portal(t)
	at := "/workspaces/" + id + "/encryption"
	for _, c := range []struct {
		query string
		rows  int
		want  []string
	}{
		{"", 50, []string{"10,000 items", "Integrity", "Retry the failed items", "<strong>9,000</strong> active", "Next"}},
		{"?token=9950", 50, []string{"10,000 items", "First"}},
		{"?status=Failed", 50, []string{"1,000 items", "It does not open."}},
		{"?q=item+123&status=Active", 10, []string{"10 items on this page"}},
		{"?q=nothing+of+the+kind", 0, []string{"Nothing matches"}},
	} {
		b.listed = 0
		body := get(t, p, at+c.query)
		_, items, _ := strings.Cut(body, `id="itemrows"`)
		items, _, _ = strings.Cut(items, "<footer>")
		if n := strings.Count(items, ">Notebook</td>"); n != c.rows {
			t.Errorf("%q: %d rows, want %d", c.query, n, c.rows)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%q: the page lacks %q", c.query, want)
			}
		}
		if len(body) > 60<<10 || b.listed > 62 || b.whole > 0 {
			t.Errorf("%q: the page has %d bytes, for which %d items were read, and %d times all of them", c.query, len(body), b.listed, b.whole)
		}
	}
}

// TestManyWorkspaces checks the pages of a long list of workspaces, and its filter.
func TestManyWorkspaces(t *testing.T) {
	p := (&big{all: 950}).portal(t)
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

// TestItemsOfAnOpenPage ends a re-encryption after its page was read and before that
// listens for what changes: nothing changes any more, and yet the page is told first of
// all to ask for its items, whose table would say "In progress" for ever.
func TestItemsOfAnOpenPage(t *testing.T) {
	b := &big{n: 20}
	b.moving.Store(true)
	p := b.portal(t)
	s := httptest.NewServer(p)
	defer s.Close()
	defer p.Close() // before, so that nothing is listened to any more
	const at = "/workspaces/" + id + "/encryption"
	page := get(t, p, at)
	listens := regexp.MustCompile(`hx-sse:connect="([^"]*)"`).FindStringSubmatch(page)
	if listens == nil || !strings.Contains(page, "items-changed") {
		t.Fatal("the page does not listen")
	}
	b.moving.Store(false)

	resp, err := http.Get(s.URL + html.UnescapeString(listens[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		switch lines.Text() {
		case "event: items-changed":
			return
		case ": beat": // all there was to tell has been told
			t.Fatal("the page is not told to ask for its items")
		}
	}
	t.Fatalf("the events have ended: %v", lines.Err())
}
