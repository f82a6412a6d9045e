package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	revocation "github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

const (
	patience  = 4 * time.Minute        // for the key to be missed, and again for it to be back
	whole     = 9 * time.Minute        // for a drill of two people
	tellPause = 100 * time.Millisecond // between two pictures of the clock
)

// The stages of a drill, beside those of a trial.
const (
	preparing = "Preparing"
	waiting   = "Waiting for the key to be taken away"
	missing   = "Dark: waiting for the key to be given back"
	finished  = "Finished"
)

// state is what the clock shows.
type state struct {
	ID      string
	Stage   string
	Since   time.Duration    // of the stage
	Dark    revocation.Times // until each was refused
	Back    revocation.Times // and until each went again
	Alone   bool             // the user takes the key away himself
	Taken   time.Time        // when the vault had confirmed it; of two people's drill, when the first thing was refused
	Given   time.Time
	Bound   int64
	Problem *portal.Problem
	Proof   string // the evidence, as JSON
}

// Probes are the things tried, in their order.
func (state) Probes() []string { return revocation.Probes }

// Running reports whether the drill goes on.
func (s state) Running() bool { return s.Stage != finished && s.Problem == nil }

// Seconds spells how long the stage has taken.
func (s state) Seconds() string { return fmt.Sprintf("%.1f", s.Since.Seconds()) }

// A drill is one run of one.
type drill struct {
	*client.Clients
	stage
	takes bool
	state state
	file  string // that is read and written
}

// key is the one that is drilled.
func key(c *client.Clients, kid string) (revocation.Key, error) {
	keys, err := c.KeysOf(kid)
	_, name := revocation.KeyAt(kid)
	return revocation.Key{Client: keys, Name: name}, err
}

// Try does one thing with the data, as [revocation.Data] has it.
func (d *drill) Try(ctx context.Context, what string) error {
	switch what {
	case "read":
		return d.ProbeFile(ctx, d.ID, d.file)
	case "write":
		return d.PutFile(ctx, d.ID, d.file, []byte("drill"))
	case "list":
		return d.ProbeList(ctx, d.ID)
	}
	return d.ProbeRecoverable(ctx, d.ID)
}

// Refused reports whether the vault has refused the key.
func (d *drill) Refused(err error) bool { return client.KeyRefused(err) }

// run takes the key away and gives it back, or waits until somebody has.
func (d *drill) run(ctx context.Context, tell func(state) error) error {
	d.state = state{ID: d.ID, Stage: preparing, Alone: d.takes, Bound: d.E.Bound}
	if err := tell(d.state); err != nil {
		return err
	}
	if err := d.place(ctx); err != nil {
		return err
	}
	defer d.DeleteFile(context.WithoutCancel(ctx), d.ID, d.file)
	act := d.watch
	if d.takes {
		act = d.take
	}
	if err := act(ctx, tell); err != nil {
		return problem(err)
	}
	d.state.Stage = finished
	return tell(d.state)
}

// problem says what a drill's own errors mean for somebody at the page.
func problem(err error) error {
	var late *revocation.Late
	var changed *revocation.Changed
	var none *revocation.None
	switch {
	case errors.As(err, &changed):
		return &portal.Problem{Status: http.StatusConflict, Title: "Somebody else has changed the key", Detail: "The drill has left it as it is.",
			Mend: "Find out who did, and why, before you enable it.", Cause: err}
	case errors.As(err, &none):
		return &portal.Problem{Status: http.StatusConflict, Title: "The key is off already", Detail: "No version of it is enabled."}
	case errors.As(err, &late):
		return &portal.Problem{Status: http.StatusGatewayTimeout, Title: "The drill was given up", Detail: "It took too long.",
			Mend: "Look whether the key is enabled again, and at the workspace's encryption.", Cause: err}
	}
	return err
}

// take makes one trial, and has the platform vouch for it.
func (d *drill) take(ctx context.Context, tell func(state) error) error {
	k, err := key(d.Clients, d.E.KeyVersion)
	if err != nil {
		return err
	}
	started := time.Now().UTC().Truncate(time.Microsecond)
	trial, versions, err := revocation.Run(ctx, k, d, patience, func(stage revocation.Stage, since time.Duration, so revocation.Trial) error {
		d.state.Stage, d.state.Since = string(stage), since
		d.state.Taken, d.state.Dark, d.state.Given, d.state.Back = so.Disabled, so.Dark, so.Enabled, so.Back
		return tell(d.state)
	})
	if err != nil {
		return err
	}
	r := revocation.Report{
		Server: d.Fabric.Address, ClientVersion: "portal", Production: true, Workspace: d.ID, KID: d.E.KeyVersion, Bound: d.E.Bound, Started: started,
	}
	r.Add(trial, versions)
	text, sum, err := r.Text()
	if err != nil {
		return err
	}
	e := revocation.Evidence{Report: text}
	dark, back := r.Slowest()
	if err := d.RecordDrill(ctx, d.ID, sum, len(r.Trials), dark, back, &e.Certificate); err != nil {
		return err
	}
	proof, err := json.Marshal(e)
	d.state.Proof = string(proof)
	return err
}

// watch waits until somebody else has taken the key away, and given it back. Its times
// run from the first refusal, and from the first success: what came before, only the
// vault knows. So nobody could vouch for them, and they are recorded nowhere.
func (d *drill) watch(ctx context.Context, tell func(state) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	if err := d.until(ctx, waiting, client.KeyRefused, tell); err != nil {
		return err
	}
	d.state.Taken = time.Now()
	if d.state.Dark, err = d.measure(ctx, revocation.Darkening, d.state.Taken, d.Refused, &d.state.Dark, tell); err != nil {
		return err
	}
	if err := d.until(ctx, missing, revocation.Works, tell); err != nil {
		return err
	}
	d.state.Given = time.Now()
	d.state.Back, err = d.measure(ctx, revocation.Returning, d.state.Given, revocation.Works, &d.state.Back, tell)
	return err
}

// measure measures one stage, and shows how far it is.
func (d *drill) measure(ctx context.Context, stage revocation.Stage, from time.Time, reached func(error) bool, shown *revocation.Times, tell func(state) error) (revocation.Times, error) {
	return revocation.Measure(ctx, d, reached, from, whole, func(since time.Duration, so revocation.Times) error {
		d.state.Stage, d.state.Since, *shown = string(stage), since, so
		return tell(d.state)
	})
}

// until tries to read until the outcome is as wanted.
func (d *drill) until(ctx context.Context, stage string, reached func(error) bool, tell func(state) error) error {
	from := time.Now()
	for !reached(d.Try(ctx, "read")) {
		d.state.Stage, d.state.Since = stage, time.Since(from)
		if err := tell(d.state); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &revocation.Late{After: time.Since(from)}
		case <-time.After(tellPause):
		}
	}
	return nil
}

// place puts the file there that is tried.
func (d *drill) place(ctx context.Context) error {
	items, err := d.Items(ctx, d.ID, "Lakehouse")
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return &portal.Problem{Status: 409, Title: "There is nothing to try", Detail: "The workspace has no Lakehouse in which a file could be read and written.", Mend: "Make one, or drill another workspace."}
	}
	d.file = items[0].ID + "/Files/kluis-drill-" + uuid.NewString()[:8]
	return d.Try(ctx, "write")
}
