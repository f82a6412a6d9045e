package portal_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/portaltest"
)

// The vault and the key of the story, as the custodian's pages name them.
const (
	storyVault = "/vaults/keys/contoso-keys"
	storyKey   = storyVault + "/keys/sales"
)

// story is one installation that four people use, each in a browser of his own.
type story struct {
	testing.TB
	estate *portaltest.Estate

	custodian, engineer, admin, auditor *portaltest.Browser

	workspace string // its id
	page      string // its encryption
	key       string // the key identifier
	files     []string
}

// TestStory leads one installation through the life that it is made for, in the pages
// that 'kluis serve' has, with nothing between the people but the server: a vault and its
// key, a workspace put under it, a rotation, the key taken away and given back, a drill,
// a key lost, governance with its evidence, and the audit of it all.
func TestStory(t *testing.T) {
	portaltest.Slow(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"policy.yaml": "rules:\n- {name: payroll, when: {names: \"payroll*\"}, requires: cmk, why: salaries}\n",
		"kluis.yaml":  "posture: {estate: bank, policies: [" + filepath.Join(dir, "policy.yaml") + "]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := portaltest.Serve(t, "--config", filepath.Join(dir, "kluis.yaml"))
	clients, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	s := &story{TB: t, estate: &portaltest.Estate{TB: t, Clients: clients}}
	if s.estate.Engineer, err = clients.Engineer(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]**portaltest.Browser{"custodian": &s.custodian, "engineer": &s.engineer, "admin": &s.admin, "auditor": &s.auditor} {
		*b = portaltest.NewBrowser(t, target.Endpoints["portal"])
		(*b).Look("light", 1280)
		(*b).SignInAs(target.Users[name].Name, target.Users[name].Password)
	}
	for _, chapter := range []struct {
		name string
		tell func()
	}{
		{"the custodian makes a vault and a key", s.makeVault},
		{"the engineer's data is there", s.fill},
		{"the admin decides whether keys may be applied", s.decide},
		{"the engineer applies the key", s.apply},
		{"the custodian rotates it", s.rotate},
		{"the custodian takes it away, and gives it back", s.revoke},
		{"both measure that", s.drill},
		{"the engineer declares it lost", s.lose},
		{"the officer scans, plans and takes evidence", s.govern},
		{"the auditor reads and changes nothing", s.audit},
		{"each sees his own part", s.apart},
	} {
		begin := time.Now()
		chapter.tell()
		t.Logf("%s: %.1f s", chapter.name, time.Since(begin).Seconds())
	}
}

// makeVault is what Fabric's documents ask of a security officer: soft delete, purge
// protection, a role for the platform, an RSA key.
func (s *story) makeVault() {
	b := s.custodian
	b.Go("/vaults/new")
	b.Fill("#name", "contoso-keys")
	b.Fill("#group", "keys")
	b.Fill("#days", "30")
	if !portaltest.Eval[bool](b, `document.querySelector("#purge").checked`) {
		b.Click("#purge")
	}
	b.Click("main button.primary")
	b.WaitFor("The vault contoso-keys is made")

	b.Go(storyVault + "/access/new?q=fabric+platform")
	b.WaitFor("Fabric Platform CMK")
	b.Click("#found a.button")
	b.WaitFor("Key Vault Crypto Service Encryption User")
	b.Click("main button.primary")
	b.WaitFor("It holds at once")
	b.Click("main button.primary")
	b.WaitFor("Fabric Platform CMK has the role Key Vault Crypto Service Encryption User")

	b.Go(storyVault + "/keys/new")
	b.WaitFor("RSA, 3072 bits")
	b.Fill("#name", "sales")
	b.Click("main button.primary")
	b.WaitFor("The key sales is made")
	s.key = portaltest.Eval[string](b, `document.querySelector("main dl.facts code").innerText`)
	if !strings.HasSuffix(s.key, "/keys/sales") {
		s.Fatalf("the page shows the key identifier %q", s.key)
	}
	b.Picture("story-1-key")
}

// fill makes the workspaces and writes data by the engineer's pipeline, which then makes
// the engineer an admin of them.
func (s *story) fill() {
	e := s.estate
	s.workspace = e.Make("/workspaces", map[string]string{"displayName": "Sales", "description": "Orders, and who placed them"})
	s.page = "/workspaces/" + s.workspace + "/encryption"
	for _, at := range []string{s.workspace, e.Make("/workspaces", map[string]string{"displayName": "payroll-2026"})} {
		e.Make("/workspaces/"+at+"/roleAssignments", map[string]any{
			"principal": map[string]string{"id": string(e.Clients.Target.Users["engineer"].ObjectID), "type": "User"}, "role": "Admin",
		})
	}
	data := make([]byte, 8<<20)
	rand.Read(data)
	for _, lake := range []string{"orders", "returns", "stock"} {
		e.Make("/workspaces/"+s.workspace+"/items", map[string]string{"displayName": lake, "type": "Lakehouse"})
		for i := range 4 {
			name := fmt.Sprintf("%s.Lakehouse/Files/part-%d.bin", lake, i)
			if _, err := e.Engineer.Blobs.UploadBuffer(s.Context(), s.workspace, name, data, nil); err != nil {
				s.Fatal(err)
			}
			s.files = append(s.files, name)
		}
	}
}

// decide has the tenant's setting off, which stands against any key, and on.
func (s *story) decide() {
	s.set(false)
	b := s.engineer
	b.Go("/workspaces")
	b.Click("a[href='" + s.page + "']")
	b.WaitFor("Apply customer-managed keys")
	b.Fill("#key", s.key)
	b.Click("button[formaction$=preview]")
	b.WaitFor("against this key")
	b.Picture("story-2-setting-off")
	s.set(true)
	b.Click("button[formaction$=preview]")
	b.WaitFor("This key would be accepted")
}

func (s *story) set(on bool) {
	b := s.admin
	b.Go("/settings")
	const form = "form[action$=ApplyCustomerManagedKeys] button"
	if b.WaitUntil(form); b.Has(form+".primary") == on {
		b.Click(form)
		b.WaitFor("The setting is changed")
	}
}

// apply puts the workspace under the key, and watches that to its end on a page that is
// never loaded again.
func (s *story) apply() {
	b := s.engineer
	b.Click("#apply button.primary")
	b.WaitFor("The key is applied")
	s.mark()
	if b.Has("#live progress") { // on a quick machine all is done before anybody looks
		b.Picture("story-3-progress")
	}
	b.WaitFor("3 active")
	b.WaitUntil("#live:not(:has(progress))")
	b.Picture("story-3-active")
}

// mark leaves a mark on the engineer's page, and same checks that it is still that page.
func (s *story) mark() { portaltest.Eval[bool](s.engineer, `window.storyMark = true`) }

func (s *story) same() {
	s.Helper()
	if !portaltest.Eval[bool](s.engineer, `window.storyMark === true`) {
		s.Error("the page was loaded again")
	}
}

// rotate makes a version, which the platform takes into use, and the old one is safe to
// disable then: the custodian does so, and the data stays.
func (s *story) rotate() {
	c, b := s.custodian, s.engineer
	first := s.version()
	c.Go(storyKey)
	c.Click(`form[action$="/rotate"] button`)
	c.WaitFor("Rotated: a new version")
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		b.Go(s.page)
		b.WaitFor("Key versions in use")
		rows := portaltest.Eval[[]string](b, `[...document.querySelectorAll("section[aria-labelledby=versions] tbody tr")].map(r => r.innerText)`)
		if v := s.version(); v != first && len(rows) == 2 && strings.Contains(strings.Join(rows, "\n"), "Yes") {
			break
		}
		if time.Now().After(end) {
			s.Fatalf("the new version is not in use:\n%s", b.Text())
		}
	}
	b.Inspect("story-4-rotated")
	c.Go(storyKey + "/disable?version=" + first)
	c.WaitFor("What it does")
	c.Click("main button.danger")
	c.WaitFor("One version is disabled")
	s.read()

	b.Click("form[action$=rotate] button")
	b.WaitFor("A deep rotation has begun")
	b.WaitUntil("#live:not(:has(progress))")
	s.active()
	s.read()
}

