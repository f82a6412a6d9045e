package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kluis-io/kluis/internal/deploytest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/store/enginetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(deploytest.Variable) == deploytest.Replicas {
		os.Setenv("KLUIS_TEST_STORE", "postgres") // they share nothing else
	}
	testscript.Main(m, map[string]func(){
		"kluis": func() {
			if code, done := deployed(os.Args[1:]); done {
				os.Exit(code)
			}
			onEngine(os.Args[1:])
			os.Exit(run(os.Args[1:]))
		},
	})
}

// onEngine has a command that makes a data directory keep its databases on the engine
// that is tested, and every command look for extents in the store that is.
func onEngine(args []string) {
	data := flagOf(args, "--data")
	if data == "" || deploytest.Inside() {
		return
	}
	variables, err := servertest.Variables(data)
	if err == nil && (args[0] == "serve" || args[0] == "init") {
		var parties []string
		parties, err = enginetest.Parties(data)
		variables = append(variables, parties...)
	}
	if err != nil {
		panic(err)
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, value)
	}
}

// TestScripts runs the command as its users do. Each script in testdata/script is
// one story.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"waitfor":    waitFor,
			"retry":      retry,
			"shows":      shows,
			"keyid":      keyID,
			"wrap":       wrap,
			"field":      field,
			"halt":       stop, // "stop" is a builtin, which ends the script
			"principal":  principal,
			"approvalid": approvalID,
			"account":    storageAccountMade,
			"credential": credentialMoved,
			"finding":    findingOf,
			"pgdatabase": freshDatabase,
		},
		Condition: onWhichEngine,
		Setup:     setUp,
	})
	tellInapplicable(t)
}

// onWhichEngine tells where the parties are kept: [sqlite] or [postgres]; whether extents lie
// in [elsewhere]; and whether the parties run [apart].
func onWhichEngine(name string) (bool, error) {
	switch name {
	case "elsewhere":
		return servertest.Elsewhere(), nil
	case "apart":
		chosen, err := deploytest.Chosen()
		return chosen != deploytest.One, err
	}
	return name == cmp.Or(os.Getenv("KLUIS_TEST_STORE"), "sqlite"), nil
}

// setUp gives a script its environment.
func setUp(e *testscript.Env) error {
	e.Setenv("TMPDIR", e.WorkDir)
	e.Setenv("SOON", time.Now().AddDate(0, 1, 0).Format(time.DateOnly)) // a day to come
	if _, err := deploytest.Chosen(); err != nil {
		return err
	}
	variables, err := enginetest.Parties(e.WorkDir) // for the server's sake: it outlives the commands
	for _, v := range variables {
		if name, value, _ := strings.Cut(v, "="); name != "KLUIS_DATABASE" {
			e.Setenv(name, value)
		}
	}
	for _, name := range []string{"KLUIS_TEST_STORE", "KLUIS_TEST_OBJECTS", "KLUIS_TEST_OBJECTS_PORT", deploytest.Variable} {
		e.Setenv(name, os.Getenv(name))
	}
	return err
}

// exits checks a command's exit code: exits CODE COMMAND...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = exitCode(err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s: %v", code, args[0], err)
	}
}

// exitCode returns a failed command's exit code.
func exitCode(err error) string {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return strconv.Itoa(e.ExitCode())
	}
	return err.Error()
}

// patience is how long a script waits for what happens by itself, nine processes included.
const patience = 2 * time.Minute

// waitFor waits until a file is there: waitfor FILE
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

// retry runs a command until it succeeds, or with ! until it fails:
// retry [!] COMMAND...
func retry(ts *testscript.TestScript, _ bool, args []string) {
	fails := args[0] == "!"
	if fails {
		args = args[1:]
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := ts.Exec(args[0], args[1:]...); (err != nil) == fails {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v does not come to the end wanted", args)
		}
	}
}

// shows runs a command until what it prints matches: shows PATTERN COMMAND...
func shows(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v never shows %s", args[1:], args[0])
		}
	}
}

