// Package store keeps each party's metadata in tables of a SQL database.
//
// It implements the Store interfaces that the domain packages declare; one type,
// [Tx], is every domain's transaction, and the files of this package are named
// after the domain whose part they hold. What differs between databases is an
// engine's: a package below this one opens a database, runs transactions on it as
// [Runner], and hands them out through [Domains]. The conformance suite that
// every engine passes is package storetest.
//
// # What it asks of an engine
//
// A committed transaction survives a power cut. A read transaction sees one
// snapshot. Write transactions behave as if they ran one after the other, and
// nobody writes outside of them: what a transaction has read stays true until it
// commits, which the audit log, the counters and the checks of revisions rely on.
// A transaction that fails leaves nothing behind.
//
// It leaves to the domains what a row means, and to them to seal what must not
// be readable: this package knows no key. A transaction of theirs in which a method
// has failed fails: not every database goes on after an error.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/kluis-io/kluis/fault"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the statements that bring a set of tables up to date, for
// goose: SQLite's dialect, in the subset that an engine of another can translate
// word by word.
func Migrations(set string) (fs.FS, error) { return migrationsOf(set) }

// A Schema names the sets of tables that a database holds. Each set is a folder
// below migrations and moves forward by itself.
type Schema []string

// The parties' databases.
var (
	DirectorySchema = Schema{"audit", "identity"}
	VaultSchema     = Schema{"audit", "rbac", "vault", "event"}
	PlatformSchema  = Schema{"audit", "rbac", "encryption", "workspace", "lake", "account"}

	GovernanceSchema = Schema{"audit", "rbac", "posture"}
)

// Current makes sure that tables are of this release, by the version that each set of a
// schema has: 0 if its tables are not there.
func Current(schema Schema, have map[string]int64) error {
	for _, set := range schema {
		known, _, err := Known(set)
		if err != nil {
			return err
		}
		if have[set] != known {
			return fault.New(fault.Conflict, fmt.Sprintf("The %s tables are at version %d, and this release has %d: they are of another release, and are left as they are.", set, have[set], known)).
				WithMend("Use the release that serves the data directory, or serve it with this one first, which brings the tables up to date.")
		}
	}
	return nil
}

// A Runner runs transactions on one database.
type Runner interface {
	// View runs fn in one read transaction: fn sees one snapshot and writes nothing.
	View(ctx context.Context, fn func(*Tx) error) error
	// Update runs fn in one write transaction and returns once it is durable. It does
	// not give up on a transaction that has begun when ctx ends: the caller is always
	// told what became of it. fn must not call View or Update.
	Update(ctx context.Context, fn func(*Tx) error) error
}

// Domains are the domains' stores over one database.
type Domains struct {
	runner Runner
	recall Runner // for the domains of a data plane, which read the same rows again and again
}

// Over returns the stores over what r runs transactions on.
func Over(r Runner) Domains { return Domains{r, r} }

// Versions returns the version of each set of tables of a schema, by name.
func (d Domains) Versions(ctx context.Context, schema Schema) (map[string]int64, error) {
	all := map[string]int64{}
	return all, d.runner.View(ctx, func(t *Tx) error {
		for _, set := range schema {
			var v int64
			if err := t.row("SELECT max(version_id) FROM schema_"+set, nil, &v); err != nil {
				return err
			}
			all[set] = v
		}
		return nil
	})
}

// OverBoth returns the same, where those of a data plane are over another one, whose
// View may run its function a second time.
func OverBoth(r, recall Runner) Domains { return Domains{r, recall} }

// A domain is one domain's store: everybody's transactions, seen as its own.
type domain[T any] struct {
	runner Runner
	as     func(*Tx) T
}

func (d domain[T]) View(ctx context.Context, fn func(T) error) error {
	return d.runner.View(ctx, func(t *Tx) error { return fn(d.as(t)) })
}

func (d domain[T]) Update(ctx context.Context, fn func(T) error) error {
	return d.runner.Update(ctx, func(t *Tx) error { return fn(d.as(t)) })
}
