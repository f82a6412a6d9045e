package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/store/sqlite"
)

// What names a party's database in its folder. A folder that has addressFile keeps it on
// PostgreSQL, and databaseFile is left out of account.
const (
	databaseFile = "kluis.db" // the embedded one
	addressFile  = "database" // the connection string of one on a PostgreSQL server, as libpq takes it

	// leavingFile was addressFile until the party moved home, and is there until the
	// database that it names is marked: who has not heard of the move must not go on with it.
	leavingFile = addressFile + ".leaving"
)

// A database is a party's, open on either engine.
type database struct {
	store.Domains
	engine
	shared bool   // other processes may have it open
	caveat string // what its server does not promise, "" for nothing

	// listen tells what processes that share it have changed; nil if none do.
	listen func(ctx context.Context, ready func(), heard func(about, id string)) error
}

// An engine is what commands ask of a database beside its tables.
type engine interface {
	// Check reads the whole database and calls found with what is wrong with it.
	Check(ctx context.Context, found func(text string)) error
	// Answers makes sure that the database can be asked.
	Answers(ctx context.Context) error
	Close() error
}

// openDatabase opens the database of the party's folder, and brings its tables up to
// date. One that is embedded is made if it is missing.
func openDatabase(ctx context.Context, dir string, schema store.Schema) (*database, error) {
	if err := finishLeaving(ctx, dir, schema); err != nil {
		return nil, err
	}
	address, err := addressIn(dir)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return openFile(ctx, filepath.Join(dir, databaseFile), schema)
	}
	return openAddress(ctx, address, schema)
}

// openAsIs opens the database of the party's folder, which a server of another release may
// have open: then it is refused, and nothing is changed.
func openAsIs(ctx context.Context, dir string, schema store.Schema) (*database, error) {
	address, err := addressIn(dir)
	if err != nil {
		return nil, err
	}
	if address != "" {
		db, err := postgres.OpenAsIs(ctx, address, schema)
		if err != nil {
			return nil, err
		}
		return &database{Domains: db.Domains, engine: db, shared: true}, nil
	}
	db, err := sqlite.OpenAsIs(ctx, filepath.Join(dir, databaseFile), schema)
	if err != nil {
		return nil, err
	}
	return &database{Domains: db.Domains, engine: db}, nil
}

// openFile opens an embedded database that lies anywhere.
func openFile(ctx context.Context, path string, schema store.Schema) (*database, error) {
	db, err := sqlite.Open(ctx, path, schema)
	if err != nil {
		return nil, err
	}
	return &database{Domains: db.Domains, engine: db}, nil
}

func openAddress(ctx context.Context, address string, schema store.Schema) (*database, error) {
	db, err := postgres.Open(ctx, address, schema)
	if err != nil {
		return nil, err
	}
	return &database{Domains: db.Domains, engine: db, shared: true, caveat: db.Caveat(), listen: db.Listen}, nil
}