// version is the version of the key that the engineer's page says is in use.
func (s *story) version() string {
	return portaltest.Eval[string](s.engineer, `[...document.querySelectorAll("#live dt")].find(d => d.innerText == "Version").nextElementSibling.innerText.trim()`)
}

// active waits until nothing is re-encrypted any more.
func (s *story) active() {
	s.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		e, err := s.estate.Engineer.Fabric.Encryption(s.Context(), s.workspace)
		if err != nil {
			s.Fatal(err)
		}
		if e.Detail.Status == "Active" {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("the workspace is still %s", e.Detail.Status)
		}
	}
}

// read reads a file by the Blob API.
func (s *story) read() {
	s.Helper()
	if _, err := s.download(); err != nil {
		s.Fatalf("the data cannot be read: %v", err)
	}
}

func (s *story) download() (int64, error) {
	data := make([]byte, 8<<20)
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	return s.estate.Engineer.Blobs.DownloadBuffer(ctx, s.workspace, s.files[0], data, nil)
}

// take has the custodian disable the key, and give has him enable it, on his pages.
func (s *story) take() {
	s.Helper()
	c := s.custodian
	c.Go(storyKey)
	c.Click(`.heading a[href$="/disable"]`)
	c.WaitFor("What it does")
	c.Click("main button.danger")
	c.WaitFor("The key is disabled")
}

