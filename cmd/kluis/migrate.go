package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/store/sqlite"
)

var (
	migrateCopied   = failpoint.New("kluis/migrate/after-copy")
	migrateBefore   = failpoint.New("kluis/migrate/before-switch")
	migrateSwitched = failpoint.New("kluis/migrate/after-switch")
)

// embedded is what --to says for the database in the party's own folder.
const embedded = "embedded"

// Beside the embedded database.
const (
	migratingSuffix = ".migrating"        // one that is being made
	movedSuffix     = ".before-migration" // one that the party has no longer
)

func migrateCommand() *cobra.Command {
	var m migration
	var output string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Move a party's database from the embedded one to PostgreSQL, or back",
		Long: `Move a party's database from the embedded one to PostgreSQL, or back. No server may
use either meanwhile.

All is copied in one transaction and read back: each table's rows and their sum must
be the same, and the audit log must hold. Then the file database in the party's folder
is switched, at once. Until then the old database is the party's, whole and unchanged
but for an entry in its audit log; whatever breaks the move off, it can be begun again.

The old database stays where it is, to be removed when it is not needed any more: an
embedded one under another name, one on PostgreSQL marked so that no other server goes
on with it. A move that is broken off before the mark is finished by whatever opens the
party next. The old one holds what it held: what is shredded later is still in it.

  kluis migrate --data DIR --party vault --to postgres://kluis_vault@db.example.com/kluis_vault
  kluis migrate --data DIR --party vault --to embedded`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := partySchemas[m.party]; !ok {
				return usageError{fmt.Errorf("no such party: %q; there are %s", m.party, strings.Join(allParties, ", "))}
			}
			if m.to != embedded {
				if err := postgres.CheckAddress(m.to); err != nil {
					return usageError{fmt.Errorf("--to: %w", err)}
				}
			}
			lock, err := lockDir(m.data)
			if err != nil {
				return err
			}
			defer lock.Close()
			moved, err := m.run(cmd.Context())
			if err != nil {
				return err
			}
			return moved.print(cmd.OutOrStdout(), output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.data, "data", defaultConfig().Data, "the data `DIR`ectory")
	f.StringVar(&m.party, "party", "", "whose database: "+strings.Join(allParties, ", "))
	f.StringVar(&m.to, "to", "", "the `URL` of an empty PostgreSQL database, or embedded")
	cmd.MarkFlagRequired("party")
	cmd.MarkFlagRequired("to")
	addOutput(cmd, &output)
	return cmd
}

// A migration moves one party's database.
type migration struct {
	data, party, to string
}

// A migrated is what was moved.
type migrated struct {
	Party  string `json:"party"`
	To     string `json:"to"` // embedded or postgresql
	Tables int    `json:"tables"`
	Rows   int64  `json:"rows"`
	Left   string `json:"left"` // where the old one is
}

func (m migrated) print(w io.Writer, output string) error {
	if output == "json" {
		return printJSON(w, m)
	}
	_, err := fmt.Fprintf(w, "the %s's database is %s now: %d tables with %d rows\nThe old one is %s: remove it when you do not need it any more.\n", m.Party, m.To, m.Tables, m.Rows, m.Left)
	return err
}

func (m migration) dir() string { return filepath.Join(m.data, m.party) }

func (m migration) file() string { return filepath.Join(m.dir(), databaseFile) }

func (m migration) run(ctx context.Context) (migrated, error) {
	if !hasDatabase(m.dir()) {
		return migrated{}, fmt.Errorf("%s holds no %s with a database", m.data, m.party)
	}
	if err := finishLeaving(ctx, m.dir(), partySchemas[m.party]); err != nil {
		return migrated{}, err
	}
	address, err := addressIn(m.dir())
	switch {
	case err != nil:
		return migrated{}, err
	case m.to == embedded && address == "":
		return migrated{}, fmt.Errorf("the %s's database is embedded already", m.party)
	case m.to == embedded:
		return m.home(ctx, address)
	case address == m.to:
		return migrated{}, fmt.Errorf("the %s's database is there already", m.party)
	case address != "":
		return migrated{}, fmt.Errorf("the %s's database lies on PostgreSQL: move it with PostgreSQL's tools and change %s, or by --to %s", m.party, filepath.Join(m.dir(), addressFile), embedded)
	}
	return m.away(ctx)
}

// away moves an embedded database to PostgreSQL.
func (m migration) away(ctx context.Context) (done migrated, err error) {
	from, err := sqlite.Open(ctx, m.file(), partySchemas[m.party])
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := postgres.Reclaim(ctx, m.to); err != nil {
		return done, err
	}
	to, err := postgres.Open(ctx, m.to, partySchemas[m.party])
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := to.Alone(ctx); err != nil {
		return done, err
	}
	tables, err := from.Tables(ctx)
	if err != nil {
		return done, err
	}
	done = migrated{Party: m.party, To: "postgresql", Left: m.file() + movedSuffix}
	if err := m.transfer(ctx, &database{Domains: from.Domains, engine: from}, &database{Domains: to.Domains, engine: to}, tables, &done); err != nil {
		return done, err
	}
	if err := durable.WriteFile(filepath.Join(m.dir(), addressFile), []byte(m.to+"\n"), 0o600); err != nil {
		return done, err
	}
	if err := errors.Join(migrateSwitched.Hit(), from.Close()); err != nil {
		return done, err
	}
	return done, errors.Join(os.Rename(m.file(), done.Left), durable.SyncDir(m.dir()))
}

