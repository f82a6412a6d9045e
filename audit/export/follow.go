package export

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
)

// written: at the sink, its position not yet kept.
var written = failpoint.New("audit/export/written")

// A Log is read a page at a time, as [audit.Log] can be.
type Log interface {
	Entries(context.Context, audit.Query) ([]audit.Numbered, error)
}

// A Sink takes entries away.
type Sink interface {
	// Write takes entries, in order. If it fails they come again, and perhaps some
	// that it has taken already: their sequence numbers tell.
	Write(ctx context.Context, entries []audit.Numbered) error
	// Close gives up what the sink holds.
	Close() error
}

// A Follower gives a sink every entry of a log, from where it had come.
type Follower struct {
	Name     string // for logs
	Log      Log
	Sink     Sink
	Position Position      // keeps how far it has come
	Interval time.Duration // between two looks at the log; 0 means a second
}

// A Position is the sequence number of the entry to export next.
type Position interface {
	Load(ctx context.Context) (int64, error) // 0 if none was stored
	Store(ctx context.Context, next int64) error
}

// File keeps a position in the file of its name.
type File string

// batch is how many entries go to a sink at once.
const batch = 500

// The pauses after failures of the sink.
const (
	firstPause = time.Second
	longPause  = time.Minute
)

// Run follows the log until ctx ends, and closes the sink. A sink that fails is
// tried again: the entries wait in the log, which no sink can fill or hold up.
func (f *Follower) Run(ctx context.Context) {
	defer f.Sink.Close()
	interval := f.Interval
	if interval == 0 {
		interval = time.Second
	}
	pause, failing := firstPause, false
	for {
		wait := interval
		more, err := f.Step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.ErrorContext(ctx, "the audit export waits for its sink", "sink", f.Name, "again", pause.String(), "error", err)
			wait, failing = pause, true
			pause = min(2*pause, longPause)
		default:
			if failing {
				slog.InfoContext(ctx, "the audit export goes on", "sink", f.Name)
			}
			pause, failing = firstPause, false
			if more {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Step gives the sink one batch, and reports whether there may be more.
func (f *Follower) Step(ctx context.Context) (more bool, err error) {
	next, err := f.Position.Load(ctx)
	if err != nil {
		return false, err
	}
	q := audit.Query{Limit: batch}
	if next > 0 {
		q.After = new(next - 1)
	}
	entries, err := f.Log.Entries(ctx, q)
	if err != nil || len(entries) == 0 {
		return false, err
	}
	if err := f.Sink.Write(ctx, entries); err != nil {
		return false, err
	}
	if err := written.Hit(); err != nil {
		return false, err
	}
	next = entries[len(entries)-1].Sequence + 1
	return len(entries) == batch, f.Position.Store(ctx, next)
}

// Waiting returns since when an entry waits for the sink, zero if none does.
func (f *Follower) Waiting(ctx context.Context) (time.Time, error) {
	next, err := f.Position.Load(ctx)
	if err != nil {
		return time.Time{}, err
	}
	q := audit.Query{Limit: 1}
	if next > 0 {
		q.After = new(next - 1)
	}
	entries, err := f.Log.Entries(ctx, q)
	if err != nil || len(entries) == 0 {
		return time.Time{}, err
	}
	return entries[0].Time, nil
}

// Load implements [Position].
func (f File) Load(context.Context) (int64, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// Store implements [Position].
func (f File) Store(_ context.Context, next int64) error {
	return durable.WriteFile(string(f), strconv.AppendInt(nil, next, 10), 0o600)
}
