package remedy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A Config is what carrying out a run needs. Data is the resource's side and Keys the
// vault's, in Resource Manager; Vault calls vaults themselves, as those who keep keys, and
// Fabric its REST API, as those who have the data. Those that a run does not use may be nil.
type Config struct {
	Data, Keys Manager
	Vault      Manager
	Fabric     Manager
	Journal    Journal
	Progress   func(Step)    // told of each step as its state changes; may be nil
	Wait       time.Duration // for a step's effect to be seen: 30 min if 0
	Poll       time.Duration // between two looks: 1 s if 0
	Now        func() time.Time
}

// An executor carries out one run.
type executor struct {
	Config
	run  *Run
	kind kind
	was  subject // the resource before the first change
}

// A presence says whether a step's effect is there.
type presence int

const (
	absent presence = iota
	coming          // it was set in motion
	present
)

// A stepKind is what a step does and undoes.
type stepKind struct {
	name, do string
	several  bool // it takes several changes: one that was refused may have done some of them
	// look says whether the effect is there, and what shows it.
	look func(*executor, context.Context) (presence, string, error)
	act  func(*executor, context.Context, *Step) error
	// lookBack says whether the effect is undone, as it was before.
	lookBack func(*executor, context.Context, *Step) (presence, string, error)
	undo     func(*executor, context.Context, *Step) error
}

