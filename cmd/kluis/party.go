package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/turn"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/witness"
)

// The parties' folders in the data directory. Each holds its own database, root
// and audit log, and none of them reads another's.
const (
	loginDir    = "login"    // the directory of principals and its issuer
	vaultDir    = "vault"    // the custodian's
	platformDir = "platform" // the operator's

	governanceDir = "governance" // what scans have found, and people were told; it seals nothing, and has no root
)

// allParties are the parties that a data directory may have.
var allParties = []string{loginDir, vaultDir, platformDir, governanceDir}

var partySchemas = map[string]store.Schema{
	loginDir:    store.DirectorySchema,
	vaultDir:    store.VaultSchema,
	platformDir: store.PlatformSchema,

	governanceDir: store.GovernanceSchema,
}

// rooted reports whether a party has a root.
func rooted(name string) bool { return name != governanceDir }

// The files in a party's folder.
const (
	rootFile       = "root"
	auditKeyFile   = "audit.key"
	checkpointFile = "checkpoint"

	witnessDir = "witness" // unless the configuration names a better place
)

// A party is one side of the installation, open: what it keeps, what seals it,
// and its log.
type party struct {
	name string
	dir  string
	db   *database
	root *root.Root // nil of governance
	log  *audit.Log

	turns   *turn.Turns      // of this process among those that share the database
	witness *witness.Witness // nil if no root is open
}

// createParty makes a party's folder, with a root under the seal, and returns the
// root's recovery shares.
func createParty(c Config, name, instance string, seal root.Seal) (root.Shares, error) {
	dir := filepath.Join(c.Data, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r, shares, err := root.Create(filepath.Join(dir, rootFile), instance, seal)
	if err != nil {
		return nil, err
	}
	r.Close()
	if err := c.recordDatabase(name, dir); err != nil {
		return nil, err
	}
	return shares, createLog(dir, instance, name)
}

func createLog(dir, instance, name string) error {
	_, _, err := audit.CreateSigner(filepath.Join(dir, auditKeyFile), "kluis/"+instance+"/"+name)
	return err
}

// openGovernance opens governance, and makes it if it is not there: nothing in it needs
// a root or recovery shares.
func openGovernance(ctx context.Context, c Config, instance string, failed func(error)) (*party, error) {
	dir := filepath.Join(c.Data, governanceDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, auditKeyFile)); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(c.recordDatabase(governanceDir, dir), createLog(dir, instance, governanceDir)); err != nil {
			return nil, err
		}
	}
	// At once, so that replicas, whose folders are copies, sign evidence with one key.
	if _, err := evidenceSigner(filepath.Join(dir, evidenceKeyFile)); err != nil {
		return nil, err
	}
	return openParty(ctx, c, governanceDir, failed)
}

