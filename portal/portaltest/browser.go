package portaltest

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kluis-io/kluis/internal/effort"
)

// A Browser is headless Chromium at a portal.
type Browser struct {
	testing.TB
	ctx  context.Context
	base string
}

// NewBrowser starts Chromium, which trusts any certificate and talks to this machine
// alone.
func NewBrowser(t testing.TB, base string) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		effort.Missing(t, "chromium (Debian: chromium)", "the portal in a browser")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.IgnoreCertErrors)
	for _, flag := range []string{"disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	options = append(options, chromedp.Flag("host-resolver-rules", "MAP *.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, time.Duration(effort.Of(8, 8, 40))*time.Minute)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil { // starts it, for as long as this context lives
		t.Fatal(err)
	}
	return &Browser{TB: t, ctx: ctx, base: base}
}

// do runs actions, each of which has half a minute. What was looked for on a page that went
// away meanwhile is looked for again on the one that came.
func (b *Browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	err := chromedp.Do(ctx, actions...)
	for err != nil && strings.Contains(err.Error(), "node with given id") && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		err = chromedp.Do(ctx, actions...)
	}
	if err != nil {
		b.Picture("failed")
		b.Fatalf("%s: %v\n%s", what, err, b.Text())
	}
}

// SignIn makes a principal the one who has signed in.
func (b *Browser) SignIn(name string) {
	b.Helper()
	u, err := url.Parse(b.base)
	if err != nil {
		b.Fatal(err)
	}
	set := func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.SetCookie, network.SetCookieParams{Name: As, Value: name, Domain: u.Hostname(), Path: "/", Secure: new(true)})
		return err
	}
	b.do("signing in", chromedp.Func(set))
}

// Look sets the window and the colours: light or dark.
func (b *Browser) Look(scheme string, width int64) {
	b.Helper()
	media := func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}
	options := []chromedp.EmulateViewportOption{}
	if width < 600 {
		options = append(options, chromedp.EmulateMobile)
	}
	b.do("the window", chromedp.EmulateViewport(width, 900, options...), chromedp.Func(media))
}

// Go opens a page.
func (b *Browser) Go(path string) {
	b.Helper()
	b.do("opening "+path, chromedp.Navigate(b.base+path))
}

// Click clicks what a CSS selector names. It is scrolled to first. A click on what has only
// just come into view can be lost, and is then made again. Where it leads to another page,
// that page is there when Click returns: nothing is looked for on the old one.
func (b *Browser) Click(selector string) {
	b.Helper()
	at := chromedp.CSS(selector)
	b.do("looking for "+selector, chromedp.WaitVisible(at))
	leads := Eval[bool](b, `((e) => { e?.scrollIntoView({block: "center", behavior: "instant"}); window.stillHere = true; window.taken = false;
const leads = ((e) => { `+leadsScript+` })(e), form = leads && !e.closest("a[href]");
document.addEventListener(form ? "submit" : "click", ev => { if (form || e.contains(ev.target)) window.taken = true; }, {capture: true});
return leads; })(document.querySelector(`+quote(selector)+`))`)
	for end := time.Now().Add(30 * time.Second); ; {
		time.Sleep(50 * time.Millisecond)
		b.do("clicking "+selector, chromedp.Click(at))
		if b.soon(3*time.Second, `window.stillHere !== true || window.taken`) || time.Now().After(end) {
			break
		}
		if lost, err := evaluate[bool](b, `window.stillHere === true && !window.taken`); err != nil || !lost {
			break // the page is on its way to another
		}
	}
	if leads {
		b.soon(30*time.Second, `window.stillHere !== true && document.readyState === "complete"`)
	}
}

// soon reports whether a script comes to be true in a while.
func (b *Browser) soon(while time.Duration, script string) bool {
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is, err := evaluate[bool](b, script); err == nil && is {
			return true
		}
	}
	return false
}

// leadsScript tells whether a click on the element e leads to another page: links do, and
// buttons of forms that are filled in, unless htmx handles them or they lead within the
// page.
const leadsScript = `const link = e?.closest("a[href]"), form = e?.closest("button, input[type=submit]")?.form;
const ours = [...(link || e)?.attributes || [], ...form?.attributes || []].some(a => /^hx-(get|post|put|delete)$/.test(a.name));
if (ours) return false;
if (link) return link.href.split("#")[0] !== location.href.split("#")[0] || !link.href.includes("#");
return !!form && (e.closest("button")?.type ?? "submit") === "submit" && form.checkValidity();`

