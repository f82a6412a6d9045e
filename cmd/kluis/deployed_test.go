package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kluis-io/kluis/internal/deploytest"
)

// inapplicable is what scripts leave out ("[!apart]") where the parties run apart, and why. All
// else in them is run in every deployment.
var inapplicable = map[string]string{
	"demo":                                  "the story runs a server of its own, in its process",
	"adopt, init, posture, postgres, usage": "they run no server, and are the same in every deployment",
	"drill, kpi --data":                     "no installation's folder has the logs of vault, platform and governance together; the running server is asked in every deployment",
	"drill, evidence":                       "for the same reason an archive made of a folder has that party's log alone",
}

// tellInapplicable says what was left out.
func tellInapplicable(t *testing.T) {
	if apart, _ := onWhichEngine("apart"); apart {
		for what, why := range inapplicable {
			t.Logf("NOT RUN APART: %s: %s", what, why)
		}
	}
}

// flagOf returns the value that follows a flag, "" if it is not given.
func flagOf(args []string, name string) string {
	if at := slices.Index(args, name) + 1; at > 0 && at < len(args) {
		return args[at]
	}
	return ""
}

// deployed runs a command where kluis is deployed otherwise than as one process: a server's
// start stands the deployment up, and what opens its data directory opens those of the parties
// that the command concerns. It reports whether it has run the command.
func deployed(args []string) (code int, done bool) {
	chosen, err := deploytest.Chosen()
	data := flagOf(args, "--data")
	if err != nil || chosen == deploytest.One || data == "" {
		return 0, false
	}
	if args[0] == "serve" && slices.Contains(args, "--dev") && slices.Contains(args, "--listen") {
		return supervise(chosen, data, flagOf(args, "--config")), true
	}
	sites, err := deploytest.Sites(data)
	if err != nil || len(sites) == 0 {
		return 0, false
	}
	for _, s := range concerned(sites, args) {
		if code = commandAt(s, data, args); code != 0 {
			return code, true
		}
	}
	return code, true
}

// concerned returns the installations that a command is for, as an operator would choose them.
func concerned(sites []deploytest.Site, args []string) []deploytest.Site {
	one := flagOf(args, "--party")
	if args[0] == "posture" || args[0] == "backup" {
		one = "governance"
	}
	if one == "" { // audit verify, fsck
		return sites
	}
	return slices.DeleteFunc(sites, func(s deploytest.Site) bool { return s.Party != one })
}

// commandAt runs a command on an installation's folder in place of the deployment's.
func commandAt(s deploytest.Site, data string, args []string) int {
	args = slices.Clone(args)
	args[slices.Index(args, data)] = s.Data
	c := exec.Command(binary(), args...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(append(os.Environ(), deploytest.InsideEnv), s.Env...)
	return codeOf(c.Run())
}

// supervise stands a deployment up, and takes it down when it is told to.
func supervise(chosen, data, config string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	plan := deploytest.Plan{Binary: binary(), Data: data, Config: config, Replicas: 1, Log: os.Stderr}
	if chosen == deploytest.Replicas {
		plan.Replicas = 3
	}
	d, err := deploytest.Start(plan)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-d.Failed():
		}
		err = errors.Join(err, d.Stop())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "deployment:", err)
	}
	return codeOf(err)
}

func binary() string {
	path, err := exec.LookPath("kluis") // it is known by its name
	if err != nil {
		panic(err)
	}
	return path
}

// codeOf returns the exit code of the first command that failed.
func codeOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	return exitFailed
}

// credentialMoved takes the platform's credential in the tenant's directory away, or gives it
// back: credential take|give DATA
func credentialMoved(ts *testscript.TestScript, _ bool, args []string) {
	const taken = ".taken"
	suffix := map[string]string{"take": "", "give": taken}[args[0]]
	var all []string
	for _, place := range []string{"platform/credential.json", "sites/platform-*/platform/credentials/*.json"} {
		found, err := filepath.Glob(filepath.Join(ts.MkAbs(args[1]), place) + suffix)
		ts.Check(err)
		all = append(all, found...)
	}
	if len(all) == 0 {
		ts.Fatalf("no credential to %s", args[0])
	}
	for _, path := range all {
		to := strings.TrimSuffix(path, taken)
		if suffix == "" {
			to = path + taken
		}
		ts.Check(os.Rename(path, to))
	}
}
