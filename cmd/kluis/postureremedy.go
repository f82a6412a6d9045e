package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/remedy"
)

// remedyFlags say whether something is changed, as whom, and where that is kept.
type remedyFlags struct {
	dryRun, apply, yes bool
	irreversible       bool
	dataAs, keysAs     string
	state, output      string
	wait               time.Duration
}

func (r *remedyFlags) declare(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&r.dryRun, "dry-run", false, "show what would be done, check that it can be, and change nothing")
	f.BoolVar(&r.apply, "apply", false, "do it")
	f.BoolVar(&r.yes, "yes", false, "do not ask for the resource's name")
	f.StringVar(&r.dataAs, "data-as", "engineer", "the `PRINCIPAL` of the profile that changes resources")
	f.StringVar(&r.keysAs, "keys-as", "custodian", "the `PRINCIPAL` of the profile that gives rights at vaults")
	r.declareState(c)
	f.DurationVar(&r.wait, "wait", 30*time.Minute, "for how long to wait until a step's effect is seen")
}

func (r *remedyFlags) declareState(c *cobra.Command) {
	c.Flags().StringVar(&r.state, "state", stateDir(), "the `DIR`ectory in which runs are kept, with what was before them")
	addOutput(c, &r.output)
}

// stateDir is where runs are kept (XDG Base Directory Specification 0.8).
func stateDir() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "kluis", "remediations")
}

func (r *remedyFlags) check() error {
	if r.dryRun == r.apply {
		return usageError{errors.New("say either --dry-run or --apply")}
	}
	return nil
}

const remedyExits = `
Exit codes: 0 all of it was done, and seen; 1 it stopped under way, and says where: the
same command goes on, the other one goes back; 2 wrong usage; 3 it cannot be done, and
nothing was changed.`

func postureRemediate() *cobra.Command {
	var s scanFlags
	var r remedyFlags
	var key, principal string
	c := &cobra.Command{
		Use:   "remediate FINDING",
		Short: "Mend a finding in place, step by step, and so that it can be taken back",
		Long: `Scan, and put the resource of a finding under the key that --key names. What the
resource was is kept in --state before the first change. Each step is done if its
effect is not there yet, and counts when its effect was seen; a run that was stopped
goes on with the same command. 'kluis posture backout' takes it back.

Storage accounts, Fabric workspaces and the types for which 'kluis posture types' says so
can be put under a key; vaults can be given soft delete, purge protection and a firewall,
keys a rotation policy and a new version, resources an identity, a key without version and
no more than the right to wrap and unwrap. For all else 'kluis posture plan' has the
commands. What nobody can undo, as purge protection, needs --irreversible.

FINDING is an id of a scan, or its beginning; --source is profile or azure.
` + remedyExits,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return err
			}
			folder, err := remedy.OpenFolder(r.state)
			if err != nil {
				return err
			}
			defer folder.Close()
			m, err := s.managers(r)
			if err != nil {
				return err
			}
			run, err := folder.Find(args[0])
			if err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
			was := run
			if !run.Open() {
				if run, err = s.plan(c.Context(), args[0], key, orDefault(principal, m.principal), m); err != nil {
					return refused(c, err)
				}
			}
			if run.Final && r.apply && !r.irreversible {
				return usageError{errors.New("nobody can undo this: say --irreversible too")}
			}
			return r.carryOut(c, folder, m, run, was, "remediate")
		},
	}
	s.declare(c)
	r.declare(c)
	c.Flags().StringVar(&key, "key", "", "the key `IDENTIFIER`, without a version, to put the resource under")
	c.Flags().StringVar(&principal, "principal", "", "the `OBJECT-ID` of the tenant's Fabric Platform CMK, for a workspace; the profile tells a kluis server's")
	c.Flags().BoolVar(&r.irreversible, "irreversible", false, "do it although nobody can undo it")
	return c
}

func postureBackout() *cobra.Command {
	var s scanFlags
	var r remedyFlags
	c := &cobra.Command{
		Use:   "backout FINDING",
		Short: "Take a remediation back, or what was done of it",
		Long: `Undo what 'kluis posture remediate' has done for a finding, in the opposite order,
until the resource is as it was before. What was there before, or what somebody else has
changed since, is not touched. The key has to stay enabled until it is done.
` + remedyExits,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return err
			}
			folder, err := remedy.OpenFolder(r.state)
			if err != nil {
				return err
			}
			defer folder.Close()
			run, err := folder.Find(args[0])
			if err != nil {
				return refused(c, err)
			}
			m, err := s.managers(r)
			if err != nil {
				return err
			}
			return r.carryOut(c, folder, m, run, run, "backout")
		},
	}
	s.declare(c)
	r.declare(c)
	return c
}

// plan scans and plans the run of a finding.
func (s *scanFlags) plan(ctx context.Context, id, key, principal string, m managers) (remedy.Run, error) {
	ref := posture.ParseKeyRef(key)
	if key != "" && ref.IsZero() {
		return remedy.Run{}, usageError{fmt.Errorf("%q is no key identifier", key)}
	}
	scan, err := s.scan(ctx)
	if err != nil {
		return remedy.Run{}, err
	}
	f, ok := scan.Find(id)
	if !ok {
		return remedy.Run{}, fmt.Errorf("this scan has no finding %s, or several that begin so", id)
	}
	if err := remedy.Supported(f); err != nil {
		return remedy.Run{}, err
	}
	switch named := remedy.NeedsKey(f); {
	case named && key == "":
		return remedy.Run{}, usageError{errors.New("--key says which key to put the resource under")}
	case !named && key != "":
		return remedy.Run{}, usageError{errors.New("--key is for what is under no key yet: this finding tells what it is about")}
	case !named:
		ref = keyOf(scan, f)
	}
	target := remedy.Target{Key: ref, Principal: principal, Endpoint: m.endpoint, Actor: m.actor}
	for _, v := range scan.Register.Vaults {
		if v.Host != "" && v.Host == ref.Vault && !v.Deleted {
			target.VaultID = v.ID
		}
	}
	return remedy.New(f, target, time.Now())
}

