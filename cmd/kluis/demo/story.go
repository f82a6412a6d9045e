// Package demo tells and does the whole story of kluis on a running server, with
// the official Azure SDKs for Go as unmodified clients and each step by the
// principal whose job it is: data goes under a customer's key, is cut off, and
// comes back.
//
// Every claim is checked, and said to hold or not as it is told.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/sdk"
)

// Options are what a [Story] is told with.
type Options struct {
	Target     sdk.Target
	DataDir    string    // all that the server keeps, its log included: it is searched
	ExtentsDir string    // where in it the extents lie
	Input      string    // a folder of the user's files; "" for ones that the program makes
	Out        io.Writer // where it is told
	Plain      bool      // no colours and no progress bar: Out is no terminal
}

// A Story is one telling.
type Story struct {
	Options
	begun    time.Time
	failures int

	officer  *sdk.Officer
	engineer *sdk.Engineer
	keys     *azkeys.Client
	files    []file
	lake     lakehouse
	key      customerKey
	common   map[string]bool // byte strings that the disk held before the story
}

// A lakehouse is where the engineer's data is.
type lakehouse struct {
	workspace   string // id
	name        string
	id          string // the lakehouse item's
	notebook    string
	displayName string
	metadata    map[string]*string
}

// prefix is the path of the lakehouse's files below the workspace.
func (l lakehouse) prefix() string { return l.displayName + ".Lakehouse/Files/" }

// A customerKey is the key that the officer makes.
type customerKey struct {
	vault      string // its resource id
	name       string
	identifier string // versionless
	version    string
	assignment string // of the platform's role
}

// Failures returns how many claims did not hold so far.
func (s *Story) Failures() int { return s.failures }

// Online tells the steps that need the server: one to eight. An error is one that
// kept the story from being told; claims that did not hold are counted.
func (s *Story) Online(ctx context.Context) error {
	s.begun = time.Now()
	c, err := sdk.New(s.Target)
	if err != nil {
		return err
	}
	if s.officer, err = c.Officer(); err != nil {
		return err
	}
	if s.engineer, err = c.Engineer(); err != nil {
		return err
	}
	if s.Input != "" {
		s.files, err = readFiles(s.Input)
	} else {
		s.files = sampleFiles()
	}
	if err != nil {
		return err
	}
	s.files = withLarge(s.files)
	for _, step := range []func(context.Context) error{
		s.makeKey, s.fillLakehouse, s.assign, s.searchDisk, s.rotate, s.revokeAndRestore, s.reset,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Step begins a step.
func (s *Story) Step(number, text string) {
	fmt.Fprintf(s.Out, "\n%s %s\n", s.bold(number), s.bold(text))
}

// Tell says what happened.
func (s *Story) Tell(format string, args ...any) {
	fmt.Fprintf(s.Out, "   · "+format+"\n", args...)
}

// Claim says whether something holds.
func (s *Story) Claim(holds bool, format string, args ...any) {
	mark := s.colour("32", "✓")
	if !holds {
		mark = s.colour("31", "✗ DOES NOT HOLD:")
		s.failures++
	}
	fmt.Fprintf(s.Out, "   %s %s\n", mark, fmt.Sprintf(format, args...))
}

// Finish ends the telling.
func (s *Story) Finish() {
	took := time.Since(s.begun).Round(100 * time.Millisecond)
	if s.failures > 0 {
		fmt.Fprintf(s.Out, "\n%s\n", s.colour("31", fmt.Sprintf("%d claims did not hold (%s).", s.failures, took)))
		return
	}
	fmt.Fprintf(s.Out, "\n%s\n", s.colour("32", fmt.Sprintf("Every claim held. The story took %s.", took)))
}

func (s *Story) bold(t string) string { return s.colour("1", t) }

func (s *Story) colour(code, t string) string {
	if s.Plain {
		return t
	}
	return "\x1b[" + code + "m" + t + "\x1b[0m"
}

// eventually asks every 50 ms until what is asked for is so, or time is up.
func eventually(ctx context.Context, limit time.Duration, ask func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		ok, err := ask()
		if ok && err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("it did not happen within "+limit.String()), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func lastSegment(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
