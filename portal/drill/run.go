package drill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// The things that a drill tries, as 'kluis drill' does.
var probes = []string{"read", "write", "list", "restore"}

const (
	probePause = 25 * time.Millisecond  // between two tries of one thing
	tellPause  = 100 * time.Millisecond // between two pictures of the clock
	patience   = 9 * time.Minute        // for the whole of a drill
)

// The stages of a drill.
const (
	preparing = "Preparing"
	waiting   = "Waiting for the key to be taken away"
	darkening = "Going dark"
	missing   = "Dark: waiting for the key to be given back"
	returning = "Coming back"
	finished  = "Finished"
)

// state is what the clock shows.
type state struct {
	ID      string
	Stage   string
	Since   time.Duration    // of the stage
	Dark    map[string]int64 // milliseconds until each was refused
	Back    map[string]int64 // and until each went again
	Alone   bool             // the user takes the key away himself
	Taken   time.Time        // when the vault had confirmed it; of two people's drill, when the first thing was refused
	Given   time.Time
	Bound   int64
	Problem *portal.Problem
	Proof   string // the evidence, as JSON
}

// Probes are the things tried, in their order.
func (state) Probes() []string { return probes }

// Running reports whether the drill goes on.
func (s state) Running() bool { return s.Stage != finished && s.Problem == nil }

// Seconds spells how long the stage has taken.
func (s state) Seconds() string { return fmt.Sprintf("%.1f", s.Since.Seconds()) }

// Slowest is the longest of some times, in milliseconds.
func (state) Slowest(of map[string]int64) (n int64) {
	for _, ms := range of {
		n = max(n, ms)
	}
	return n
}

// report has the form of the one that 'kluis drill' makes.
type report struct {
	Server    string    `json:"server"`
	Version   string    `json:"clientVersion"`
	Produced  bool      `json:"production"`
	Workspace string    `json:"workspaceId"`
	KID       string    `json:"kid"`
	Disabled  []string  `json:"disabledVersions"`
	Bound     int64     `json:"killSwitchBoundSeconds"`
	Started   time.Time `json:"started"`
	Trials    []trial   `json:"trials"`
}

type trial struct {
	Disabled time.Time        `json:"disabled"`
	Dark     map[string]int64 `json:"darkMilliseconds"`
	Enabled  time.Time        `json:"enabled"`
	Back     map[string]int64 `json:"backMilliseconds"`
}

// A drill is one run of one.
type drill struct {
	*client.Clients
	stage
	takes bool
	state state
	file  string // that is read and written
}

// versions returns the versions of a key that are switched on.
func versions(ctx context.Context, c *client.Clients, kid string) (on []string, err error) {
	keys, err := c.KeysOf(kid)
	if err != nil {
		return nil, err
	}
	id := azkeys.ID(kid)
	for p := keys.NewListKeyPropertiesVersionsPager(id.Name(), nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Value {
			if v.Attributes != nil && v.Attributes.Enabled != nil && *v.Attributes.Enabled {
				on = append(on, v.KID.Version())
			}
		}
	}
	return on, nil
}