// openParty opens a party that was created. failed is told if its database turns out
// later not to be the one that was opened.
func openParty(ctx context.Context, c Config, name string, failed func(error)) (*party, error) {
	p, err := openUnlogged(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if err := p.openWitnessed(ctx, c, failed); err != nil {
		p.close()
		return nil, fmt.Errorf("opening the %s: %w", name, err)
	}
	return p, nil
}

// openWitnessed opens the party's log, and fails with [fault.Integrity] if the
// database is older than the witness has seen it.
func (p *party) openWitnessed(ctx context.Context, c Config, failed func(error)) (err error) {
	if p.root == nil { // and no key that a witness could be believed for
		return p.openLog(ctx, audit.Config{Failed: failed})
	}
	records, err := p.records(ctx, c)
	if err != nil {
		return err
	}
	if p.witness, err = witness.Open(ctx, records, p.root, p.name); err != nil {
		return err
	}
	return p.openLog(ctx, audit.Config{Witness: p.witness, Failed: failed})
}

// openUnlogged opens a party without its log, to look at and not to change.
func openUnlogged(ctx context.Context, c Config, name string) (_ *party, err error) {
	p := &party{name: name, dir: filepath.Join(c.Data, name)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the %s: %w", name, err)
			p.close()
		}
	}()
	if rooted(name) {
		if err := p.openRoot(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := c.sameDatabase(name, p.dir); err != nil {
		return nil, err
	}
	if p.db, err = openDatabase(ctx, p.dir, partySchemas[name]); err != nil {
		return nil, err
	}
	for _, watch := range []func(context.Context, store.Cost){c.measured.transaction(name), c.traced.transaction(name, p.db.shared)} {
		if watch != nil {
			p.db.Domains = p.db.Watched(watch)
		}
	}
	p.turns = turn.New(p.db.Turns(), 0)
	if err := c.fitForReplicas(p); err != nil {
		return nil, err
	}
	return p, nil
}

// fitForReplicas refuses what several processes cannot share.
func (c Config) fitForReplicas(p *party) error {
	switch {
	case c.Replicas <= 1:
		return nil
	case !p.db.shared:
		return usageError{errors.New("--replicas: an embedded database is one process's: move it with 'kluis migrate'")}
	case p.root != nil && c.Witness == "":
		return usageError{errors.New("--replicas: name the witness that all of them share with --witness")}
	}
	return nil
}

func (p *party) openRoot(ctx context.Context, c Config) error {
	if _, err := os.Stat(p.path(rootFile)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not a data directory: run 'kluis init', or 'kluis serve --dev' to try kluis out (%w)", c.Data, err)
	}
	unseal, err := c.unseal(ctx, p.path(rootFile))
	if err != nil {
		return err
	}
	p.root, err = root.Open(p.path(rootFile), unseal)
	return err
}

// openLog opens the party's log over its own files, and otherwise as c says.
func (p *party) openLog(ctx context.Context, c audit.Config) (err error) {
	if c.Signer, c.Verifier, err = audit.LoadSigner(p.path(auditKeyFile)); err != nil {
		return err
	}
	c.Store, c.CheckpointPath = p.db.Audit(), p.path(checkpointFile)
	if p.witness != nil && p.db.shared {
		if err := p.joinLog(ctx); err != nil {
			return err
		}
	}
	p.log, err = audit.Open(ctx, c)
	return err
}

// joinLog gives a folder that has seen no checkpoint yet the witness's, if there is one:
// it was copied for a further process on a database that is in use.
func (p *party) joinLog(ctx context.Context) error {
	if _, err := os.Stat(p.path(checkpointFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	note, err := p.witness.Load(ctx)
	if err != nil || note == nil {
		return err
	}
	return durable.WriteFile(p.path(checkpointFile), note, 0o644)
}

// alone returns the work as one process does it of those that share the database, and
// another goes on with if that one ends.
func (p *party) alone(name string, work func(context.Context)) func(context.Context) {
	if !p.db.shared {
		return work
	}
	return func(ctx context.Context) { p.turns.While(ctx, name, work) }
}

// position is how far work of that name has come that goes through the log.
func (p *party) position(name, file string) export.Position {
	if !p.db.shared {
		return export.File(p.path(file))
	}
	return p.turns.Position(name)
}

// remember has the witness know at once what has been committed. What fails is tried
// again within a second, as it is for everything else in the log.
func (p *party) remember(ctx context.Context) {
	if _, err := p.log.Checkpoint(ctx); err != nil {
		slog.ErrorContext(ctx, "the witness does not know yet of what was done", "party", p.name, "error", err)
	}
}

// records is where the party's witness lies: in a folder or an object store of the
// configuration, where each installation and party has its own, or beside the database.
func (p *party) records(ctx context.Context, c Config) (witness.Store, error) {
	if c.Witness == "" {
		return local.RecordsIn(p.path(witnessDir)), nil
	}
	return c.openRecords(ctx, "--witness", c.Witness, c.WitnessCredential, p.root.Instance(), p.name)
}

func (p *party) path(file string) string { return filepath.Join(p.dir, file) }

func (p *party) close() error {
	var errs []error
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	if p.db != nil {
		errs = append(errs, p.db.Close())
	}
	if p.witness != nil {
		p.witness.Close()
	}
	if p.root != nil {
		p.root.Close()
	}
	return errors.Join(errs...)
}
