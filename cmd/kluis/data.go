package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/api/arm"
	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/root"
)

// What the data directory holds beside the parties' folders.
const (
	instanceFile   = "instance.json"
	bootstrapFile  = "bootstrap.json"
	credentialFile = "credential.json" // in the platform's folder: its principal in the tenant's directory
	lockFile       = "lock"
	tlsDir         = "tls"
	extentsDir     = "extents" // in the platform's folder
	objectsFile    = "objects" // in the platform's folder: where extents lie, if not in extentsDir
)

// defaultVault is the vault that dev mode makes, reachable on the bare host.
const defaultVault = "default"

// An instance is what an installation is called, and whose it is.
type instance struct {
	Instance     string            `json:"instance"` // id of the installation, bound into everything sealed
	Tenant       identity.TenantID `json:"tenantId"`
	Subscription string            `json:"subscriptionId"`
	Dev          bool              `json:"dev"`

	// Tenants are further ones of the installation, by 'kluis tenant create'.
	Tenants []identity.TenantID `json:"tenants,omitempty"`

	// Adopted are tenants whose directories are elsewhere, by 'kluis tenant adopt', each
	// with its subscription, in which its storage accounts lie.
	Adopted map[identity.TenantID]string `json:"adopted,omitempty"`

	fresh bool // made by this start
}

// openData locks the data directory, makes it on dev mode's first start, and
// opens the parties in it.
func (s *server) openData(ctx context.Context) error {
	data := s.config.Data
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	var err error
	if s.lock == nil {
		if s.lock, err = lockDir(data); err != nil {
			return err
		}
	}
	if err := s.readInstance(ctx); err != nil {
		return err
	}
	if s.ca, err = localca.Open(filepath.Join(data, tlsDir), s.config.Domain); err != nil {
		return err
	}
	if s.login, err = openParty(ctx, s.config, loginDir, s.halted); err != nil {
		return err
	}
	if s.config.has(roleVault) {
		if s.custodian, err = openParty(ctx, s.config, vaultDir, s.halted); err != nil {
			return err
		}
	}
	if s.config.has(rolePlatform) {
		if s.operator, err = openParty(ctx, s.config, platformDir, s.halted); err != nil {
			return err
		}
	}
	if s.config.has(roleGovernance) {
		if s.governance, err = openGovernance(ctx, s.config, s.identity.Instance, s.halted); err != nil {
			return err
		}
	}
	return nil
}

// halted ends the process: a database is not the one that was opened.
func (s *server) halted(err error) {
	select {
	case s.failure <- err:
	default:
	}
}

// readInstance reads what the directory is, or makes it.
func (s *server) readInstance(ctx context.Context) error {
	data := s.config.Data
	text, err := os.ReadFile(filepath.Join(data, instanceFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.config.Dev:
		s.identity = newInstance()
		s.identity.Dev, s.identity.fresh = true, true
		_, err := s.create(ctx, root.DevUnsealed(), roleVault, rolePlatform)
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not a data directory: give one with --data, make one with 'kluis init', or use 'kluis serve --dev' to try kluis out", data)
	case err != nil:
		return err
	}
	if err := json.Unmarshal(text, &s.identity); err != nil {
		return fmt.Errorf("%s: %w", instanceFile, err)
	}
	if s.identity.Dev != s.config.Dev {
		return usageError{fmt.Errorf("%s was made with dev=%t: its roots are sealed accordingly, and it can only be served so", data, s.identity.Dev)}
	}
	if _, err := os.Stat(filepath.Join(data, bootstrapFile)); s.identity.Dev && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the first start in %s did not finish, and nothing is in it yet: remove the directory and start again", data)
	}
	return nil
}

func newInstance() instance {
	return instance{Instance: uuid.NewString(), Tenant: identity.TenantID(uuid.NewString()), Subscription: uuid.NewString()}
}