func (s *story) give() {
	s.Helper()
	s.custodian.Click(`.heading form[action$="/enable"] button`)
	s.custodian.WaitFor("2 versions are enabled")
}

// revoke darkens the data and brings it back. The engineer's page tells it by itself.
func (s *story) revoke() {
	b := s.engineer
	b.Go(s.page)
	b.WaitFor("Serving")
	s.mark()
	s.take()
	b.WaitFor("the data is dark")
	b.Picture("story-5-revoked")
	_, err := s.download()
	if refused := (*azcore.ResponseError)(nil); !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
		s.Errorf("reading dark data: %v", err)
	}
	s.custodian.Inspect("story-5-key-disabled")
	s.give()
	b.WaitFor("Serving")
	s.same()
	s.read()
}

// drill takes two: the engineer watches the clock, the custodian has the key.
func (s *story) drill() {
	b := s.engineer
	b.Go("/drill")
	b.Click("a[href='/drill/" + s.workspace + "']")
	b.WaitFor("It takes two")
	b.Fill("#name", "Sales")
	b.Click("button[name=watch]")
	b.WaitFor("Waiting for the key")
	s.take()
	b.WaitFor("Dark: waiting")
	s.give()
	b.WaitFor("Counted from the first refusal")
	b.Inspect("story-6-drill")
	var dark, back int
	clock := portaltest.Eval[string](b, `document.querySelector("#clock .legend").innerText`)
	if _, err := fmt.Sscanf(clock, "Finished: dark after %d ms, back after %d ms", &dark, &back); err != nil || dark > 60_000 {
		s.Errorf("the clock says %q: %v", clock, err)
	}
	s.Log(clock)
}

// lose declares the key lost while it is away, and takes that back.
func (s *story) lose() {
	b := s.engineer
	s.take()
	b.Go(s.page)
	b.WaitFor("the data is dark")
	b.Click("a[href$=keylost]")
	b.WaitFor("Declare the key of Sales lost")
	b.Inspect("story-7-key-lost-confirm")
	b.Fill("#name", "Sales")
	b.Click("button.danger")
	b.WaitFor("The key is declared lost")
	b.Inspect("story-7-key-lost")
	b.Click("button[name=lost]")
	b.WaitFor("The key is no longer declared lost")
	s.give()
	b.WaitFor("Serving")
	s.read()
}

