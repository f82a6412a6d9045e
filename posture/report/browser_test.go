package report_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/posture/kpi"
	"github.com/kluis-io/kluis/posture/posturetest"
	"github.com/kluis-io/kluis/posture/report"
)

// browser starts headless Chromium, which talks to nobody.
func browser(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip("a browser takes its time: run with CI=true")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		effort.Missing(t, "chromium (Debian: chromium)", "how the HTML report looks")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()))
	for _, flag := range []string{"disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// estate is a scan with something of everything.
func estate(t *testing.T) *posture.Scan {
	t.Helper()
	p, err := posture.ParsePolicy([]byte(`
rules:
- {name: production, when: {types: "Microsoft.[S-Z]*"}, requires: cmk, why: "customers' data, contract §7"}
- {name: storage, when: {types: ["Microsoft.Storage/*", "Microsoft.Compute/*", "Microsoft.Cache/*"]}, requires: cmk, why: personal data}
- {name: the rest, when: {types: "Microsoft.B*"}, requires: platform, why: nothing of value}
exceptions:
- {resources: "*Cache*", owner: ann@example.com, reason: moves to another service in March, expires: 2027-03-31}
`))
	if err != nil {
		t.Fatal(err)
	}
	inv := &posture.Inventory{Gaps: []posture.Gap{{What: "subscription 8d5f", Why: "403: the reader lacks Reader"}}}
	for _, state := range []posture.State{posture.On, posture.Off} {
		for _, body := range posturetest.EachType(state, false).Bodies {
			inv.Add(body, posture.Evidence{Source: "export", Path: "answers/a-rather-long-name-of-a-file-from-an-export.json#/value/1", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"})
		}
	}
	inv.Link()
	return posture.Judge(inv, p, nil, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
}

// figures are those of three scans, of which the last is scan.
func figures(t *testing.T, scan *posture.Scan) *report.Figures {
	t.Helper()
	var trend []history.Scan
	for i, coverage := range []float64{10, 35, scan.Summary.Coverage} {
		s := history.Scan{Estate: "bank", Time: scan.Time.AddDate(0, 0, i-2), Summary: scan.Summary, Opened: 3 - i, Resolved: i}
		s.Summary.Coverage = coverage
		trend = append(trend, s)
	}
	w, err := kpi.WindowNamed("30d", scan.Time.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return &report.Figures{KPIs: kpi.Reckon(kpi.Input{Scans: trend}, w), Trend: trend}
}

// A look is what a browser tells of the page.
type look struct {
	Width, Room int64  // in pixels, of the page and of the window
	Paper, Ink  string // colours
	Groups      int    // headings
	Cells       int    // of the heat map, that have a colour of their own
	Asked       int    // resources that it loaded or refers to
	Wide        string // what reaches beyond the window
}

const script = `for (const d of [...document.querySelectorAll("details")].slice(0, 2)) d.open = true;
({Width: document.documentElement.scrollWidth, Room: document.documentElement.clientWidth,
Paper: getComputedStyle(document.body).backgroundColor, Ink: getComputedStyle(document.body).color,
Groups: document.querySelectorAll("h2").length,
Cells: [...document.querySelectorAll(".heat td")].filter(e => getComputedStyle(e).backgroundColor != "rgba(0, 0, 0, 0)").length,
Asked: performance.getEntriesByType("resource").length + document.querySelectorAll("[src], [href], script, link, iframe").length,
Wide: [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest(".wide")).slice(0, 3).map(e => e.outerHTML.slice(0, 120)).join("\n")})`

// TestPage opens the HTML report as people do: by day and by night, on a desk and on
// a phone. It fits, asks for nothing outside itself, and its text can be told from
// the paper. KLUIS_SCREENSHOTS names a folder for pictures of it.
func TestPage(t *testing.T) {
	ctx := browser(t)
	page := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(page)
	if err != nil {
		t.Fatal(err)
	}
	scan := estate(t)
	if err := report.Page(f, scan, figures(t, scan)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	papers := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1280} {
			view := func(ctx context.Context, target *chromedp.Target) error {
				_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				})
				return err
			}
			options := []chromedp.EmulateViewportOption{}
			if width < 600 {
				options = append(options, chromedp.EmulateMobile)
			}
			if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900, options...), chromedp.Func(view), chromedp.Navigate("file://"+page)); err != nil {
				t.Fatal(err)
			}
			seen, err := chromedp.Run(ctx, chromedp.Evaluate[look](script))
			if err != nil {
				t.Fatal(err)
			}
			picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if seen.Width > seen.Room || seen.Wide != "" {
				t.Errorf("%s, %d wide: the page takes %d of %d\n%s", scheme, width, seen.Width, seen.Room, seen.Wide)
			}
			if seen.Paper == seen.Ink || seen.Groups < 7 || seen.Cells < 5 || seen.Asked != 0 {
				t.Errorf("%s, %d wide: %+v", scheme, width, seen)
			}
			papers[seen.Paper] = true
			if dir := os.Getenv("KLUIS_SCREENSHOTS"); dir != "" {
				name := filepath.Join(dir, "report-"+scheme+map[bool]string{true: "-phone.png", false: "-desk.png"}[width < 600])
				if err := os.WriteFile(name, picture, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if len(papers) != 2 {
		t.Errorf("day and night look the same: %v", papers)
	}
}
