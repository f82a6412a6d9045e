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
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/vault"
)

// manifestFile is the first file of a backup, which is a tar archive. The others
// have the names that they have in the data directory.
const (
	manifestFile    = "manifest.json"
	manifestVersion = 1
)

// A manifest says what is in a backup.
type manifest struct {
	Version  int                      `json:"version"`
	Made     time.Time                `json:"made"` // when it was begun
	Release  string                   `json:"release"`
	Instance string                   `json:"instance"`
	Parties  map[string]partyManifest `json:"parties"`
	Files    []fileManifest           `json:"files"`
}

type partyManifest struct {
	RootID string           `json:"rootId,omitempty"` // "" of governance, which has none
	Seal   root.SealType    `json:"seal,omitempty"`   // what opens the root in this backup, beside its recovery shares
	Schema map[string]int64 `json:"schema"`
	Audit  int64            `json:"auditSize"` // entries

	// Keys are the vault's key versions. The private parts of those on another platform
	// than "software" are not in the backup.
	Keys []vault.Holding `json:"keys,omitempty"`
}

type fileManifest struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func backupCommand() *cobra.Command {
	var data, to string
	var parties []string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up all of a data directory but the platform, while it is served or not",
		Long: `Back up all of a data directory but the platform into one new file, while it is
served or not: the databases of the directory of principals, of the vault and of
governance, with their sealed roots, their audit keys, and the key that signs
evidence packs.

No private key and no root is in it that opens without what seals the root, or the
recovery shares; --dev's root, which is not sealed, is the exception. The keys that
sign the audit log and the local certificates are in it as they are: keep the file
as you keep the data directory. Use the release that serves the directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range parties {
				if !slices.Contains(backedUp, p) {
					return usageError{fmt.Errorf("--party is login, vault or governance, not %q: the platform's content lies outside its database", p)}
				}
			}
			if !cmd.Flags().Changed("party") { // a directory may have no governance
				parties = slices.DeleteFunc(parties, func(p string) bool {
					return p == governanceDir && !hasDatabase(filepath.Join(data, p))
				})
			}
			m, err := backUp(cmd.Context(), data, to, parties)
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
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", defaultConfig().Data, "the data `DIR`ectory")
	f.StringVar(&to, "to", "", "the new `FILE`")
	f.StringSliceVar(&parties, "party", slices.Clone(backedUp), "what to back up: login, vault, governance")
	cmd.MarkFlagRequired("to")
	return cmd
}

// backedUp are the parties that a backup may hold.
var backedUp = []string{loginDir, vaultDir, governanceDir}

// partyFiles are what a backup has of a party beside its database.
func partyFiles(party string) []string {
	files := []string{checkpointFile, auditKeyFile, auditKeyFile + audit.VerifierSuffix}
	if rooted(party) {
		return append(files, rootFile)
	}
	return append(files, evidenceKeyFile, evidenceKeyFile+audit.VerifierSuffix)
}

// backUp takes no lock: a server may run. What is there is copied to a folder beside
// the new file, described, and packed.
func backUp(ctx context.Context, data, to string, parties []string) (m manifest, err error) {
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
		for _, file := range partyFiles(party) {
			name := filepath.Join(party, file)
			err := copyFile(data, work, name)
			if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(file, evidenceKeyFile) {
				continue // no pack was made yet
			}
			if err != nil {
				return m, err
			}
			names = append(names, name)
		}
		name := filepath.Join(party, databaseFile)
		if err := copyDatabase(ctx, filepath.Join(data, party), filepath.Join(work, name), partySchemas[party]); err != nil {
			return m, err
		}
		names = append(names, name)
		if m.Parties[party], err = describe(ctx, filepath.Join(work, party), party); err != nil {
			return m, err
		}
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

// backupNames are the files that a backup may hold.
func backupNames() []string {
	names := []string{instanceFile, tlsDir + "/" + localca.CertificateFile, tlsDir + "/" + localca.KeyFile}
	for _, party := range backedUp {
		for _, file := range append(partyFiles(party), databaseFile) {
			names = append(names, party+"/"+file)
		}
	}
	return slices.Clip(names)
}
