package blob_test

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/storagewire/wiretest"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a body with testdata/NAME, where a tag stands on a line of its
// own for the reader's sake.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, "><", ">\n<") + "\n"
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s:\n%s", name, diff)
	}
}

func TestGolden(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	l := &canned{
		listing: lake.Listing{
			Entries: []lake.Properties{
				{Name: "i/Files/b<&>", Kind: lake.File, Size: 3, ETag: `"0x1"`, Created: at, Modified: at,
					Headers:  lake.ContentHeaders{Type: "text/plain", Encoding: "gzip", Language: "nl", Disposition: "inline", CacheControl: "no-store", MD5: make([]byte, 16)},
					Metadata: map[string]string{"b": "<2>", "a": "1"}},
				{Name: "i/Files/d", Kind: lake.Folder, ETag: `"0x2"`, Modified: at},
				{Name: "i/Files/e + \ufffe", Kind: lake.File, ETag: `"0x3"`, Modified: at},
			},
			Prefixes:     []string{"i/Files/a/", "i/Files/c/"},
			Continuation: "next&",
		},
		containers: []lake.ContainerProperties{
			{Container: lake.Container{Name: "a", Modified: at}, ETag: `"0xA"`},
			{Container: lake.Container{Name: "b", Modified: at}, ETag: `"0xB"`},
		},
		blocks: lake.BlockList{
			Properties: lake.Properties{ETag: `"0x1"`, Size: 3}, Committed: []lake.Block{{ID: "QQ==", Size: 3}}, Uncommitted: []lake.Block{{ID: "Qg==", Size: 4}},
		},
	}
	golden(t, "list.xml", wiretest.Text(t, ask(l, "GET", "/ws?restype=container&comp=list&delimiter=/&prefix=i/Files/&marker=m&maxresults=9&include=snapshots,metadata&startFrom=i/Files/a", "")))
	want := lake.ListOptions{Prefix: "i/Files/", Delimited: true, Max: 9, Continuation: "m", StartFrom: "i/Files/a", IncludeMetadata: true}
	if diff := cmp.Diff(want, l.options); diff != "" {
		t.Error(diff)
	}
	l.listing = lake.Listing{}
	golden(t, "list-empty.xml", wiretest.Text(t, ask(l, "GET", "/ws?restype=container&comp=list&maxresults=99999999999", "")))
	if diff := cmp.Diff(lake.ListOptions{Recursive: true, Max: 5000}, l.options); diff != "" {
		t.Error(diff)
	}
	golden(t, "containers.xml", wiretest.Text(t, ask(l, "GET", "/?comp=list&maxresults=1", "")))
	golden(t, "containers-rest.xml", wiretest.Text(t, ask(l, "GET", "/?comp=list&marker=b", "")))
	golden(t, "blocklist.xml", wiretest.Text(t, ask(l, "GET", "/ws/i/Files/a?comp=blocklist&blocklisttype=all", "")))
	golden(t, "blocklist-committed.xml", wiretest.Text(t, ask(l, "GET", "/ws/i/Files/a?comp=blocklist", "")))

	l.err = fault.New(fault.KEKRefused, "")
	body := wiretest.Text(t, ask(l, "GET", "/ws/i/Files/a", ""))
	i := strings.Index(body, "Time:") + len("Time:")
	golden(t, "error.xml", body[:i]+"T"+body[strings.Index(body, "</Message>"):])
}

