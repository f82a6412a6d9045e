// Command engines runs the tests that keep something in a database or an object store
// on other ones than their default, SQLite and folders:
//
//	go run ./test/engines -store postgres -objects azurite            # all such packages
//	go run ./test/engines -store postgres -- -run TestDrills ./cmd/kluis
//
// It starts PostgreSQL, Azurite or versitygw once, for all packages, and ends them. What
// is behind -- goes to go test. An object store that the environment does not name
// (KLUIS_TEST_AZURITE, KLUIS_TEST_VERSITYGW) is installed, which takes a minute; with
// -install DIR both are installed there, the variables that name them are printed, and
// nothing is run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/objstore/servertest"
)

func main() {
	store := flag.String("store", "sqlite", "where databases lie: sqlite or postgres")
	objects := flag.String("objects", "", "where extents lie: s3 or azurite (default: folders)")
	install := flag.String("install", "", "only install the object stores into this folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *install != "" {
		var variables []string
		variables, err = servertest.Install(ctx, *install)
		fmt.Println(strings.Join(variables, "\n"))
	} else {
		err = run(ctx, *store, *objects, flag.Args())
	}
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed): // go test has said it
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, store, objects string, args []string) (err error) {
	env := append(os.Environ(), "KLUIS_TEST_STORE="+store)
	switch store {
	case "sqlite":
	case "postgres":
		server, err := pgtest.Start()
		if err != nil {
			return err
		}
		defer server.Stop("fast")
		env = append(env, "KLUIS_TEST_POSTGRES="+server.Socket())
	default:
		return fmt.Errorf("-store is sqlite or postgres, not %q", store)
	}
	if objects != "" {
		dir, err := os.MkdirTemp("", "kluis-objects")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		server, err := servertest.Start(ctx, objects, dir)
		if err != nil {
			return err
		}
		defer server.Stop()
		env = append(env, server.Variables()...)
	}
	if len(args) == 0 {
		packages, err := concerned(ctx)
		if err != nil {
			return err
		}
		args = append([]string{"-timeout", "60m"}, packages...)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}

// placing are the packages by which tests find their database or object store.
var placing = []string{"store/enginetest", "objstore/servertest"}

// own are packages whose tests are of one engine or store, or measure.
var own = []string{"objstore/s3", "objstore/azblob", "test/engines", "test/load"}

// concerned returns the packages with tests that keep something.
func concerned(ctx context.Context) ([]string, error) {
	const module = "github.com/kluis-io/kluis/"
	out, err := exec.CommandContext(ctx, "go", "list", "-test", "-f", `{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}`, "./...").Output()
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || slices.Contains(own, strings.TrimPrefix(fields[0], module)) {
			continue
		}
		if slices.ContainsFunc(placing, func(p string) bool { return slices.Contains(fields[1:], module+p) }) {
			all = append(all, fields[0])
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
