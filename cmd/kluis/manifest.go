package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/kek"
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

	// KeyVersions are those of customers' keys, each by its kid, that must unwrap for all
	// of the platform to be read.
	KeyVersions []kek.KID        `json:"keyVersions,omitempty"`
	Content     *extentsManifest `json:"content,omitempty"`
}

// An extentsManifest says what of a platform lies beside its backup.
type extentsManifest struct {
	Extents int   `json:"extents"`
	Bytes   int64 `json:"extentBytes"`
	Copied  int64 `json:"copiedBytes"` // of them by this backup: the others were there from earlier ones
}

type fileManifest struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// backedUp are the parties that a backup may hold, in the order in which they are copied:
// the vault's copy has what the platform's needs of it.
var backedUp = []string{platformDir, vaultDir, governanceDir, loginDir}

// partyFiles are what a backup has of a party beside its database.
func partyFiles(party string) []string {
	files := []string{checkpointFile, auditKeyFile, auditKeyFile + audit.VerifierSuffix}
	if party == platformDir {
		return append(files, rootFile, credentialFile)
	}
	if rooted(party) {
		return append(files, rootFile)
	}
	return append(files, evidenceKeyFile, evidenceKeyFile+audit.VerifierSuffix)
}

// backupName reports whether a backup may hold a file of a name.
func backupName(name string) bool {
	names := []string{instanceFile, tlsDir + "/" + localca.CertificateFile, tlsDir + "/" + localca.KeyFile, platformDir + "/" + extentsList}
	for _, party := range backedUp {
		for _, file := range append(partyFiles(party), databaseFile) {
			names = append(names, party+"/"+file)
		}
	}
	tenant, isCredential := strings.CutPrefix(name, platformDir+"/"+credentialsDir+"/")
	tenant, isJSON := strings.CutSuffix(tenant, ".json")
	_, err := identity.ParseTenantID(tenant)
	return slices.Contains(names, name) || isCredential && isJSON && err == nil
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