// hasDatabase reports whether a party's folder has a database.
func hasDatabase(dir string) bool {
	for _, name := range []string{addressFile, databaseFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// addressIn returns the connection string in a party's folder, "" if its database is
// embedded. The file may hold a password: others must not read it.
func addressIn(dir string) (string, error) { return readAddress(filepath.Join(dir, addressFile)) }

func readAddress(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may hold a password, and others can read it: chmod 600 %s", path, path)
	}
	if address := strings.TrimSpace(string(text)); address != "" {
		return address, nil
	}
	return "", fmt.Errorf("%s is empty: it holds the connection string of a PostgreSQL database", path)
}

// finishLeaving marks the database on PostgreSQL that the party has left, if the move was
// broken off before it did.
func finishLeaving(ctx context.Context, dir string, schema store.Schema) error {
	path := filepath.Join(dir, leavingFile)
	address, err := readAddress(path)
	if err != nil || address == "" {
		return err
	}
	old, err := postgres.Open(ctx, address, schema)
	if err == nil {
		if err = old.Alone(ctx); err == nil {
			err = old.Leave(ctx)
		}
		err = errors.Join(err, old.Close())
	}
	if err != nil && !errors.Is(err, postgres.ErrLeft) {
		return fmt.Errorf("a move from PostgreSQL was broken off, and the database that was left has to be marked before anybody goes on: %w (if it is dropped for good, remove %s)", err, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // another command may have been first
		return err
	}
	return durable.SyncDir(dir)
}

// sameDatabase refuses a configuration that names another database of the party than
// its folder does.
func (c Config) sameDatabase(party, dir string) error {
	named, ok := c.Databases[party]
	if !ok {
		return nil
	}
	if address, err := addressIn(dir); err != nil || address == named {
		return err
	}
	return usageError{fmt.Errorf("the configuration names another database of the %s than the file %s: 'kluis migrate' moves one", party, filepath.Join(dir, addressFile))}
}

// checkDatabases checks what the configuration says of databases.
func (c Config) checkDatabases() error {
	of := map[string]string{}
	for _, party := range slices.Sorted(maps.Keys(c.Databases)) {
		address := c.Databases[party]
		if !slices.Contains(allParties, party) {
			return usageError{fmt.Errorf("--database: no such party: %q; there are %s", party, strings.Join(allParties, ", "))}
		}
		if err := postgres.CheckAddress(address); err != nil {
			return usageError{fmt.Errorf("--database %s: %w", party, err)}
		}
		if other, ok := of[address]; ok {
			return usageError{fmt.Errorf("--database: %s and %s need a database each, and a role each that reaches no other", other, party)}
		}
		of[address] = party
	}
	return nil
}

// freshDatabases makes sure that the databases that the configuration names for new
// parties answer, and hold no installation yet.
func (c Config) freshDatabases(ctx context.Context, parties []string) error {
	for _, party := range parties {
		if c.Databases[party] == "" {
			continue
		}
		if err := fresh(ctx, c.Databases[party], partySchemas[party]); err != nil {
			return fmt.Errorf("the database of the %s: %w", party, err)
		}
	}
	return nil
}

func fresh(ctx context.Context, address string, schema store.Schema) error {
	db, err := openAddress(ctx, address, schema)
	if err != nil {
		return err
	}
	defer db.Close()
	var entries int64
	err = db.Audit().View(ctx, func(tx audit.Tx) (err error) {
		entries, err = tx.AuditSize()
		return err
	})
	if err == nil && entries > 0 {
		err = errors.New("it belongs to an installation already: name an empty one")
	}
	return err
}

// recordDatabase writes into a new party's folder where its database lies.
func (c Config) recordDatabase(party, dir string) error {
	if c.Databases[party] == "" {
		return nil
	}
	return durable.WriteFile(filepath.Join(dir, addressFile), []byte(c.Databases[party]+"\n"), 0o600)
}

// copyDatabase writes what one snapshot of the party's database holds into a new embedded
// one. A server may write to it meanwhile. One whose tables are another release's is
// refused: neither it nor the copy is brought up to date.
func copyDatabase(ctx context.Context, dir, to string, schema store.Schema) error {
	address, err := addressIn(dir)
	if err != nil {
		return err
	}
	if address == "" {
		if err := sqlite.Copy(ctx, filepath.Join(dir, databaseFile), to); err != nil {
			return err
		}
		copied, err := sqlite.OpenAsIs(ctx, to, schema)
		if err != nil {
			return err
		}
		return copied.Close()
	}
	from, err := postgres.OpenAsIs(ctx, address, schema)
	if err != nil {
		return err
	}
	defer from.Close()
	into, err := sqlite.Open(ctx, to, schema)
	if err != nil {
		return err
	}
	tables, err := into.Tables(ctx)
	if err == nil {
		_, err = from.CopyTo(ctx, into.Domains, tables, nil)
	}
	return errors.Join(err, into.Close())
}

// restoredTo returns where a party's database is restored to, "" for an embedded one.
func (c Config) restoredTo(party string) (string, error) {
	dir := filepath.Join(c.Data, party)
	if address, err := addressIn(dir); err != nil || address != "" {
		return address, errors.Join(err, c.sameDatabase(party, dir))
	}
	return c.Databases[party], nil
}

// roomFor makes sure that nothing would be overwritten by the party's database in the
// folder work: on PostgreSQL at most an older state of the same, which a restore that was
// broken off has left.
func (c Config) roomFor(ctx context.Context, party, work string) error {
	address, err := c.restoredTo(party)
	if err != nil {
		return err
	}
	if address == "" {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			name := filepath.Join(c.Data, party, databaseFile+suffix)
			if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is there: move it away first, with its neighbours of that name, or name what to restore with --party", name)
			}
		}
		return nil
	}
	from, err := openFile(ctx, filepath.Join(work, databaseFile), partySchemas[party])
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAddress(ctx, address, partySchemas[party])
	if err != nil {
		return err
	}
	defer to.Close()
	same, err := from.SameLog(ctx, to.Domains)
	if err == nil && !same {
		err = fmt.Errorf("the %s's database on PostgreSQL is not empty: name an empty one in %s, or name what to restore with --party", party, filepath.Join(c.Data, party, addressFile))
	}
	return err
}

// putDatabase puts the party's database in the folder work where it is restored to, if
// that is on PostgreSQL, and reports whether it is.
func (c Config) putDatabase(ctx context.Context, party, work string) (there bool, err error) {
	address, err := c.restoredTo(party)
	if err != nil || address == "" {
		return false, err
	}
	from, err := sqlite.Open(ctx, filepath.Join(work, databaseFile), partySchemas[party])
	if err != nil {
		return true, err
	}
	defer from.Close()
	to, err := postgres.Open(ctx, address, partySchemas[party])
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	tables, err := from.Tables(ctx)
	if err == nil {
		err = to.Alone(ctx)
	}
	if err != nil {
		return true, err
	}
	if _, err := from.CopyTo(ctx, to.Domains, tables, nil); err != nil {
		return true, err
	}
	return true, c.recordDatabase(party, filepath.Join(c.Data, party))
}

// parseDatabases reads PARTY=URL pairs.
func parseDatabases(pairs []string) (map[string]string, error) {
	all := map[string]string{}
	for _, pair := range pairs {
		party, address, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usageError{errors.New("--database takes PARTY=URL, such as vault=postgres://kluis_vault@db.example.com/kluis_vault")}
		}
		all[party] = address
	}
	return all, nil
}
