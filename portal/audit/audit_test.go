package audit_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestAuditor signs in to the server's own portal as people do, with a name and a
// password on the issuer's page; finds a refusal in the log, follows the request, has
// the logs verified, exports one, and signs out.
func TestAuditor(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	e.Assign()
	target := e.Clients.Target
	b := portaltest.NewBrowser(t, target.Endpoints["portal"])
	signIn := func(name, password string) {
		t.Helper()
		b.WaitFor("Sign in")
		b.Fill("#username", name)
		b.Fill("#password", password)
		b.Click("button[type=submit]")
	}

	b.Go("/audit")
	b.WaitFor("to the kluis portal")
	b.Inspect("signin")
	signIn("auditor", "not the password at all")
	b.WaitFor("The name or the password is wrong")
	b.Inspect("signin-refused")
	signIn("auditor", target.Users["auditor"].Password)
	b.WaitFor("What was done, tried and refused")
	b.WaitFor("The directory log is not shown") // it is the directory administrators' to read
	b.Inspect("audit")

	// What an auditor may not do is refused, and stands in the log.
	b.Go("/vaults/kluis/default/keys/new")
	b.Fill("#name", "mine")
	b.Click("main button.primary")
	b.WaitFor("refused")
	b.Go("/audit?party=vault&outcome=denied")
	b.WaitFor("KeyCreate")
	b.Inspect("audit-denied")
	b.Click("tbody td:last-child a")
	b.WaitFor("What every party has recorded of it")
	b.WaitFor("KeyCreate")
	if !strings.Contains(b.Text(), "1 entry") {
		t.Errorf("a request's own entries:\n%s", b.Text())
	}

	// From what the engineer asked of the platform one comes to what the platform asked of
	// the vault for it, and back from there.
	b.Go("/audit?party=platform&operation=ApplyWorkspaceEncryption")
	b.WaitFor("allowed")
	b.Click("tbody td:last-child a")
	b.WaitFor("What every party has recorded of it")
	b.WaitFor("KeyWrap")
	b.Inspect("audit-follow")
	told := b.Text()
	if !strings.Contains(told, "The directory log is not shown") {
		t.Errorf("nothing is said of what the auditor may not see:\n%s", told)
	}
	for _, order := range [][2]string{{"KeyWrap", "KeyUnwrap"}, {"KeyUnwrap", "ApplyWorkspaceEncryption"}} {
		if i, j := strings.Index(told, order[0]), strings.Index(told, order[1]); i < 0 || j < i {
			t.Errorf("%s does not come before %s:\n%s", order[0], order[1], told)
		}
	}
	b.Go("/audit?party=vault&operation=KeyWrap")
	b.WaitFor("KeyWrap")
	b.Click("tbody td:last-child a")
	b.WaitFor("ApplyWorkspaceEncryption")
	followed := portaltest.Eval[string](b, "location.pathname + location.search")

	b.Go("/audit/verification")
	b.WaitFor("It holds")
	b.Inspect("audit-verification")
	if strings.Contains(b.Text(), "does not hold") {
		t.Error(b.Text())
	}
	for format, want := range map[string]string{"json": `"operation":"KeyCreate"`, "azure": `"category":"AuditEvent"`} {
		got := b.Fetch("GET", "/audit/export?party=vault&format="+format, nil)
		if got.Status != 200 || !strings.HasPrefix(got.Disposition, "attachment") || !strings.Contains(string(got.Body), want) {
			t.Errorf("%s: %d %s %.400s", format, got.Status, got.Disposition, got.Body)
		}
	}

	b.Click(`form[action="/session/signout"] button`)
	b.WaitFor("Sign in")
	b.Go("/audit")
	b.WaitFor("to the kluis portal")

	// Who has no right to a log sees none of it.
	signIn("engineer", target.Users["engineer"].Password)
	b.WaitFor("The vault log is not shown")
	if strings.Contains(b.Text(), "KeyCreate") {
		t.Error("an engineer reads the vault's log")
	}
	b.Go(followed)
	b.WaitFor("What it may have of this request")
	if strings.Contains(b.Text(), "KeyWrap") {
		t.Error("an engineer follows a request into the vault's log")
	}
}