// Fill writes into a field in place of what it holds.
func (b *Browser) Fill(selector, text string) {
	b.Helper()
	b.do("filling "+selector, chromedp.SetValue(chromedp.CSS(selector), text))
}

// Eval runs a script, and returns what it is worth.
func Eval[T any](b *Browser, script string) T {
	b.Helper()
	v, err := evaluate[T](b, script)
	if err != nil { // the page may just be going away
		time.Sleep(100 * time.Millisecond)
		v, err = evaluate[T](b, script)
	}
	if err != nil {
		b.Fatalf("%s: %v", script[:min(len(script), 200)], err)
	}
	return v
}

func evaluate[T any](b *Browser, script string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](script))
}

// Text returns what the page's main part says.
func (b *Browser) Text() string {
	v, err := evaluate[string](b, `(document.querySelector("main") || document.body).innerText`)
	if err != nil {
		return err.Error()
	}
	return v
}

// WaitFor waits until the page says something.
func (b *Browser) WaitFor(text string) {
	b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if strings.Contains(b.Text(), text) {
			return
		}
		if time.Now().After(end) {
			b.Picture("failed")
			b.Fatalf("the page does not come to say %q:\n%s", text, b.Text())
		}
	}
}

// WaitUntil waits until the page has what a CSS selector names.
func (b *Browser) WaitUntil(selector string) {
	b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if has, err := evaluate[bool](b, hasScript(selector)); err == nil && has {
			return
		}
		if time.Now().After(end) {
			b.Picture("failed")
			b.Fatalf("the page does not come to have %s:\n%s", selector, b.Text())
		}
	}
}

func hasScript(selector string) string {
	return `document.querySelector(` + quote(selector) + `) !== null`
}

// Until waits until a script is true of the page.
func (b *Browser) Until(script string) {
	b.Helper()
	if !b.soon(time.Minute, script) {
		b.Picture("failed")
		b.Fatalf("never true: %s\n%s", script, b.Text())
	}
}

// Has reports whether the page has what a CSS selector names.
func (b *Browser) Has(selector string) bool {
	b.Helper()
	return Eval[bool](b, hasScript(selector))
}

func quote(s string) string { return "`" + strings.ReplaceAll(s, "`", "\\`") + "`" }

// Picture keeps a picture of the whole page, if KLUIS_SCREENSHOTS names a folder.
func (b *Browser) Picture(name string) {
	b.Helper()
	dir := os.Getenv("KLUIS_SCREENSHOTS")
	if dir == "" {
		return
	}
	evaluate[bool](b, `scrollTo({top: 0, behavior: "instant"}); true`) // what sticks to the window's edge would lie in the middle
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.Error(err)
	}
}

// looks are those in which pages are inspected: by day and by night, on a desk and on a phone.
var looks = []struct {
	scheme string
	width  int64
	suffix string
}{{"light", 1280, "light"}, {"dark", 1280, "dark"}, {"light", 390, "phone"}, {"dark", 390, "phone-dark"}}

// Pictures takes the page as it is in each look, without inspecting it: it may change
// meanwhile.
func (b *Browser) Pictures(name string) {
	b.Helper()
	defer b.Look("light", 1280)
	for _, v := range looks {
		b.Look(v.scheme, v.width)
		b.Picture(name + "-" + v.suffix)
	}
}

// Inspect looks at the page that is open by day and by night, on a desk and on a phone, all four:
// it takes pictures, has axe-core look for barriers, and checks that nothing is wider
// than the window. Meanwhile the page must not change by itself.
func (b *Browser) Inspect(name string) {
	b.Helper()
	defer b.Look("light", 1280)
	for _, v := range looks {
		b.Look(v.scheme, v.width)
		b.settle()
		b.Picture(name + "-" + v.suffix)
		if wide := Eval[string](b, wideScript); wide != "" {
			b.Errorf("%s, %s: wider than the window:\n%s", name, v.suffix, wide)
		}
		b.accessible(name + ", " + v.suffix)
	}
}

// settle waits until the page has been drawn, and its scripts have seen its new size.
func (b *Browser) settle() {
	b.Helper()
	Eval[bool](b, `window.settled = false; requestAnimationFrame(() => requestAnimationFrame(() => { window.settled = true; })); true`)
	for end := time.Now().Add(30 * time.Second); !Eval[bool](b, `window.settled !== false`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("the page is not drawn")
		}
	}
}