func start(c Config, r *Run) (*executor, error) {
	if c.Wait == 0 {
		c.Wait = 30 * time.Minute
	}
	if c.Poll == 0 {
		c.Poll = time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k, ok := kinds[cmp.Or(r.Kind, "storage")]
	if !ok || len(k.steps) != len(r.Steps) {
		return nil, fault.New(fault.NotSupported, "The run is of another release of kluis, which has to end it.").About(r.ID)
	}
	x := &executor{Config: c, run: r, kind: k}
	if r.Before == nil {
		return x, nil
	}
	var err error
	x.was, err = x.parse(r.Before)
	return x, err
}

// Check looks whether what the run takes for granted holds, and changes nothing. It
// fails with [fault.PreconditionFailed] if not.
func Check(ctx context.Context, c Config, r *Run) error {
	x, err := start(c, r)
	if err != nil {
		return err
	}
	return x.kind.check(x, ctx)
}

// Apply carries out a run, or goes on with it. What it returns is how far it came: a run
// whose error is not nil says so in its status and problem.
func Apply(ctx context.Context, c Config, r *Run) error {
	x, err := start(c, r)
	if err != nil {
		return err
	}
	switch r.Status {
	case Applied, BackingOut:
		return fault.New(fault.Conflict, "The run is "+string(r.Status)+".").About(r.ID)
	case Planned, BackedOut:
		if err := x.kind.check(x, ctx); err != nil {
			return err
		}
		if r.Before, err = x.kind.image(x, ctx); err != nil {
			return err
		}
		if x.was, err = x.parse(r.Before); err != nil {
			return err
		}
		for i := range r.Steps {
			r.Steps[i] = Step{Name: r.Steps[i].Name, Do: r.Steps[i].Do, State: Pending}
		}
		r.Status, r.Begun, r.After = Applying, c.time(), nil
	}
	if err := x.save(nil); err != nil { // the image is durable before the first change
		return err
	}
	for i := range r.Steps {
		if err := x.apply(ctx, &r.Steps[i], x.kind.steps[i]); err != nil {
			return errors.Join(err, x.save(fmt.Errorf("step %d, %s: %w", i+1, r.Steps[i].Name, err)))
		}
	}
	if r.After, err = x.kind.image(x, ctx); err != nil {
		return err
	}
	r.Status = Applied
	return x.save(nil)
}

// Backout takes a run back, or goes on with taking it back.
func Backout(ctx context.Context, c Config, r *Run) error {
	x, err := start(c, r)
	if err != nil {
		return err
	}
	if r.Status == Planned || r.Status == BackedOut {
		return fault.New(fault.Conflict, "There is nothing to take back: the run is "+string(r.Status)+".").About(r.ID)
	}
	if r.Final && slices.ContainsFunc(r.Steps, func(s Step) bool { return s.State == Done || s.State == Started }) {
		return fault.New(fault.NotSupported, "What was done cannot be taken back, by anybody.").About(r.Resource)
	}
	now, err := x.kind.image(x, ctx)
	if err != nil {
		return err
	}
	if err := x.kind.undisturbed(x, now); err != nil {
		return err
	}
	r.Status = BackingOut
	if err := x.save(nil); err != nil {
		return err
	}
	for i := len(r.Steps) - 1; i >= 0; i-- {
		if err := x.undo(ctx, &r.Steps[i], x.kind.steps[i]); err != nil {
			return errors.Join(err, x.save(fmt.Errorf("undoing step %d, %s: %w", i+1, r.Steps[i].Name, err)))
		}
	}
	if r.After, err = x.kind.image(x, ctx); err != nil {
		return err
	}
	if !x.kind.restored(x, r.After) {
		err := fault.New(fault.Conflict, "The steps are undone, and it is not as it was before.").About(r.Resource)
		return errors.Join(err, x.save(err))
	}
	r.Status = BackedOut
	return x.save(nil)
}

func (c Config) time() time.Time {
	if c.Now == nil {
		return time.Now().UTC()
	}
	return c.Now().UTC()
}

func (x *executor) save(problem error) error {
	x.run.Updated, x.run.Problem = x.time(), ""
	if problem != nil {
		x.run.Problem = problem.Error()
	}
	return x.Journal.Save(*x.run)
}

// mark saves a step's state, and tells of it.
func (x *executor) mark(s *Step, state StepState, seen string) error {
	s.State, s.Seen, s.Time = state, seen, x.time()
	if err := x.save(nil); err != nil {
		return err
	}
	if x.Progress != nil {
		x.Progress(*s)
	}
	return nil
}

func (x *executor) apply(ctx context.Context, s *Step, k stepKind) error {
	if s.State == Done || s.State == Found {
		return nil
	}
	is, seen, err := k.look(x, ctx)
	if err != nil {
		return err
	}
	if is == present && s.State == Pending {
		return x.mark(s, Found, seen)
	}
	if is == absent {
		if err := x.mark(s, Started, ""); err != nil {
			return err
		}
		if err := x.insist(ctx, func() error { return k.act(x, ctx, s) }); err != nil {
			switch fault.ReasonOf(err) {
			case fault.Denied, fault.InvalidArgument, fault.KEKRefused: // it was not done, for certain
				if !k.several {
					s.State, s.Undo = Pending, ""
				}
			}
			return err
		}
	}
	seen, err = x.await(ctx, s.Name, func() (presence, string, error) { return k.look(x, ctx) })
	if err != nil {
		return err
	}
	return x.mark(s, Done, seen)
}

func (x *executor) undo(ctx context.Context, s *Step, k stepKind) error {
	if s.State != Done && s.State != Started {
		return nil
	}
	is, seen, err := k.lookBack(x, ctx, s)
	if err != nil {
		return err
	}
	if is == absent {
		if err := x.insist(ctx, func() error { return k.undo(x, ctx, s) }); err != nil {
			return err
		}
	}
	if is != present {
		if seen, err = x.await(ctx, s.Name, func() (presence, string, error) { return k.lookBack(x, ctx, s) }); err != nil {
			return err
		}
	}
	return x.mark(s, Undone, seen)
}

// grantDelay bounds how long a grant that was just made may take to be felt.
const grantDelay = 10 * time.Minute

// insist acts again while that may help: a grant takes effect late, and a change before
// may be on its way.
func (x *executor) insist(ctx context.Context, act func() error) error {
	until := x.time().Add(min(grantDelay, x.Wait))
	for {
		err := act()
		switch fault.ReasonOf(err) {
		case fault.KEKRefused:
			if !x.granted() {
				return err
			}
		case fault.Conflict, fault.EncryptionInProgress, fault.Throttled, fault.Unavailable:
		default:
			return err
		}
		if !x.time().Before(until) {
			return err
		}
		if perr := x.pause(ctx); perr != nil {
			return errors.Join(err, perr)
		}
	}
}

// granted reports whether the run itself has granted the key's use.
func (x *executor) granted() bool {
	for _, s := range x.run.Steps {
		if s.Name == grantName {
			return s.State == Done
		}
	}
	return false
}

func (x *executor) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(x.Poll):
		return nil
	}
}

// await looks until the effect is there.
func (x *executor) await(ctx context.Context, name string, look func() (presence, string, error)) (string, error) {
	until := x.time().Add(x.Wait)
	for {
		is, seen, err := look()
		switch {
		case err != nil:
			return "", err
		case is == present:
			return seen, nil
		case !x.time().Before(until):
			return "", fault.New(fault.Unavailable, fmt.Sprintf("It was asked for, and cannot be seen after %s: %s.", x.Wait, seen)).About(name).
				WithMend("Run the same command again to go on waiting.")
		}
		if err := x.pause(ctx); err != nil {
			return "", err
		}
	}
}

func nameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
