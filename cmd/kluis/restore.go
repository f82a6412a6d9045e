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
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/vault"
)

// beforeDatabase: the files of a party are in place but its database.
var beforeDatabase = failpoint.New("kluis/restore/before-database")

func restoreCommand() *cobra.Command {
	var from string
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
			return tellWitnesses(cmd.Context(), cmd.OutOrStdout(), c, m)
		},
	}
	addFlags(cmd.Flags())
	for _, other := range []string{"dev", "seal", "listen", "roles", "lease", "bound", "public-port", "vaults"} {
		cmd.Flags().MarkHidden(other)
	}
	cmd.Flags().StringVar(&from, "from", "", "the backup's `FILE`")
	cmd.Flags().BoolVar(&declare, "declare", false, "only declare a restore that was done in another way")
	cmd.Flags().StringSliceVar(&parties, "party", nil, "what to restore of what the backup holds; with --declare, whose database was restored (default: all, or those that are refused)")
	cmd.Flags().StringVar(&d.why, "why", "", "why the older state is to be served: a `TEXT` for the audit log")
	cmd.Flags().StringVar(&d.by, "by", operatingUser(), "`WHO` restores, for the audit log")
	cmd.MarkFlagsOneRequired("from", "declare")
	cmd.MarkFlagsMutuallyExclusive("from", "declare")
	cmd.MarkFlagRequired("why")
	return cmd
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
	// The databases last, and after them what makes the folder a data directory: a
	// crash leaves one that the same backup can still be restored into.
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
		if !slices.Contains(backupNames(), f.Name) {
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

// only returns the manifest as if the backup held nothing but the named parties.
func (m manifest) only(parties []string) (manifest, error) {
	all := m.Parties
	m.Parties = map[string]partyManifest{}
	for _, party := range parties {
		p, ok := all[party]
		if !ok {
			return m, fmt.Errorf("it holds no %s", party)
		}
		m.Parties[party] = p
	}
	m.Files = slices.DeleteFunc(slices.Clone(m.Files), func(f fileManifest) bool {
		party, _, in := strings.Cut(f.Name, "/")
		_, held := all[party]
		_, kept := m.Parties[party]
		return in && held && !kept
	})
	return m, nil
}

// fits checks that the unpacked backup is complete and belongs where it is going.
func (m manifest) fits(ctx context.Context, c Config, work string) error {
	data := c.Data
	packed, err := instanceOf(work)
	if err != nil || packed.Instance != m.Instance {
		return errors.Join(errors.New("the backup does not say which installation it is of"), err)
	}
	if there, err := instanceOf(data); err == nil && there.Instance != m.Instance {
		return fmt.Errorf("%s is installation %s, and the backup is of %s", data, there.Instance, m.Instance)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range m.Files {
		party, _, in := strings.Cut(f.Name, "/")
		if _, ok := m.Parties[party]; in && !ok && party != tlsDir {
			return fmt.Errorf("the backup holds %s and says nothing of that party", f.Name)
		}
	}
	for party, p := range m.Parties {
		if !slices.Contains(backedUp, party) {
			return fmt.Errorf("the backup is of a party %q", party)
		}
		if err := c.roomFor(ctx, party, filepath.Join(work, party)); err != nil {
			return err
		}
		if rooted(party) {
			if err := p.sameRoot(data, work, party); err != nil {
				return err
			}
		}
		key, err := os.ReadFile(filepath.Join(data, party, auditKeyFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		same, err2 := os.ReadFile(filepath.Join(work, party, auditKeyFile))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if !bytes.Equal(key, same) {
			return fmt.Errorf("%s holds another audit key of the %s than the backup", data, party)
		}
	}
	return nil
}

// sameRoot checks that the root in the backup is the manifest's, and the directory's if
// that has one.
func (p partyManifest) sameRoot(data, work, party string) error {
	_, id, err := root.Sealed(filepath.Join(work, party, rootFile))
	if err != nil || id != p.RootID {
		return errors.Join(fmt.Errorf("the %s's root in the backup is not the one that the manifest names", party), err)
	}
	_, id, err = root.Sealed(filepath.Join(data, party, rootFile))
	if err == nil && id != p.RootID {
		return fmt.Errorf("%s holds another root of the %s than the backup", data, party)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
