package main

import (
	"encoding/json"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestDrills loses things, and gets them back: what docs/recovery.md says.
func TestDrills(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/drill",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":      exits,
			"waitfor":    waitFor,
			"retry":      retry,
			"shows":      shows,
			"keyid":      keyID,
			"halt":       stop, // "stop" is a builtin, which ends the script
			"ports":      ports,
			"firstlines": firstLines,
		},
		Condition: onWhichEngine,
		Setup:     setUp,
	})
}

// ports sets PORT to the one that the server listens on: keys' identifiers name it.
func ports(ts *testscript.TestScript, _ bool, _ []string) {
	var b Bootstrap
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(ts.Getenv("KLUIS_PROFILE"))), &b))
	u, err := url.Parse(b.Authority)
	ts.Check(err)
	ts.Setenv("PORT", u.Port())
}

// firstLines copies the first lines of a file: firstlines N FROM TO
func firstLines(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	lines := strings.SplitAfter(ts.ReadFile(args[1]), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(lines[:n], "")), 0o600))
}