// create makes a data directory with a party for each role, beside the directory
// of principals, and returns their roots' recovery shares.
func (s *server) create(ctx context.Context, seal root.Seal, roles ...string) (map[string]root.Shares, error) {
	data := s.config.Data
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			return nil, fmt.Errorf("%s holds %s: a new data directory must be empty", data, e.Name())
		}
	}
	parties := []string{loginDir}
	if slices.Contains(roles, roleVault) {
		parties = append(parties, vaultDir)
	}
	if slices.Contains(roles, rolePlatform) {
		parties = append(parties, platformDir)
	}
	if err := s.config.freshDatabases(ctx, append(parties, governanceDir)); err != nil {
		return nil, err
	}
	shares := map[string]root.Shares{}
	for _, name := range parties {
		if shares[name], err = createParty(s.config, name, s.identity.Instance, seal); err != nil {
			return nil, err
		}
	}
	return shares, writeJSON(filepath.Join(data, instanceFile), s.identity)
}

// lockDir makes sure that no other process serves the directory.
func lockDir(data string) (*os.File, error) { return lockFolder(data, "serves") }

// lockFolder makes sure that no other process does what it does with the folder.
func lockFolder(dir, does string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another process %s %s", does, dir)
	}
	return f, nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// host returns a service's host below the domain, with the port unless it is 443.
func (s *server) host(service string) string {
	h := service + "." + s.config.Domain
	if service == "localhost" || service == "" {
		h = s.config.Domain
	}
	if s.port == "443" {
		return h
	}
	return net.JoinHostPort(h, s.port)
}

// authority returns a service's https origin.
func (s *server) authority(service string) string { return "https://" + s.host(service) }

// trusted returns the authorities that the platform's own clients trust: the local
// one and the configured ones, beside the system's.
func (s *server) trusted() (*x509.CertPool, error) {
	pool, err := s.config.pool()
	if err != nil {
		return nil, err
	}
	s.ca.AddTo(pool)
	return pool, nil
}

// private reports whether a vault's host, without its port, may lie on a private
// address: it is this installation's own, or one of those that the operator has
// named.
func (s *server) private(host string) bool {
	if host == s.config.Domain || strings.HasSuffix(host, "."+s.config.Domain) {
		return true
	}
	return slices.ContainsFunc(s.config.Vaults, func(suffix string) bool {
		if h, _, err := net.SplitHostPort(suffix); err == nil {
			suffix = h
		}
		return strings.HasSuffix(host, suffix)
	})
}

// audiences are what the embedded issuer makes tokens for.
func (s *server) audiences() []string {
	return append([]string{
		s.authority("vault"), s.authority("managedhsm"), "https://vault.azure.net", "https://managedhsm.azure.net",
		s.authority("graph"), "https://graph.microsoft.com",
		"https://api.fabric.microsoft.com", s.authority("api.fabric"),
		s.authority("management"), "https://management.azure.com", "https://management.core.windows.net", s.authority("posture"), s.authority("audit"),
	}, slices.Concat(s.storageAudiences(), s.accountAudiences("*"), s.config.Audiences)...)
}

// accountAudiences are the addresses of a storage account. Behind a proxy clients know
// them without our port.
func (s *server) accountAudiences(name string) (out []string) {
	for _, service := range []string{name + ".blob", name + ".dfs"} {
		out = append(out, s.authority(service), "https://"+service+"."+s.config.Domain)
	}
	return out
}

func (s *server) storageAudiences() []string {
	return []string{"https://storage.azure.com", s.authority("onelake.blob"), s.authority("onelake.dfs")}
}

func (s *server) armConfig() arm.Config {
	return arm.Config{
		VaultSuffix: s.host("vault"), HSMSuffix: s.host("managedhsm"), StorageSuffix: s.host(""), Accounts: s.accounts,
		Audiences: []string{s.authority("management"), "https://management.azure.com", "https://management.core.windows.net"},
		Endpoints: arm.Endpoints{
			ResourceManager: s.authority("management"), Login: s.authority("login"), ADFS: s.authority("login") + "/adfs",
			Graph: s.authority("graph"),
		},
	}
}

func (s *server) fabricConfig() fabric.Config {
	return fabric.Config{
		Audiences: []string{s.authority("api.fabric")},
		Scrub:     s.lake,
		Accounts:  s.accounts, Containers: s.lake,
		BlobEndpoint: s.authority("onelake.blob"), DFSEndpoint: s.authority("onelake.dfs"),
		Rate: s.config.Platform.Rate, Burst: s.config.Platform.Burst,
	}
}