// turn switches versions on or off; where one fails the others are tried all the same.
func (d *drill) turn(ctx context.Context, versions []string, on bool) error {
	keys, err := d.KeysOf(d.E.KeyVersion)
	if err != nil {
		return err
	}
	id := azkeys.ID(d.E.KeyVersion)
	for _, v := range versions {
		_, e := keys.UpdateKey(ctx, id.Name(), v, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		err = errors.Join(err, e)
	}
	return err
}

// try does one thing with the data.
func (d *drill) try(ctx context.Context, what string) error {
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

// run takes the key away, or waits until somebody has, and gives it back whatever
// happens.
func (d *drill) run(ctx context.Context, tell func(state) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.state = state{ID: d.ID, Stage: preparing, Alone: d.takes, Bound: d.E.Bound, Dark: map[string]int64{}, Back: map[string]int64{}}
	if err := tell(d.state); err != nil {
		return err
	}
	if err := d.place(ctx); err != nil {
		return err
	}
	defer d.DeleteFile(context.WithoutCancel(ctx), d.ID, d.file)
	started := time.Now().UTC()
	var taken []string
	if d.takes {
		if taken, err = d.take(ctx); err != nil {
			return err
		}
		back := false
		give := func() error {
			back = true
			return d.turn(context.WithoutCancel(ctx), taken, true)
		}
		defer func() {
			if !back {
				err = errors.Join(err, give())
			}
		}()
		d.state.Taken = time.Now()
		if err := d.measure(ctx, darkening, d.state.Taken, d.state.Dark, client.KeyRefused, tell); err != nil {
			return err
		}
		if err := give(); err != nil {
			return err
		}
		d.state.Given = time.Now()
		if err := d.measure(ctx, returning, d.state.Given, d.state.Back, works, tell); err != nil {
			return err
		}
	} else if err := d.watch(ctx, tell); err != nil {
		return err
	}
	return d.conclude(ctx, started, taken, tell)
}

func works(err error) bool { return err == nil }

// take switches all versions of the key off.
func (d *drill) take(ctx context.Context) ([]string, error) {
	on, err := versions(ctx, d.Clients, d.E.KeyVersion)
	if err != nil {
		return nil, err
	}
	if len(on) == 0 {
		return nil, &portal.Problem{Status: 409, Title: "The key is off already", Detail: "No version of it is enabled."}
	}
	if err := d.turn(ctx, on, false); err != nil {
		return nil, errors.Join(err, d.turn(context.WithoutCancel(ctx), on, true))
	}
	return on, nil
}

// watch waits until somebody else has taken the key away, and given it back. Its times
// run from the first refusal, and from the first success: what came before, only the
// vault knows.
func (d *drill) watch(ctx context.Context, tell func(state) error) error {
	if err := d.until(ctx, waiting, client.KeyRefused, tell); err != nil {
		return err
	}
	d.state.Taken = time.Now()
	if err := d.measure(ctx, darkening, d.state.Taken, d.state.Dark, client.KeyRefused, tell); err != nil {
		return err
	}
	if err := d.until(ctx, missing, works, tell); err != nil {
		return err
	}
	d.state.Given = time.Now()
	return d.measure(ctx, returning, d.state.Given, d.state.Back, works, tell)
}

// until tries to read until the outcome is as wanted.
func (d *drill) until(ctx context.Context, stage string, reached func(error) bool, tell func(state) error) error {
	from := time.Now()
	for !reached(d.try(ctx, "read")) {
		d.state.Stage, d.state.Since = stage, time.Since(from)
		if err := tell(d.state); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return slow(stage)
		case <-time.After(tellPause):
		}
	}
	return nil
}

func slow(stage string) error {
	return &portal.Problem{Status: 504, Title: "The drill was given up", Detail: "It took too long: " + stage + ".", Mend: "Look whether the key is enabled again, and at the workspace's encryption."}
}

// measure tries everything until it ends as it should, and writes down how long after
// from each did.
func (d *drill) measure(ctx context.Context, stage string, from time.Time, into map[string]int64, reached func(error) bool, tell func(state) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, what := range probes {
		all.Go(func() {
			for ctx.Err() == nil {
				err := d.try(ctx, what)
				if took := time.Since(from); reached(err) {
					mu.Lock()
					into[what] = took.Milliseconds()
					mu.Unlock()
					return
				}
				time.Sleep(probePause)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	show := func() error {
		mu.Lock()
		d.state.Stage, d.state.Since = stage, time.Since(from)
		now := d.state
		now.Dark, now.Back = maps.Clone(now.Dark), maps.Clone(now.Back)
		mu.Unlock()
		return tell(now)
	}
	defer func() { cancel(); <-done }()
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return slow(stage)
		case <-done:
			return show()
		case <-time.After(tellPause):
		}
	}
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
	return d.try(ctx, "write")
}

// conclude has the platform vouch for the report, and shows it. Who only watched has
// measured no time that anybody could vouch for: he sees his times, and records none.
func (d *drill) conclude(ctx context.Context, started time.Time, taken []string, tell func(state) error) error {
	if d.takes {
		micro := func(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
		text, err := json.Marshal(report{
			Server: d.Fabric.Address, Version: "portal", Produced: true, Workspace: d.ID, KID: d.E.KeyVersion, Disabled: taken, Bound: d.E.Bound, Started: micro(started),
			Trials: []trial{{micro(d.state.Taken), d.state.Dark, micro(d.state.Given), d.state.Back}},
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		var proof json.RawMessage
		if err := d.RecordDrill(ctx, d.ID, hex.EncodeToString(sum[:]), 1, d.state.Slowest(d.state.Dark), d.state.Slowest(d.state.Back), &proof); err != nil {
			return err
		}
		whole, err := json.Marshal(map[string]json.RawMessage{"report": text, "certificate": proof})
		if err != nil {
			return err
		}
		d.state.Proof = string(whole)
	}
	d.state.Stage = finished
	return tell(d.state)
}