// govern scans the estate, opens what was found about the workspace without a key, has
// its mending written, and takes the evidence.
func (s *story) govern() {
	b := s.admin
	b.Go("/governance")
	b.WaitFor("No scan yet")
	b.Click("form[action$=scan] button")
	b.WaitFor("By type and classification")
	b.Go("/governance/findings?control=CMK/Microsoft.Fabric/workspaces*&resource=PAYROLL-2&order=newest")
	b.WaitFor("payroll-2026")
	b.Click("#rows a.row")
	b.WaitFor("under the platform's key")
	b.Fill("input[name=key]", s.key)
	b.Click("form[action$=plan] button")
	b.WaitFor("And back")
	b.Inspect("story-8-plan")

	b.Go("/governance")
	got := b.Fetch("POST", "/governance/evidence", url.Values{"window": {"7d"}})
	pack, err := zip.NewReader(bytes.NewReader(got.Body), int64(len(got.Body)))
	if err != nil || got.Status != http.StatusOK || len(pack.File) == 0 || !strings.Contains(got.Disposition, "evidence-") {
		s.Fatalf("the evidence pack: %d, %q, %d bytes, %v", got.Status, got.Disposition, len(got.Body), err)
	}
	s.Logf("the evidence pack has %d files", len(pack.File))
}

// audit follows a request, verifies the logs, and is offered no change, and refused one.
func (s *story) audit() {
	b := s.auditor
	b.Go("/audit?party=vault&operation=KeyRotate")
	b.WaitFor("KeyRotate")
	b.Click("tbody td:last-child a")
	b.WaitFor("What every party has recorded of it")
	b.WaitFor("KeyRotate")
	b.Picture("story-9-request")
	b.Go("/audit/verification")
	b.WaitFor("It holds")
	if strings.Contains(b.Text(), "does not hold") {
		s.Errorf("the logs:\n%s", b.Text())
	}
	b.Picture("story-9-verification")

	for _, page := range []string{s.page, storyKey, "/settings", storyVault + "/settings"} {
		b.Go(page)
		b.WaitUntil("main .card")
		if b.Has("main form[method=post]") {
			s.Errorf("the auditor is offered a change on %s:\n%s", page, b.Text())
		}
	}
	for path, form := range map[string]url.Values{
		s.page + "/rotate":                   nil,
		s.page + "/reset":                    {"name": {"Sales"}},
		s.page + "/assign":                   {"key": {s.key}},
		storyKey + "/disable":                nil,
		storyKey + "/delete":                 {"name": {"sales"}},
		"/settings/ApplyCustomerManagedKeys": {"enabled": {"false"}},
		"/governance/scan":                   nil,
	} {
		if got := b.Fetch("POST", path, form); got.Status != http.StatusForbidden {
			s.Errorf("the auditor's POST of %s: %d\n%.2000s", path, got.Status, got.Body)
		}
	}
	s.read()
}

// apart checks that neither party sees the other's part.
func (s *story) apart() {
	for _, page := range []string{storyVault, storyKey, storyVault + "/access"} {
		s.engineer.Go(page)
		s.engineer.WaitFor("refused")
		if strings.Contains(s.engineer.Text(), s.key) {
			s.Errorf("the engineer sees the key on %s", page)
		}
	}
	s.custodian.Go(s.page)
	s.custodian.WaitFor("refused")
	if got := s.engineer.Fetch("POST", storyKey+"/disable", nil); got.Status != http.StatusForbidden {
		s.Errorf("the engineer's POST to disable the key: %d", got.Status)
	}
}