func TestParseBlockList(t *testing.T) {
	got, err := blob.ParseBlockList([]byte("\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n  <Latest>QQ==</Latest>\n" +
		"  <Uncommitted> Qg== </Uncommitted><!-- c --><Committed>Qw==</Committed><Latest>QQ==</Latest></BlockList>\n"))
	want := []lake.BlockRef{{ID: "QQ=="}, {ID: "Qg==", Source: lake.Uncommitted}, {ID: "Qw==", Source: lake.Committed}, {ID: "QQ=="}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err := blob.ParseBlockList([]byte("<BlockList/>")); err != nil || len(got) != 0 {
		t.Errorf("an empty list: %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "x", "<BlockList>", "<Blocks></Blocks>", "<BlockList><Other>QQ==</Other></BlockList>", "<BlockList>QQ==</BlockList>",
		"<BlockList><Latest><b>QQ==</b></Latest></BlockList>", "<BlockList/><BlockList/>", "<BlockList/>x", "<Latest>QQ==</Latest>",
		`<!DOCTYPE b [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>`,
	} {
		if got, err := blob.ParseBlockList([]byte(bad)); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
	list := func(n int) []byte {
		return []byte("<BlockList>" + strings.Repeat("<Latest>QQ==</Latest>", n) + "</BlockList>")
	}
	if got, err := blob.ParseBlockList(list(50_000)); err != nil || len(got) != 50_000 {
		t.Errorf("50,000 blocks: %d, %v", len(got), err)
	}
	if _, err := blob.ParseBlockList(list(50_001)); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("50,001 blocks: %v", err)
	}
}

// What is taken for a block list says the same when it is written again.
func FuzzParseBlockList(f *testing.F) {
	f.Add([]byte("<BlockList><Latest>QQ==</Latest><Committed>Qg==</Committed><Uncommitted/></BlockList>"))
	f.Add([]byte("<BlockList><Latest>&#x41;<![CDATA[<]]></Latest></BlockList>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := blob.ParseBlockList(body)
		if err != nil {
			if got != nil || fault.ReasonOf(err) != fault.InvalidArgument {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		var b bytes.Buffer
		b.WriteString("<BlockList>")
		for _, r := range got {
			name := []string{"Latest", "Committed", "Uncommitted"}[r.Source]
			fmt.Fprintf(&b, "<%s>", name)
			xml.EscapeText(&b, []byte(r.ID))
			fmt.Fprintf(&b, "</%s>", name)
		}
		b.WriteString("</BlockList>")
		again, err := blob.ParseBlockList(b.Bytes())
		if err != nil || !slices.Equal(got, again) {
			t.Fatalf("%q became %q, %v", got, again, err)
		}
	})
}

// Whatever a listing is asked for and whatever names it shows, its answer is XML
// that says the same.
func FuzzList(f *testing.F) {
	f.Add("restype=container&comp=list&prefix=a%2F&marker=x&maxresults=1", "a/b")
	f.Add("restype=container&comp=list&delimiter=/&marker=%00&include=metadata", "a\x01b + \ufffe%")
	f.Fuzz(func(t *testing.T, query, name string) {
		if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == '#' || r > '~' }) || !strings.HasPrefix(query, "restype=container&comp=list") {
			return
		}
		name = strings.ToValidUTF8(name, "")
		l := &canned{listing: lake.Listing{Entries: []lake.Properties{{Name: name, Kind: lake.File}}, Continuation: "c"}}
		resp := ask(l, "GET", "/ws?"+query, "")
		body := wiretest.Text(t, resp)
		if resp.StatusCode != 200 {
			if resp.StatusCode != 400 && resp.StatusCode != 501 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			return
		}
		if n := l.options.Max; n < 0 || n > 5000 {
			t.Fatalf("asked for %d", n)
		}
		var e struct {
			Blobs struct {
				Blob []struct {
					Name struct {
						Encoded bool   `xml:",attr"`
						Text    string `xml:",chardata"`
					}
				}
			}
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil || len(e.Blobs.Blob) != 1 {
			t.Fatalf("%v in %s", err, body)
		}
		got := e.Blobs.Blob[0].Name.Text
		if e.Blobs.Blob[0].Name.Encoded {
			got = unescape(t, got)
		}
		if got != name {
			t.Fatalf("%q is listed as %q", name, got)
		}
	})
}

// unescape undoes the encoding of a name in both ways that clients do it.
func unescape(t *testing.T, s string) string {
	t.Helper()
	a, err := url.QueryUnescape(s)
	b, err2 := url.PathUnescape(s)
	if err != nil || err2 != nil || a != b {
		t.Fatalf("%q is read as %q and as %q", s, a, b)
	}
	return a
}
