// Package drill runs a revocation drill: it takes a key away at its vault, measures how
// long it takes until nothing can be read, written, listed or restored any more, gives
// the key back, and measures how long it takes until everything can again. The command
// 'kluis drill' and the portal both run it, as the people who asked for it.
//
// A drill cannot be lost. Each version of the key that it disables is marked in the very
// call that disables it ([Key.Take]), so that the vault holds the intent exactly where
// the effect lies: whoever may change the key sees from it alone that a drill took the key
// away, and when it was to be over ([Key.Left]), and can give it back ([Key.Restore]),
// whatever became of the process that ran the drill, and in any vault. A kluis vault
// gives it back by itself when that time has come, as it was told to by the person who
// took it.
//
// A drill undoes no revocation: what somebody else has changed since the drill took the
// key away is left as it is.
package drill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// Probes are the things that a drill tries, in their order.
var Probes = []string{"read", "write", "list", "restore"}

// Data is what lies under the key.
type Data interface {
	// Try does one of the [Probes].
	Try(ctx context.Context, probe string) error
	// Refused reports whether an error of Try says that the vault has refused the key:
	// silence, throttling and the platform's own faults do not.
	Refused(err error) bool
}

// Times are milliseconds by probe.
type Times map[string]int64

// Slowest is the longest of them.
func (t Times) Slowest() (n int64) {
	for _, ms := range t {
		n = max(n, ms)
	}
	return n
}

// A Report is what a drill has measured. Times are milliseconds since the vault has
// confirmed the last change of the key.
type Report struct {
	Server        string    `json:"server"` // the platform's address
	ClientVersion string    `json:"clientVersion"`
	Production    bool      `json:"production"`
	Workspace     string    `json:"workspaceId"`
	KID           string    `json:"kid"` // the key version in use when the drill began
	Disabled      []string  `json:"disabledVersions"`
	Bound         int64     `json:"killSwitchBoundSeconds"`
	Started       time.Time `json:"started"`
	Trials        []Trial   `json:"trials"`
}

// A Trial is one time that the key was taken away and given back.
type Trial struct {
	Disabled time.Time `json:"disabled"` // when the vault had confirmed it
	Dark     Times     `json:"darkMilliseconds"`
	Enabled  time.Time `json:"enabled"`
	Back     Times     `json:"backMilliseconds"`
}

// Evidence is a report with the platform's proof that its audit log holds the report's
// SHA-256.
type Evidence struct {
	Report      json.RawMessage `json:"report"` // hashed without white space
	Certificate json.RawMessage `json:"certificate"`
}

// Add adds a trial, which has taken those versions away.
func (r *Report) Add(t Trial, versions []string) {
	t.Disabled, t.Enabled = t.Disabled.UTC().Truncate(time.Microsecond), t.Enabled.UTC().Truncate(time.Microsecond)
	r.Disabled, r.Trials = versions, append(r.Trials, t)
}

// Slowest returns the longest times of all trials, in milliseconds.
func (r Report) Slowest() (dark, back int64) {
	for _, t := range r.Trials {
		dark, back = max(dark, t.Dark.Slowest()), max(back, t.Back.Slowest())
	}
	return dark, back
}

// Text returns the report as evidence has it, and its SHA-256 in hexadecimal digits.
func (r Report) Text() (text json.RawMessage, sum string, err error) {
	if text, err = json.Marshal(r); err != nil {
		return nil, "", err
	}
	hash := sha256.Sum256(text)
	return text, hex.EncodeToString(hash[:]), nil
}

// A Stage is where a trial stands.
type Stage string

// The stages of a trial.
const (
	Darkening Stage = "Going dark"
	Returning Stage = "Coming back"
)

// Tell is told now and then how a trial goes; an error ends it.
type Tell func(stage Stage, since time.Duration, so Trial) error

