// Command kluis-hsm lets kluis use keys on a PKCS#11 token. It loads the vendor's
// library, logs in, and answers on a Unix socket: see package internal/cryptoki
// for the protocol, and package vault/hsm for who asks.
//
// It is a process of its own so that kluis stays free of cgo, and so that a library
// that crashes takes no vault with it. It may be killed at any time, and started
// again by whatever watches over services; who asks waits for it.
//
// Only processes of its own user can reach it. It writes no secret anywhere: the
// PIN comes from a file, and is read again at each login.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A config is what the flags and the KLUIS_HSM_* variables say. A flag goes first.
type config struct {
	module   string // the library
	label    string // of the token; or
	serial   string // its serial number; or both
	pinFile  string
	socket   string
	sessions int
	child    bool
}

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

func run(args []string, out io.Writer) int {
	var c config
	f := flag.NewFlagSet("kluis-hsm", flag.ContinueOnError)
	f.SetOutput(out)
	env := func(p *string, name, variable, usage string) {
		f.StringVar(p, name, os.Getenv(variable), usage+" ("+variable+")")
	}
	env(&c.module, "module", "KLUIS_HSM_MODULE", "the vendor's PKCS#11 library, a `FILE`")
	env(&c.label, "token-label", "KLUIS_HSM_TOKEN_LABEL", "the token's `LABEL`")
	env(&c.serial, "token-serial", "KLUIS_HSM_TOKEN_SERIAL", "the token's serial `NUMBER`, if the label does not tell it apart")
	env(&c.pinFile, "pin-file", "KLUIS_HSM_PIN_FILE", "the `FILE` that holds the user's PIN")
	env(&c.socket, "socket", "KLUIS_HSM_SOCKET", "the Unix socket to answer on, a `PATH`")
	f.IntVar(&c.sessions, "sessions", 8, "how many operations run at once, at most the token's limit (KLUIS_HSM_SESSIONS)")
	f.BoolVar(&c.child, "child", false, "end when standard input does: for the process that starts this one")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = c.complete(f)
	}
	if err != nil {
		fmt.Fprintln(out, "kluis-hsm:", err)
		return 2
	}
	// A crash of the library leaves no copy of the memory, PIN and all.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		fmt.Fprintln(out, "kluis-hsm: core dumps cannot be switched off:", err)
		return 1
	}
	log := slog.New(slog.NewJSONHandler(out, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.child {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	if err := serve(ctx, c, log); err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

// complete checks what was given.
func (c *config) complete(f *flag.FlagSet) error {
	if v := os.Getenv("KLUIS_HSM_SESSIONS"); v != "" && !given(f, "sessions") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errors.New("KLUIS_HSM_SESSIONS is not a number")
		}
		c.sessions = n
	}
	switch {
	case f.NArg() > 0:
		return errors.New("no arguments are taken")
	case c.module == "" || c.pinFile == "" || c.socket == "":
		return errors.New("--module, --pin-file and --socket are needed")
	case c.label == "" && c.serial == "":
		return errors.New("--token-label or --token-serial is needed")
	case c.sessions < 1 || c.sessions > 1024:
		return errors.New("--sessions lies between 1 and 1024")
	}
	return nil
}

func given(f *flag.FlagSet, name string) bool {
	found := false
	f.Visit(func(g *flag.Flag) { found = found || g.Name == name })
	return found
}

func serve(ctx context.Context, c config, log *slog.Logger) error {
	l, err := listen(c.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	d, err := newDevice(ctx, c, log)
	if err != nil {
		return err
	}
	log.Info("listening", "socket", c.socket)
	return newServer(d, log, func() {
		log.Error("the PKCS#11 library hangs; ending, to be started again")
		os.Exit(1)
	}).serve(ctx, l)
}