// home moves a database from PostgreSQL into the party's folder.
func (m migration) home(ctx context.Context, address string) (done migrated, err error) {
	from, err := postgres.Open(ctx, address, partySchemas[m.party])
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := from.Alone(ctx); err != nil {
		return done, err
	}
	made := m.file() + migratingSuffix
	if err := removeDatabase(made); err != nil {
		return done, err
	}
	to, err := sqlite.Open(ctx, made, partySchemas[m.party])
	if err != nil {
		return done, err
	}
	tables, err := to.Tables(ctx)
	done = migrated{Party: m.party, To: embedded, Left: "on PostgreSQL as it was, and marked"}
	if err == nil {
		err = m.transfer(ctx, &database{Domains: from.Domains, engine: from}, &database{Domains: to.Domains, engine: to}, tables, &done)
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return done, errors.Join(err, removeDatabase(made))
	}
	// While the file database is there, the embedded one is nobody's, whatever it holds.
	if err := errors.Join(removeDatabase(m.file()), os.Rename(made, m.file()), durable.SyncDir(m.dir())); err != nil {
		return done, err
	}
	leaving := filepath.Join(m.dir(), leavingFile)
	if err := errors.Join(os.Rename(filepath.Join(m.dir(), addressFile), leaving), durable.SyncDir(m.dir())); err != nil {
		return done, err
	}
	if err := errors.Join(migrateSwitched.Hit(), from.Leave(ctx)); err != nil {
		return done, err
	}
	return done, errors.Join(os.Remove(leaving), durable.SyncDir(m.dir()))
}

// removeDatabase removes an embedded database, if it is there.
func removeDatabase(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// transfer records the move, copies everything, and checks the copy.
func (m migration) transfer(ctx context.Context, from, to *database, tables []store.Table, done *migrated) error {
	if err := m.comparable(ctx, from, to); err != nil {
		return err
	}
	if err := m.record(ctx, from, done.To); err != nil {
		return err
	}
	total, err := from.Rows(ctx, tables)
	if err != nil {
		return err
	}
	each, end := countRows(2 * total)
	defer end()
	written, err := from.CopyTo(ctx, to.Domains, tables, each)
	if err == nil {
		err = migrateCopied.Hit()
	}
	if err != nil {
		return err
	}
	read, err := to.Tallies(ctx, tables, each)
	if err != nil {
		return err
	}
	for i, t := range written {
		if read[i] != t {
			return fmt.Errorf("the table %s does not read back as it was written: nothing was switched", t.Table)
		}
		done.Rows += t.Rows
	}
	done.Tables = len(tables)
	log, err := verifyLog(ctx, to, m.dir())
	if err == nil && !log.OK() {
		err = fmt.Errorf("the audit log does not hold in the copy: %s", log.Problems[0])
	}
	if err != nil {
		return err
	}
	var found []error
	err = to.Check(ctx, func(text string) { found = append(found, errors.New(text)) })
	return errors.Join(append(found, err, migrateBefore.Hit())...)
}

// comparable makes sure that both have the same tables, and that the target holds
// nothing, or what a move that was broken off has left.
func (m migration) comparable(ctx context.Context, from, to *database) error {
	schema := partySchemas[m.party]
	ours, err := from.Versions(ctx, schema)
	if err != nil {
		return err
	}
	theirs, err := to.Versions(ctx, schema)
	if err != nil {
		return err
	}
	if !maps.Equal(ours, theirs) {
		return errors.New("the two databases' tables are not of the same version")
	}
	same, err := from.SameLog(ctx, to.Domains)
	if err == nil && !same {
		err = errors.New("the target holds something else, or something newer: name an empty database")
	}
	return err
}

// record writes into the party's log that its database is being moved.
func (m migration) record(ctx context.Context, from *database, to string) (err error) {
	p := &party{name: m.party, dir: m.dir(), db: from}
	if err := p.openLog(ctx, audit.Config{}); err != nil {
		return err
	}
	return errors.Join(p.log.Record(ctx, audit.Entry{
		Operation: "database/migrate", Outcome: audit.Allowed, Resource: "/database", Detail: map[string]string{"to": to, "by": operatingUser()},
	}), p.log.Close())
}

// countRows returns what shows how far the copying is, if somebody looks.
func countRows(total int64) (each func(int), end func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil, func() {}
	}
	bar := progressbar.Default(total, "rows")
	return func(n int) { bar.Add(n) }, func() { bar.Finish() }
}
