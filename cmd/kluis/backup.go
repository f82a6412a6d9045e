package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/vault"
)

func backupCommand() *cobra.Command {
	var to, into string
	var parties []string
	var keep time.Duration
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up a data directory, while it is served or not",
		Long: `Back up a data directory, while it is served or not: with --to the directory of
principals, the vault and governance into one new file; with --into the platform too,
into a folder where each backup is a point in time that 'kluis restore --at' finds.

A backup holds each party's database, on whichever engine it is, with its sealed root
and audit key, and the key that signs evidence packs. The platform's extents lie beside
it in the folder, and what an earlier backup has copied is not copied again. The
platform is copied first and the vault after it, which then has every key version that
the platform needs; the manifest names them. With --keep older points go, and the
extents that only they needed: a purged key's data is gone when the last point that
holds it is.

The platform is told of its backups, and says of a key version that one of them takes it
to be restored: it is not safe to disable before. 'kluis backup forget' tells it of
those that are gone otherwise than by --keep.

No private key and no root is in it that opens without what seals the root, or the
recovery shares; --dev's root, which is not sealed, is the exception. The keys that
sign the audit log and the local certificates are in it as they are: keep the file
as you keep the data directory. Use the release that serves the directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			for _, p := range parties {
				if !slices.Contains(backedUp, p) {
					return usageError{fmt.Errorf("--party is platform, vault, governance or login, not %q", p)}
				}
				if p == platformDir && into == "" {
					return usageError{errors.New("--party platform takes --into: the platform's content lies outside its database")}
				}
			}
			if len(parties) == 0 { // a directory may have no governance
				parties = slices.DeleteFunc(slices.Clone(backedUp), func(p string) bool {
					return p == platformDir && into == "" || !hasDatabase(filepath.Join(c.Data, p))
				})
			}
			if into != "" {
				if err := os.MkdirAll(into, 0o700); err != nil {
					return err
				}
				lock, err := lockFolder(into, "writes to")
				if err != nil {
					return err
				}
				defer lock.Close()
				to = newPoint(into, time.Now())
			}
			var known *register
			if slices.Contains(parties, platformDir) {
				if known, err = c.registerOf(into); err != nil {
					return err
				}
			}
			if err := known.begin(cmd.Context(), to); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, known.settle(context.WithoutCancel(cmd.Context()))) }()
			m, err := backUp(cmd.Context(), c, to, parties)
			if err != nil {
				return err
			}
			software, elsewhere := 0, 0
			for _, k := range m.Parties[vaultDir].Keys {
				if k.Platform == vault.Software {
					software++
				} else {
					elsewhere++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "backed up %s: %d key versions, and %d whose private parts lie on a token\n", m.Instance, software, elsewhere)
			if p, ok := m.Parties[platformDir]; ok {
				fmt.Fprintf(cmd.OutOrStdout(), "platform: %d extents of %d bytes, %d of them copied now; it needs %d versions of customers' keys\n", p.Content.Extents, p.Content.Bytes, p.Content.Copied, len(p.KeyVersions))
			}
			if keep == 0 {
				return nil
			}
			removed, err := prune(cmd.Context(), into, keep, time.Now())
			fmt.Fprintf(cmd.OutOrStdout(), "%d older backups were removed\n", removed)
			return err
		},
	}
	hideServerFlags(cmd)
	cmd.AddCommand(backupForget())
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the new `FILE`, which holds no platform")
	f.StringVar(&into, "into", "", "the `FOLDER` of backups")
	f.DurationVar(&keep, "keep", 0, "with --into: remove backups that are older, but the newest (default: none)")
	f.StringSliceVar(&parties, "party", nil, "what to back up: "+strings.Join(backedUp, ", ")+" (default: all)")
	cmd.MarkFlagsOneRequired("to", "into")
	cmd.MarkFlagsMutuallyExclusive("to", "into")
	cmd.MarkFlagsMutuallyExclusive("to", "keep")
	return cmd
}

// hideServerFlags declares the flags of a Config, for a command to which only some of
// them mean something.
func hideServerFlags(cmd *cobra.Command) {
	addFlags(cmd.Flags())
	for _, other := range []string{"dev", "seal", "listen", "roles", "lease", "bound", "public-port", "vaults"} {
		cmd.Flags().MarkHidden(other)
	}
}

// backUp takes no lock: a server may run. What is there is copied to a folder beside
// the new file, described, and packed.
func backUp(ctx context.Context, c Config, to string, parties []string) (m manifest, err error) {
	data := c.Data
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is there already", to)
	}
	i, err := instanceOf(data)
	if err != nil {
		return m, err
	}
	m = manifest{Version: manifestVersion, Made: time.Now().UTC(), Release: version, Instance: i.Instance, Parties: map[string]partyManifest{}}
	work, err := os.MkdirTemp(filepath.Dir(to), ".backup-*")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(work)
	names := []string{instanceFile, filepath.Join(tlsDir, localca.CertificateFile), filepath.Join(tlsDir, localca.KeyFile)}
	for _, name := range names {
		if err := copyFile(data, work, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
	}
	for _, party := range parties {
		// The checkpoint first: the database that is copied then holds all that it covers.
		files := partyFiles(party)
		if party == platformDir {
			tenants, _ := filepath.Glob(filepath.Join(data, platformDir, credentialsDir, "*.json"))
			for _, t := range tenants {
				files = append(files, filepath.Join(credentialsDir, filepath.Base(t)))
			}
		}
		for _, file := range files {
			name := filepath.Join(party, file)
			err := copyFile(data, work, name)
			if errors.Is(err, fs.ErrNotExist) && (strings.HasPrefix(file, evidenceKeyFile) || file == credentialFile) {
				continue // no pack was made, or no directory connected yet
			}
			if err != nil {
				return m, err
			}
			names = append(names, name)
		}
		var extents *extentsManifest
		name := filepath.Join(party, databaseFile)
		if party == platformDir {
			copied, err := copyPlatform(ctx, c, filepath.Join(work, party), filepath.Join(filepath.Dir(to), extentsDir))
			if err != nil {
				return m, err
			}
			extents = &copied
			names = append(names, filepath.Join(party, extentsList))
		} else if err := copyDatabase(ctx, filepath.Join(data, party), filepath.Join(work, name), partySchemas[party]); err != nil {
			return m, err
		}
		names = append(names, name)
		described, err := describe(ctx, filepath.Join(work, party), party)
		if err != nil {
			return m, err
		}
		described.Content = extents
		m.Parties[party] = described
	}
	for _, name := range names {
		sum, size, err := digest(filepath.Join(work, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return m, err
		}
		m.Files = append(m.Files, fileManifest{filepath.ToSlash(name), size, sum})
	}
	packed := filepath.Join(work, "packed")
	if err := pack(packed, work, m); err != nil {
		return m, err
	}
	if err := os.Link(packed, to); err != nil { // fails if there is one meanwhile
		return m, err
	}
	return m, durable.SyncDir(filepath.Dir(to))
}

// describe says what a party's copied folder holds.
func describe(ctx context.Context, dir, party string) (m partyManifest, err error) {
	if rooted(party) {
		if m.Seal, m.RootID, err = root.Sealed(filepath.Join(dir, rootFile)); err != nil {
			return m, err
		}
	}
	db, err := openFile(ctx, filepath.Join(dir, databaseFile), partySchemas[party])
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if m.Schema, err = db.Versions(ctx, partySchemas[party]); err != nil {
		return m, err
	}
	err = db.Audit().View(ctx, func(tx audit.Tx) (err error) {
		m.Audit, err = tx.AuditSize()
		return err
	})
	if err == nil && party == vaultDir {
		m.Keys, err = vault.Inventory(ctx, db.Vault())
	}
	if err == nil && party == platformDir {
		m.KeyVersions, err = encryption.KeyVersions(ctx, db.Encryption())
	}
	return m, err
}

// copyFile copies a file of one folder to another, as private as can be.
func copyFile(from, to, name string) error {
	text, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	defer clear(text)
	if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, name), text, 0o600)
}

func digest(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

// pack writes the archive to path, on the disk when it returns.
func pack(path, dir string, m manifest) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: manifestFile, Mode: 0o600, Size: int64(len(text)), ModTime: m.Made}); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := w.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o600, Size: f.Size, ModTime: m.Made}); err != nil {
			return err
		}
		if err := packFile(w, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Sync()
}

func packFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
