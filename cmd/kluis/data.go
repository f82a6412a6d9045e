package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/api"
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
)

// defaultVault is the vault that dev mode makes, reachable on the bare host.
const defaultVault = "default"

// An instance is what an installation is called, and whose it is.
type instance struct {
	Instance     string            `json:"instance"` // id of the installation, bound into everything sealed
	Tenant       identity.TenantID `json:"tenantId"`
	Subscription string            `json:"subscriptionId"`
	Dev          bool              `json:"dev"`

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
	if s.lock, err = lockDir(data); err != nil {
		return err
	}
	if err := s.readInstance(); err != nil {
		return err
	}
	if s.ca, err = localca.Open(filepath.Join(data, tlsDir), s.config.Domain); err != nil {
		return err
	}
	unseal := root.DevUnsealed()
	if s.login, err = openParty(ctx, data, loginDir, unseal); err != nil {
		return err
	}
	if s.config.has(roleVault) {
		if s.custodian, err = openParty(ctx, data, vaultDir, unseal); err != nil {
			return err
		}
	}
	if s.config.has(rolePlatform) {
		if s.operator, err = openParty(ctx, data, platformDir, unseal); err != nil {
			return err
		}
	}
	return nil
}

// readInstance reads what the directory is, or makes it.
func (s *server) readInstance() error {
	data := s.config.Data
	text, err := os.ReadFile(filepath.Join(data, instanceFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.config.Dev:
		return s.create()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not a data directory: give one with --data, or use 'kluis serve --dev' to make one and try kluis out", data)
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

// create makes a dev mode data directory: an instance, and a party for each role.
func (s *server) create() error {
	entries, err := os.ReadDir(s.config.Data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != instanceFile {
			return fmt.Errorf("%s holds %s and is not a data directory: give an empty one with --data", s.config.Data, e.Name())
		}
	}
	s.identity = instance{
		Instance: api.NewUUID(), Tenant: identity.TenantID(api.NewUUID()), Subscription: api.NewUUID(), Dev: true, fresh: true,
	}
	if err := writeJSON(filepath.Join(s.config.Data, instanceFile), s.identity); err != nil {
		return err
	}
	for _, name := range []string{loginDir, vaultDir, platformDir} {
		if _, err := createParty(s.config.Data, name, s.identity.Instance, root.DevUnsealed()); err != nil {
			return err
		}
	}
	return nil
}

// lockDir makes sure that no other process serves the directory.
func lockDir(data string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another process serves %s", data)
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

// roots are the authorities that the platform's own clients trust: the local one
// beside the system's.
func (s *server) roots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	s.ca.AddTo(pool)
	return pool
}

// ownHost reports whether a vault's host is this installation's own, which may
// lie on a private address.
func (s *server) ownHost(host string) bool {
	return host == s.config.Domain || strings.HasSuffix(host, "."+s.config.Domain)
}

// A credential is a principal's way to tokens.
type credential struct {
	Tenant   identity.TenantID    `json:"tenantId"`
	ClientID string               `json:"clientId"`
	ObjectID identity.PrincipalID `json:"objectId"`
	Secret   string               `json:"clientSecret"`
}

// platformCredential returns the platform's credential in a tenant's directory.
func (s *server) platformCredential(tenant string) (azcore.TokenCredential, error) {
	text, err := os.ReadFile(s.operator.path(credentialFile))
	if err != nil {
		return nil, fmt.Errorf("the platform's principal: %w", err)
	}
	var c credential
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", credentialFile, err)
	}
	if tenant != string(c.Tenant) {
		return nil, fmt.Errorf("the platform has no principal in directory %s", tenant)
	}
	return azidentity.NewClientSecretCredential(tenant, c.ClientID, c.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: s.authority("login") + "/"},
			Transport: &http.Client{Transport: localca.Transport(s.roots(), s.config.Domain)},
		},
		DisableInstanceDiscovery: true,
	})
}

// audiences are what the embedded issuer makes tokens for.
func (s *server) audiences() []string {
	return append([]string{
		s.authority("vault"), s.authority("managedhsm"), "https://vault.azure.net", "https://managedhsm.azure.net",
		s.authority("graph"), "https://graph.microsoft.com",
		"https://api.fabric.microsoft.com", s.authority("api.fabric"),
		s.authority("management"), "https://management.azure.com", "https://management.core.windows.net",
	}, s.storageAudiences()...)
}

func (s *server) storageAudiences() []string {
	return []string{"https://storage.azure.com", s.authority("onelake.blob"), s.authority("onelake.dfs")}
}

func (s *server) armConfig() arm.Config {
	return arm.Config{
		VaultSuffix: s.host("vault"),
		Audiences:   []string{s.authority("management"), "https://management.azure.com", "https://management.core.windows.net"},
		Endpoints: arm.Endpoints{
			ResourceManager: s.authority("management"), Login: s.authority("login"), ADFS: s.authority("login") + "/adfs",
			Graph: s.authority("graph"),
		},
	}
}

func (s *server) fabricConfig() fabric.Config {
	return fabric.Config{
		Audiences:    []string{s.authority("api.fabric")},
		BlobEndpoint: s.authority("onelake.blob"), DFSEndpoint: s.authority("onelake.dfs"),
	}
}
