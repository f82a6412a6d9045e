package portal_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
)

// What TestFluid fills an installation with.
const (
	fluidItems   = 10_000
	fluidLakes   = 500 // of the items, each with files
	fluidFiles   = 8   // of a lake
	fluidKeys    = 3_000
	fluidEntries = 100_000
)

// TestFluid measures what a browser makes of an installation with much in it, and watches a
// long re-encryption in it: figures for docs/benchmarks.md, and pictures. It checks what
// does not depend on the machine; TestManyItems, TestFindKeys and
// TestReencryptionWithoutAMouse are its short form.
func TestFluid(t *testing.T) {
	if effort.Of(0, 0, 1) == 0 {
		t.Skip("KLUIS_EFFORT=full makes 10,000 items, 3,000 keys and 100,000 audit entries, and takes some minutes")
	}
	config := filepath.Join(t.TempDir(), "kluis.yaml")
	if err := os.WriteFile(config, []byte("platform: {rate: 100000, burst: 100000}\nlimits: {making: 0, tenant: 0, software: {ec: 0, rsa2048: 0}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := portaltest.Serve(t, "--config", config)
	f := &fluid{TB: t, data: filepath.Dir(filepath.Dir(target.CAFile))}
	f.fill(target)

	if t.Failed() {
		return
	}
	b := portaltest.NewBrowser(t, target.Endpoints["portal"])
	b.Look("light", 1280)
	b.SignInAs(target.Users["engineer"].Name, target.Users["engineer"].Password)
	f.watch(b)
	f.pages(b, "items", f.page, `#items a.button[href*="token="]`, "input[name=q]", "item_0999", 100)

	officer := portaltest.NewBrowser(t, target.Endpoints["portal"])
	officer.Look("light", 1280)
	officer.SignInAs(target.Users["custodian"].Name, target.Users["custodian"].Password)
	f.pages(officer, "keys", "/vaults/kluis/default", `#rows a.button[href*="token="]`, "input[name=q]", "key-29", 25)
	f.pages(officer, "audit", "/audit?party=vault", `#rows a.button[href*="after="]`, "input[name=operation]", "KeyGet", 100)
	f.open(officer, "the custodian's overview", "/")
	f.open(b, "what the key covers", f.page+"/coverage")
	f.open(b, "what goes dark", f.page+"/impact")
	f.open(b, "the engineer's overview", "/")
}

type fluid struct {
	testing.TB
	data, page string
	estate     *portaltest.Estate
}

// each calls fn for 0 to n-1, several at once.
func (f *fluid) each(n int, fn func(i int) error) {
	f.Helper()
	var all sync.WaitGroup
	next := make(chan int)
	for range 24 {
		all.Go(func() {
			for i := range next {
				if err := fn(i); err != nil {
					f.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

func (f *fluid) fill(target sdk.Target) {
	begin := time.Now()
	said := func(what string) { f.Logf("%s were made in %.0f s", what, time.Since(begin).Seconds()) }
	c, err := sdk.New(target)
	if err != nil {
		f.Fatal(err)
	}
	e := &portaltest.Estate{TB: f.TB, Clients: c}
	f.estate = e
	if e.Engineer, err = c.Engineer(); err != nil {
		f.Fatal(err)
	}
	if e.Officer, err = c.Officer(); err != nil {
		f.Fatal(err)
	}
	if e.Keys, err = e.Officer.Keys(target.VaultURI("default")); err != nil {
		f.Fatal(err)
	}
	e.Workspace = e.Make("/workspaces", map[string]string{"displayName": "Sales", "description": "Orders, and who placed them"})
	f.page = "/workspaces/" + e.Workspace + "/encryption"
	e.Make("/workspaces/"+e.Workspace+"/roleAssignments", map[string]any{
		"principal": map[string]string{"id": target.Users["engineer"].ObjectID, "type": "User"}, "role": "Admin",
	})
	var both sync.WaitGroup
	both.Go(func() { f.fillWorkspace(); said("items and their files") })
	both.Go(func() { f.fillVault(); said("keys and audit entries") })
	both.Wait()
	made, err := e.Keys.CreateKey(f.Context(), "sales", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](3072)}, nil)
	if err != nil {
		f.Fatal(err)
	}
	e.Key = strings.TrimSuffix(string(*made.Key.KID), "/"+made.Key.KID.Version())
	e.Grant(target.Platform.ObjectID, portaltest.EncryptionUser)
}

func (f *fluid) fillWorkspace() {
	e := f.estate
	items := "/workspaces/" + e.Workspace + "/items"
	f.each(fluidItems, func(i int) error {
		kind := "Notebook"
		if i < fluidLakes {
			kind = "Lakehouse"
		}
		return e.Engineer.Fabric.Call(f.Context(), http.MethodPost, items, map[string]string{"displayName": fmt.Sprintf("item_%05d", i), "type": kind}, nil)
	})
	body := make([]byte, 160<<10)
	f.each(fluidLakes*fluidFiles, func(i int) error {
		_, err := e.Engineer.Blobs.UploadBuffer(f.Context(), e.Workspace, fmt.Sprintf("item_%05d.Lakehouse/Files/part-%d.bin", i/fluidFiles, i%fluidFiles), body, nil)
		return err
	})
}

func (f *fluid) fillVault() {
	e := f.estate
	f.each(fluidKeys, func(i int) error {
		_, err := e.Keys.CreateKey(f.Context(), fmt.Sprintf("key-%04d", i), azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveNameP256)}, nil)
		return err
	})
	f.each(fluidEntries, func(i int) error {
		_, err := e.Keys.GetKey(f.Context(), fmt.Sprintf("key-%04d", i%fluidKeys), "", nil)
		return err
	})
}

// watch applies the key with a few extents broken, looks at the re-encryption from its
// beginning to its failed items, mends what was broken, tries those again and sees the end.
func (f *fluid) watch(b *portaltest.Browser) {
	mend := f.breakSome(3)
	b.Go(f.page)
	b.Fill("#key", f.estate.Key)
	begin := time.Now()
	b.Click("#apply button.primary")
	b.WaitFor("The key is applied")
	portaltest.Eval[bool](b, watchScript)
	b.WaitUntil("#live progress")
	b.Pictures("reencryption-1-begins")
	half := func() bool {
		return portaltest.Eval[int](b, `+(document.querySelector("#live .going progress")?.value ?? 100)`) >= 45
	}
	for !half() {
		time.Sleep(200 * time.Millisecond)
	}
	b.Pictures("reencryption-2-midway")
	f.Logf("midway after %.0f s: %s", time.Since(begin).Seconds(), portaltest.Eval[string](b, seenScript))
	f.settled("Failed")
	f.Logf("done but for the broken ones after %.0f s: %s", time.Since(begin).Seconds(), portaltest.Eval[string](b, seenScript))
	b.WaitUntil("#live form[action$=retry]")
	b.WaitUntil("#live:not(:has(.going))")
	b.Pictures("reencryption-3-failed")
	mend()
	b.Click("#live form[action$=retry] button")
	f.settled("Active")
	b.WaitUntil("#live:not(:has(.moving))")
	b.Pictures("reencryption-4-done")
	f.Logf("all done after %.0f s", time.Since(begin).Seconds())
}

// settled waits until the workspace has a state.
func (f *fluid) settled(want string) {
	f.Helper()
	for end := time.Now().Add(15 * time.Minute); ; time.Sleep(time.Second) {
		s, err := f.estate.Engineer.Fabric.Encryption(f.Context(), f.estate.Workspace)
		if err != nil {
			f.Fatal(err)
		}
		if s.Detail.Status == want {
			return
		}
		if time.Now().After(end) {
			f.Fatalf("the workspace is %s, not %s", s.Detail.Status, want)
		}
	}
}

// breakSome changes a byte in some of the extents, and returns what puts them right.
func (f *fluid) breakSome(n int) (mend func()) {
	was := map[string][]byte{}
	filepath.WalkDir(f.data, func(path string, d fs.DirEntry, err error) error {
		if info, e := d.Info(); err == nil && e == nil && len(was) < n && d.Type().IsRegular() && info.Size() > 150<<10 && info.Size() < 200<<10 {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			was[path] = text
			bad := append([]byte{}, text...)
			bad[len(bad)/2] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				f.Fatal(err)
			}
		}
		return nil
	})
	if len(was) != n {
		f.Fatalf("%d extents were found", len(was))
	}
	return func() {
		for path, text := range was {
			if err := os.WriteFile(path, text, 0o600); err != nil && !os.IsNotExist(err) {
				f.Fatal(err)
			}
		}
	}
}

// watchScript begins to count what a page costs while it is open.
const watchScript = `(() => { window.seen = {long: 0, longest: 0, shift: 0, from: performance.now(), bytes: 0, requests: 0};
new PerformanceObserver(l => { for (const e of l.getEntries()) { seen.long++; seen.longest = Math.max(seen.longest, e.duration); } }).observe({type: "longtask"});
new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) seen.shift += e.value; }).observe({type: "layout-shift"});
new PerformanceObserver(l => { for (const e of l.getEntries()) { seen.bytes += e.transferSize; seen.requests++; } }).observe({type: "resource"});
return true; })()`

const seenScript = `(() => { const s = (performance.now() - seen.from) / 1000; return seen.long + " long tasks, the longest " + Math.round(seen.longest) + " ms; layout shift " + seen.shift.toFixed(3) + "; " + seen.requests + " requests with " + Math.round(seen.bytes / 1024) + " kB in " + Math.round(s) + " s"; })()`

// view is what opening a page has cost.
type view struct {
	First, Loaded, Answer float64 // ms: first contentful paint, load event, the answer's end
	Bytes                 int64
	Rows                  int
	Shift                 float64
}

const viewScript = `(() => { const n = performance.getEntriesByType("navigation")[0]; let shift = 0;
const o = new PerformanceObserver(() => {}); o.observe({type: "layout-shift", buffered: true}); for (const e of o.takeRecords()) shift += e.value;
return {First: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0, Loaded: n.loadEventEnd, Answer: n.responseEnd, Bytes: n.transferSize, Shift: shift,
Rows: document.querySelectorAll("#rows tbody tr, #itemrows tbody tr").length}; })()`

func (f *fluid) open(b *portaltest.Browser, what, path string) view {
	b.Go(path)
	b.WaitUntil("main h1")
	v := portaltest.Eval[view](b, viewScript)
	f.Logf("%s: answer %.0f ms, first paint %.0f ms, loaded %.0f ms, %d bytes, %d rows, shift %.3f", what, v.Answer, v.First, v.Loaded, v.Bytes, v.Rows, v.Shift)
	if v.Bytes > 40<<10 || v.Rows > 130 || v.Shift > 0.02 {
		f.Errorf("%s: %+v", what, v)
	}
	return v
}

// pages opens a long list, turns its pages, filters it, and measures.
func (f *fluid) pages(b *portaltest.Browser, what, path, next, filter, text string, turns int) {
	f.open(b, what+", first page", path)
	b.Pictures("many-" + what)
	heap, nodes := b.Memory()
	var firsts, answers []float64
	var bytes int64
	turned := 0
	for ; turned < turns && b.Has(next); turned++ {
		b.Go(portaltest.Eval[string](b, `document.querySelector('`+next+`').getAttribute("href")`))
		v := portaltest.Eval[view](b, viewScript)
		firsts, answers, bytes = append(firsts, v.First), append(answers, v.Answer), bytes+v.Bytes
	}
	heapAfter, nodesAfter := b.Memory()
	slices.Sort(answers)
	slices.Sort(firsts)
	f.Logf("%s: %d pages turned: answer p50 %.0f, max %.0f ms; first paint p50 %.0f, max %.0f ms; %d bytes a page; heap %d kB before and %d after, nodes %d and %d", what, turned,
		answers[turned/2], answers[turned-1], firsts[turned/2], firsts[turned-1], bytes/int64(turned), heap>>10, heapAfter>>10, nodes, nodesAfter)

	b.Go(path)
	time.Sleep(2 * time.Second) // what an open page asks for by itself has come
	portaltest.Eval[bool](b, watchScript)
	portaltest.Eval[bool](b, `(() => { window.filtered = 0; const from = performance.now(), e = document.querySelector("main `+filter+`");
const look = () => { const rows = [...document.querySelectorAll("#rows tbody tr, #itemrows tbody tr")];
if (rows.length && rows.every(r => r.innerText.toLowerCase().includes("`+strings.ToLower(text)+`"))) window.filtered = performance.now() - from; else requestAnimationFrame(look); };
e.value = "`+text+`"; e.dispatchEvent(new Event("input", {bubbles: true})); requestAnimationFrame(look); return true; })()`)
	for end := time.Now().Add(30 * time.Second); portaltest.Eval[float64](b, `window.filtered`) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.Errorf("%s: not filtered:\n%s", what, b.Text())
			return
		}
	}
	f.Logf("%s: rows with %q %.0f ms after the key (250 to 400 of them wait for the next key): %s", what, text, portaltest.Eval[float64](b, `window.filtered`), portaltest.Eval[string](b, seenScript))
	b.Pictures("many-" + what + "-filtered")
}