// keyOf returns the key that a finding's resource is under.
func keyOf(scan *posture.Scan, f posture.Finding) posture.KeyRef {
	for _, r := range scan.Resources {
		if r.ID == f.Resource && len(r.CMK.Keys) > 0 {
			return r.CMK.Keys[0]
		}
	}
	return posture.KeyRef{}
}

// carryOut does what the command says with a run. was is what the folder holds of it.
func (r *remedyFlags) carryOut(c *cobra.Command, folder *remedy.Folder, m managers, run, was remedy.Run, verb string) error {
	if run.Endpoint != m.endpoint {
		return usageError{fmt.Errorf("the run is of %s, and not of %s", run.Endpoint, m.endpoint)}
	}
	out := c.ErrOrStderr()
	config := remedy.Config{Data: m.data, Keys: m.keys, Vault: m.vault, Fabric: m.fabric, Journal: folder, Wait: r.wait, Progress: func(s remedy.Step) {
		if r.output == "table" {
			fmt.Fprintf(out, "%-9s %-8s %s\n", s.State, s.Name, orElse(s.Seen, s.Do))
		}
	}}
	if r.dryRun {
		if verb == "remediate" && run.Status == remedy.Planned {
			if err := remedy.Check(c.Context(), config, &run); err != nil {
				return refused(c, err)
			}
		}
		return r.show(c.OutOrStdout(), run, "nothing was changed")
	}
	if err := r.confirm(c, verb, run); err != nil {
		return err
	}
	do := remedy.Apply
	if verb == "backout" {
		do = remedy.Backout
	} else if was.ID != "" && !was.Open() {
		if err := folder.Retire(was); err != nil {
			return err
		}
	}
	if err := do(c.Context(), config, &run); err != nil {
		if !run.Open() {
			return refused(c, err)
		}
		r.show(out, run, "stopped under way")
		return fmt.Errorf("%w\nThe run is %s. Go on:  kluis posture %s %s --apply\n%s", err, run.Status, goOn(run), run.ID, goBack(run))
	}
	return r.show(c.OutOrStdout(), run, string(run.Status))
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func goOn(run remedy.Run) string {
	if run.Status == remedy.BackingOut {
		return "backout"
	}
	return "remediate"
}

func goBack(run remedy.Run) string {
	if run.Status == remedy.BackingOut {
		return "What was before it is in the run's file."
	}
	return "Go back:  kluis posture backout " + run.ID + " --apply"
}

// refused tells what cannot be done, where nothing was changed.
func refused(c *cobra.Command, err error) error {
	switch fault.ReasonOf(err) {
	case fault.NotSupported, fault.PreconditionFailed, fault.Conflict, fault.NotFound, fault.ResourceNotFound, fault.Denied, fault.InvalidArgument:
		e := fault.As(err)
		fmt.Fprintf(c.ErrOrStderr(), "kluis: nothing was changed: %v\n", err)
		if e.Mend != "" {
			fmt.Fprintf(c.ErrOrStderr(), "       %s\n", e.Mend)
		}
		return errNotHolding
	}
	return err
}

// confirm asks for the resource's name.
func (r *remedyFlags) confirm(c *cobra.Command, verb string, run remedy.Run) error {
	if r.yes {
		return nil
	}
	f, ok := c.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError{errors.New("say --yes where nobody can be asked")}
	}
	fmt.Fprintf(c.ErrOrStderr(), "To %s %s, type its name, %q: ", verb, run.Resource, run.Name)
	line, _ := bufio.NewReader(f).ReadString('\n')
	if strings.TrimSpace(line) != run.Name {
		return errors.New("nothing was done")
	}
	return nil
}

// show prints a run.
func (r *remedyFlags) show(w io.Writer, run remedy.Run, how string) error {
	if r.output == "json" {
		return printJSON(w, run)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "run\t%s\nresource\t%s\nkey\t%s\nstatus\t%s (%s)\n", run.ID, run.Resource, orNone(run.Key), run.Status, how)
	if run.Final {
		fmt.Fprintln(t, "final\tnobody can undo it")
	}
	for i, s := range run.Steps {
		fmt.Fprintf(t, "step %d\t%s: %s %s\n", i+1, s.State, s.Do, s.Seen)
	}
	return t.Flush()
}

func postureRuns() *cobra.Command {
	var r remedyFlags
	c := &cobra.Command{
		Use:   "runs",
		Short: "List the remediations that were carried out, and how each stands",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			folder, err := remedy.OpenFolder(r.state)
			if err != nil {
				return err
			}
			defer folder.Close()
			all, err := folder.Runs(false)
			if err != nil {
				return err
			}
			if r.output == "json" {
				return printJSON(c.OutOrStdout(), append([]remedy.Run{}, all...))
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "RUN\tSTATUS\tUPDATED\tRESOURCE\tPROBLEM")
			for _, run := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", run.ID[:8], run.Status, run.Updated.Format(time.DateTime), run.Name, orNone(run.Problem))
			}
			return t.Flush()
		},
	}
	r.declareState(c)
	return c
}
