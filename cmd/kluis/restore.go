package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/vault"
)

// beforeDatabase: the files of a party are in place but its database.
var beforeDatabase = failpoint.New("kluis/restore/before-database")

func restoreCommand() *cobra.Command {
	var from, at string
	var parties []string
	var declare bool
	var d declaration
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Restore a backup into a data directory that lost what is in it",
		Long: `Restore a backup into a data directory that lost what is in it, or into a new one.
The server must not run meanwhile.

A party whose folder has the file database, or that --database names, is restored
into that database on PostgreSQL, and every other one into an embedded one.

Nothing that is there is overwritten: a root, an audit key or a certificate that is
still there stays, and a database must be moved away first, or
left out with --party. Everything is checked
before anything is put in place, and the audit logs record the restore. The roots are
sealed as they were when the backup was made: if what sealed them is lost, go on with
'kluis root recover'.

A restored database is older than the witness outside it has seen, and a server
refuses such a one. So a restore is declared: it says who restores and why, which the
audit log keeps, and from then on the witness goes by the restored database. That
takes the roots open. With --declare, and without --from, it is done for databases
that were put back in another way, and where the witness itself is lost.

What was revoked, disabled or purged after the backup is not so any more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			if err := d.check(); err != nil {
				return err
			}
			if declare {
				return declareRestore(cmd.Context(), cmd.OutOrStdout(), c, parties, d)
			}
			moment, err := timeFlag("at", at)
			if err != nil {
				return err
			}
			if from, err = pointAt(from, moment); err != nil {
				return err
			}
			m, err := restore(cmd.Context(), c, from, parties, d)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored %s as of %s\n", m.Instance, when(m.Made))
			for _, party := range backedUp {
				p, ok := m.Parties[party]
				switch {
				case !ok:
				case !rooted(party):
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %d audit entries\n", party, p.Audit)
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %d audit entries, root %s sealed by %s in the backup\n", party, p.Audit, p.RootID, p.Seal)
				}
			}
			told, err := tellWitnesses(cmd.Context(), cmd.OutOrStdout(), c, m)
			if err != nil || !told {
				return err
			}
			return checkRestored(cmd.Context(), cmd.OutOrStdout(), c, m)
		},
	}
	hideServerFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the backup's `FILE`, or the folder of backups")
	cmd.Flags().StringVar(&at, "at", "", "the newest backup in the folder at this `TIME` or before (default: of all)")
	cmd.Flags().BoolVar(&declare, "declare", false, "only declare a restore that was done in another way")
	cmd.Flags().StringSliceVar(&parties, "party", nil, "what to restore of what the backup holds; with --declare, whose database was restored (default: all, or those that are refused)")
	cmd.Flags().StringVar(&d.why, "why", "", "why the older state is to be served: a `TEXT` for the audit log")
	cmd.Flags().StringVar(&d.by, "by", operatingUser(), "`WHO` restores, for the audit log")
	cmd.MarkFlagsOneRequired("from", "declare")
	cmd.MarkFlagsMutuallyExclusive("from", "declare")
	cmd.MarkFlagRequired("why")
	return cmd
}

// checkRestored checks of what was restored what takes no vault.
func checkRestored(ctx context.Context, out io.Writer, c Config, m manifest) error {
	f := fsck{config: c, structureOnly: true, parties: slices.Sorted(maps.Keys(m.Parties))}
	if err := f.run(ctx); err != nil {
		return err
	}
	return f.print(out, "table")
}

// restore restores the named parties of a backup, or all that it holds if none is named.
func restore(ctx context.Context, c Config, from string, parties []string, d declaration) (m manifest, err error) {
	data := c.Data
	in, err := os.Open(from)
	if err != nil {
		return m, err
	}
	defer in.Close()
	if err := os.MkdirAll(data, 0o700); err != nil {
		return m, err
	}
	lock, err := lockDir(data)
	if err != nil {
		return m, err
	}
	defer lock.Close()
	work, err := os.MkdirTemp(data, ".restore-*")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(work)
	if m, err = unpack(in, work); err != nil {
		return m, fmt.Errorf("%s: %w", from, err)
	}
	if len(parties) > 0 {
		if m, err = m.only(parties); err != nil {
			return m, fmt.Errorf("%s: %w", from, err)
		}
	}
	if err := m.fits(ctx, c, work); err != nil {
		return m, err
	}
	for party := range m.Parties {
		if err := recordRestore(ctx, filepath.Join(work, party), party, d); err != nil {
			return m, fmt.Errorf("the %s in the backup: %w", party, err)
		}
	}
	if _, ok := m.Parties[platformDir]; ok {
		if err := c.restoreExtents(ctx, m.Instance, filepath.Join(work, platformDir), filepath.Join(filepath.Dir(from), extentsDir)); err != nil {
			return m, err
		}
	}
	// The databases last, and after them what makes the folder a data directory: a
	// crash leaves one that the same backup can still be restored into, once the
	// databases that it has put there are moved away, as it then says.
	last := func(f fileManifest) int {
		switch filepath.Base(f.Name) {
		case instanceFile:
			return 2
		case databaseFile:
			return 1
		}
		return 0
	}
	files := slices.Clone(m.Files)
	slices.SortStableFunc(files, func(a, b fileManifest) int { return last(a) - last(b) })
	for _, f := range files {
		if last(f) == 1 {
			if err := beforeDatabase.Hit(); err != nil {
				return m, err
			}
			party := path.Dir(f.Name)
			if there, err := c.putDatabase(ctx, party, filepath.Join(work, party)); err != nil {
				return m, fmt.Errorf("the %s: %w", party, err)
			} else if there {
				continue
			}
		}
		if err := place(work, data, filepath.FromSlash(f.Name)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// maxManifest bounds what is read of a manifest, in bytes.
const maxManifest = 64 << 20

// unpack unpacks a backup, which anybody may have written, into a folder, and checks
// that it is what its manifest says.
func unpack(in io.Reader, dir string) (m manifest, err error) {
	r := tar.NewReader(in)
	h, err := r.Next()
	if err != nil || h.Name != manifestFile || h.Size > maxManifest {
		return m, errors.New("not a backup of kluis")
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return m, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if m.Version != manifestVersion {
		return m, fmt.Errorf("a backup of version %d, and this release knows %d", m.Version, manifestVersion)
	}
	for _, f := range m.Files {
		if !backupName(f.Name) {
			return m, fmt.Errorf("%s: names the file %q", manifestFile, f.Name)
		}
		h, err := r.Next()
		if err == io.EOF {
			return m, errors.New("the backup is cut off")
		}
		if err != nil {
			return m, err
		}
		if h.Name != f.Name || h.Typeflag != tar.TypeReg || h.Size != f.Size {
			return m, fmt.Errorf("the backup holds something else than %s where that must be", f.Name)
		}
		if err := unpackFile(r, filepath.Join(dir, filepath.FromSlash(f.Name)), f.SHA256); err != nil {
			return m, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		return m, errors.New("the backup holds more than its manifest says")
	}
	return m, nil
}

func unpackFile(r io.Reader, path, sum string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), r); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != sum {
		return errors.New("the file was changed after the backup was made")
	}
	return out.Sync()
}

// recordRestore verifies an unpacked party's log and records in it that it was
// restored.
func recordRestore(ctx context.Context, dir, party string, d declaration) error {
	signer, verifier, err := audit.LoadSigner(filepath.Join(dir, auditKeyFile))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, databaseFile)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	db, err := openFile(ctx, path, partySchemas[party])
	if err != nil {
		return err
	}
	checkpoint := filepath.Join(dir, checkpointFile)
	outside, err := os.ReadFile(checkpoint)
	if err == nil {
		var report *audit.Report
		if report, err = audit.Verify(ctx, db.Audit(), verifier, outside); err == nil && !report.OK() {
			err = fmt.Errorf("the audit log does not hold: %s", report.Problems[0])
		}
	}
	var log *audit.Log
	if err == nil {
		log, err = audit.Open(ctx, audit.Config{Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: checkpoint, Restored: true, Declared: d.detail()})
	}
	if err == nil {
		err = log.Close()
	}
	if err == nil && party == vaultDir {
		err = vault.ForgetReserved(ctx, db.Vault())
	}
	return errors.Join(err, db.Close())
}

// replacedSuffix is what a checkpoint that a restore replaced is named with: it says
// how far the log had been.
const replacedSuffix = ".before-restore"

// place moves an unpacked file into the data directory unless it is there. The
// checkpoint of the log as it was before the restore is kept beside the new one.
func place(work, data, name string) error {
	from, to := filepath.Join(work, name), filepath.Join(data, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	_, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case filepath.Base(name) == checkpointFile:
		if err := os.Rename(to, to+replacedSuffix); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(filepath.Dir(to)), durable.SyncDir(data))
}
