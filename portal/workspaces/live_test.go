package workspaces_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal/portaltest"
)

// TestReencryptionWithoutAMouse watches the re-encryption of ten thousand items by
// keyboard, as somebody does who does not see the page: what changes by itself leaves the
// focus where it is and is said in few words, and a filter says what it has left.
func TestReencryptionWithoutAMouse(t *testing.T) {
	portaltest.Slow(t)
	b := &big{n: 10_000}
	b.moving.Store(true)
	p := b.portal(t)
	s := httptest.NewTLSServer(p)
	defer s.Close()
	defer p.Close() // before, so that nothing is listened to any more
	w := portaltest.NewBrowser(t, s.URL)
	w.Look("light", 1280)
	w.Go("/workspaces/" + id + "/encryption")
	focus := func() string {
		return portaltest.Eval[string](w, `((e) => e.name || e.form?.action || e.id || e.getAttribute("href") || e.tagName)(document.activeElement)`)
	}

	w.Press("\t")
	if at := focus(); at != "#main" {
		t.Errorf("the keyboard reaches %q first", at)
	}
	w.Press("\r")
	if at := focus(); at != "main" {
		t.Errorf("the link past the navigation leads to %q", at)
	}
	for range 20 {
		if strings.HasSuffix(focus(), "/retry") {
			break
		}
		w.Press("\t")
	}
	if at := focus(); !strings.HasSuffix(at, "/retry") {
		t.Fatalf("the keyboard does not reach the button that tries again, but %q", at)
	}
	if outline := portaltest.Eval[string](w, `getComputedStyle(document.activeElement).outlineStyle`); outline != "solid" {
		t.Errorf("nothing shows where the keyboard is: %s", outline)
	}
	// The page changes three times by itself.
	const tally = `document.querySelector("#live .tally").innerText`
	for range 3 {
		was := portaltest.Eval[string](w, tally)
		w.Until(tally + " !== `" + was + "`")
		if at := focus(); !strings.HasSuffix(at, "/retry") {
			t.Fatalf("the page has taken the focus from the button, to %q", at)
		}
	}
	w.Until(`/per cent done/.test(document.querySelector("#said[role=status]").innerText)`)
	if n := portaltest.Eval[int](w, `document.querySelectorAll("main [aria-live]:has(tr)").length`); n != 0 {
		t.Errorf("%d parts read all their rows out when they change", n)
	}

	w.Inspect("encryption-in-progress")

	portaltest.Eval[bool](w, `document.querySelector("#items input[name=q]").focus(); performance.clearResourceTimings(); true`)
	for _, key := range "item 123" {
		w.Press(string(key))
	}
	w.Until(`document.querySelectorAll("#itemrows tbody tr").length === 11`)
	w.Until(`document.querySelector("#announce[role=status]").innerText === "11 items on this page"`)
	if at := focus(); at != "q" {
		t.Errorf("the filter has lost the focus to %q", at)
	}
	// A key struck while the one before is answered may ask again: some answers, all small.
	if n := portaltest.Eval[int](w, `performance.getEntriesByType("resource").filter(e => e.name.includes("/items?")).reduce((n, e) => Math.max(n, e.transferSize), 0)`); n == 0 || n > 8<<10 {
		t.Errorf("an answer to the filter takes %d bytes", n)
	}

	b.moving.Store(false)
	w.Until(`/Encryption is/.test(document.querySelector("#said").innerText)`)
	if at := focus(); at != "q" {
		t.Errorf("the end has taken the focus to %q", at)
	}
}