const wideScript = `(() => { const room = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= room) return "";
return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > room + 1 && !e.closest(".wide")).slice(0, 4).map(e => e.outerHTML.slice(0, 160)).join("\n") || "the page"; })()`

// accessible has axe-core look at the page, by the rules of WCAG 2.2 A and AA and its
// own of good practice.
func (b *Browser) accessible(what string) {
	b.Helper()
	if !Eval[bool](b, `typeof axe !== "undefined"`) {
		Eval[bool](b, axe(b)+"; true")
	}
	Eval[bool](b, `window.axeFound = null; axe.run(document, {resultTypes: ["violations"]}).then(r => window.axeFound = JSON.stringify(r.violations), e => window.axeFound = JSON.stringify([{id: "axe", help: String(e), nodes: []}])); true`)
	var found string
	for end := time.Now().Add(30 * time.Second); found == ""; time.Sleep(20 * time.Millisecond) {
		found = Eval[string](b, `window.axeFound === undefined ? "gone" : window.axeFound || ""`)
		if found == "gone" { // the page was loaded again by itself
			b.settle()
			b.accessible(what)
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s: axe-core does not end", what)
		}
	}
	all, err := violations(found)
	if err != nil {
		b.Fatal(err)
	}
	for _, v := range all {
		b.Errorf("%s: %s", what, v)
	}
}

// SignInAs signs a person in on the issuer's own page, as people do.
func (b *Browser) SignInAs(name, password string) {
	b.Helper()
	b.Go("/")
	b.do("the sign-in page", chromedp.WaitVisible(chromedp.CSS("#username")))
	b.Fill("#username", name)
	b.Fill("#password", password)
	b.Click("button[type=submit]")
	b.do("coming back", chromedp.WaitVisible(chromedp.CSS("header.top .who")))
}

// A Weight is what a page has cost the browser, and whether it stood still.
type Weight struct {
	Bytes  int64   // on the wire, compressed
	Shift  float64 // how far the layout moved, as browsers reckon it
	Others string  // what was asked of other hosts
}

// Weigh opens a page with nothing of it kept from before, and weighs it.
func (b *Browser) Weigh(path string) Weight {
	b.Helper()
	forget := func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCache, cdp.Empty{})
		return err
	}
	b.do("forgetting", chromedp.Func(forget))
	b.Go(path)
	return Eval[Weight](b, `(() => { const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
const o = new PerformanceObserver(() => {}); o.observe({type: "layout-shift", buffered: true});
return {Bytes: all.reduce((n, e) => n + e.transferSize, 0), Shift: o.takeRecords().reduce((n, e) => n + e.value, 0),
Others: all.map(e => e.name).filter(n => !n.startsWith(location.origin)).join(" ")}; })()`)
}

// Memory returns how much of its heap the page's script uses, in bytes, and how many nodes
// the browser keeps, after what nobody needs has been let go.
func (b *Browser) Memory() (heap, nodes int64) {
	b.Helper()
	b.do("measuring memory", chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			return err
		}
		used, err := cdp.Call(ctx, target, runtime.GetHeapUsage, cdp.Empty{})
		if err != nil {
			return err
		}
		kept, err := cdp.Call(ctx, target, memory.GetDOMCounters, cdp.Empty{})
		heap, nodes = int64(used.UsedSize), kept.Nodes
		return err
	}))
	return heap, nodes
}

// Press sends keys to what has the focus.
func (b *Browser) Press(keys string) {
	b.Helper()
	b.do("pressing a key", chromedp.KeyEvent(keys))
}

// An Answer is what the portal said to a request of a page.
type Answer struct {
	Status      int
	Disposition string // its Content-Disposition
	Body        []byte
}

// Fetch asks for a path from the page that is open, as the page's own forms and scripts
// do: with its cookies and its origin. A form goes with a POST.
func (b *Browser) Fetch(method, path string, form url.Values) Answer {
	b.Helper()
	return Eval[Answer](b, `(() => { const x = new XMLHttpRequest(); x.open(`+quote(method)+`, `+quote(path)+`, false);
x.overrideMimeType("text/plain; charset=x-user-defined"); x.setRequestHeader("Content-Type", "application/x-www-form-urlencoded"); x.send(`+quote(form.Encode())+`);
let body = ""; for (const c of x.responseText) body += String.fromCharCode(c.charCodeAt(0) & 255);
return {Status: x.status, Disposition: x.getResponseHeader("Content-Disposition") || "", Body: btoa(body)}; })()`)
}