// Run makes one trial: it takes the key away and gives it back, whatever happens. Each of
// the two has patience to take effect; if the process ends meanwhile, the key's mark says
// that it was to be over after that time. tell may be nil.
func Run(ctx context.Context, k Key, d Data, patience time.Duration, tell Tell) (t Trial, versions []string, err error) {
	if tell == nil {
		tell = func(Stage, time.Duration, Trial) error { return nil }
	}
	taken, err := k.Take(ctx, time.Now().Add(patience+grace))
	if err != nil {
		return t, nil, err
	}
	versions = taken.Versions()
	given := false
	give := func() error {
		given = true
		return taken.Give(context.WithoutCancel(ctx))
	}
	defer func() {
		if !given {
			err = errors.Join(err, give())
		}
	}()
	t.Disabled = time.Now()
	if t.Dark, err = Measure(ctx, d, d.Refused, t.Disabled, patience, func(since time.Duration, so Times) error {
		return tell(Darkening, since, Trial{Disabled: t.Disabled, Dark: so})
	}); err != nil {
		return t, versions, err
	}
	if err := dark.Hit(); err != nil {
		return t, versions, err
	}
	for _, what := range Probes { // what is dark stays so
		if err := d.Try(ctx, what); !d.Refused(err) {
			return t, versions, fmt.Errorf("%s: it was refused, and then: %w", what, orSuccess(err))
		}
	}
	if err := give(); err != nil {
		return t, versions, err
	}
	t.Enabled = time.Now()
	t.Back, err = Measure(ctx, d, Works, t.Enabled, patience, func(since time.Duration, so Times) error {
		return tell(Returning, since, Trial{Disabled: t.Disabled, Dark: t.Dark, Enabled: t.Enabled, Back: so})
	})
	return t, versions, err
}

// grace is what a drill that lives needs to give the key back, beyond its patience.
const grace = 30 * time.Second

// Works reports whether a probe has succeeded.
func Works(err error) bool { return err == nil }

const (
	probePause = 20 * time.Millisecond  // between two tries of one thing: what is measured is that much too long at most
	tellPause  = 100 * time.Millisecond // between two words of how it goes
)

// Measure tries everything until it ends as it should, and returns how many milliseconds
// after from each did. Whatever has not within patience fails it with what it met last.
func Measure(ctx context.Context, d Data, reached func(error) bool, from time.Time, patience time.Duration, tell func(since time.Duration, so Times) error) (Times, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	out, late := Times{}, map[string]error{}
	for _, what := range Probes {
		all.Go(func() {
			var last error
			for ctx.Err() == nil {
				err := d.Try(ctx, what)
				if took := time.Since(from); reached(err) {
					mu.Lock()
					out[what] = took.Milliseconds()
					mu.Unlock()
					return
				}
				if ctx.Err() == nil { // else it says only that there is no more time
					last = orSuccess(err)
				}
				rest(ctx, probePause)
			}
			mu.Lock()
			late[what] = orSuccess(last)
			mu.Unlock()
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	defer func() { cancel(); <-done }()
	for ended := false; ; {
		mu.Lock()
		so := maps.Clone(out)
		mu.Unlock()
		if err := tell(time.Since(from), so); err != nil {
			return so, err
		}
		if ended {
			break
		}
		select {
		case <-done:
			ended = true
		case <-time.After(tellPause):
		}
	}
	if len(late) > 0 {
		return out, &Late{After: time.Since(from).Round(time.Millisecond), Last: late}
	}
	return out, nil
}

// Late says which probes did not come to end as they should, and what each met last.
type Late struct {
	After time.Duration
	Last  map[string]error
}

func (e *Late) Error() string {
	var all []string
	for _, what := range Probes {
		if err := e.Last[what]; err != nil {
			all = append(all, fmt.Sprintf("%s: after %s still: %v", what, e.After, err))
		}
	}
	return strings.Join(all, "\n")
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

type success struct{}

func (success) Error() string { return "it succeeds" }

func orSuccess(err error) error {
	if err == nil {
		return success{}
	}
	return err
}

// A span is from when to when a key is away: as ISO 8601 writes it, BEGIN/END.
type span struct{ from, until time.Time }

func (s span) String() string {
	return s.from.UTC().Format(time.RFC3339) + "/" + s.until.UTC().Format(time.RFC3339)
}

func parseSpan(text string) (s span, ok bool) {
	from, until, ok := strings.Cut(text, "/")
	if !ok {
		return s, false
	}
	var errs [2]error
	s.from, errs[0] = time.Parse(time.RFC3339, from)
	s.until, errs[1] = time.Parse(time.RFC3339, until)
	return s, errs[0] == nil && errs[1] == nil && s.from.Before(s.until)
}