// keyID sets KEYID to the identifier of a vault's key: keyid VAULT KEY
func keyID(ts *testscript.TestScript, _ bool, args []string) {
	target, err := sdk.ReadProfile(ts.MkAbs(ts.Getenv("KLUIS_PROFILE")))
	ts.Check(err)
	ts.Setenv("KEYID", target.VaultURI(args[0])+"keys/"+args[1])
}

// wrap wraps something with a vault's key, as one of the profile: wrap VAULT KEY NAME
func wrap(ts *testscript.TestScript, _ bool, args []string) {
	target, err := sdk.ReadProfile(ts.MkAbs(ts.Getenv("KLUIS_PROFILE")))
	ts.Check(err)
	clients, err := sdk.New(target)
	ts.Check(err)
	officer, err := clients.OfficerAs(args[2])
	ts.Check(err)
	keys, err := officer.Keys(target.VaultURI(args[0]))
	ts.Check(err)
	_, err = keys.WrapKey(context.Background(), args[1], "", azkeys.KeyOperationParameters{
		Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: make([]byte, 32),
	}, nil)
	ts.Check(err)
}

// field sets a variable to the first string of that name in the JSON that was last
// printed: field VARIABLE NAME
func field(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(`"` + regexp.QuoteMeta(args[1]) + `": "([^"]*)"`).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("nothing printed is named %s", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// stop stops a command in the background as an operator would: halt NAME
func stop(ts *testscript.TestScript, _ bool, args []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(os.Interrupt))
	}
	ts.Logf("stopping %s", args[0])
}

// principal sets PRINCIPAL to the object id of one of the profile: principal NAME
func principal(ts *testscript.TestScript, _ bool, args []string) {
	target, err := sdk.ReadProfile(ts.MkAbs(ts.Getenv("KLUIS_PROFILE")))
	ts.Check(err)
	ts.Setenv("PRINCIPAL", target.Principals[args[0]].ObjectID)
}

// storageAccountMade makes a storage account as the engineer: account GROUP NAME
func storageAccountMade(ts *testscript.TestScript, _ bool, args []string) {
	target, err := sdk.ReadProfile(ts.MkAbs(ts.Getenv("KLUIS_PROFILE")))
	ts.Check(err)
	clients, err := sdk.New(target)
	ts.Check(err)
	engineer, err := clients.OfficerAs("engineer")
	ts.Check(err)
	id := "/subscriptions/" + target.SubscriptionID + "/resourceGroups/" + args[0] + "/providers/Microsoft.Storage/storageAccounts/" + args[1]
	ts.Check(engineer.Manage(context.Background(), "PUT", id, "2022-09-01", map[string]any{"location": "local", "kind": "StorageV2", "sku": map[string]string{"name": "Standard_LRS"}}, nil))
}

// findingOf sets FINDING to the id of a control's first finding in the scan that was last
// printed: finding CONTROL
func findingOf(ts *testscript.TestScript, _ bool, args []string) {
	var scan struct {
		Findings []struct{ ID, Control string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &scan))
	for _, f := range scan.Findings {
		if f.Control == args[0] {
			ts.Setenv("FINDING", f.ID)
			return
		}
	}
	ts.Fatalf("the scan has no finding of %s", args[0])
}

// freshDatabase sets a variable to the connection string of a new PostgreSQL database:
// pgdatabase VARIABLE
func freshDatabase(ts *testscript.TestScript, _ bool, args []string) {
	url, err := enginetest.PostgreSQL(filepath.Join(ts.MkAbs("."), args[0]))
	ts.Check(err)
	ts.Setenv(args[0], url)
}

// approvalID sets APPROVAL to the id of a vault's first request: approvalid VAULT
func approvalID(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("kluis", "approval", "list", args[0], "-o", "json"))
	var all []struct{ ID string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &all))
	if len(all) == 0 {
		ts.Fatalf("vault %s has no request", args[0])
	}
	ts.Setenv("APPROVAL", all[0].ID)
}
