package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/internal/harden"
)

// Whether the server gives up the files that it does not need.
const (
	confineAuto    = "auto"    // where the kernel can
	confineRequire = "require" // or it does not serve
	confineOff     = "off"
)

// systemFiles are what every program reads of the system, some of it long after its start:
// certificate authorities, how names are resolved (in files that are replaced while it runs,
// so that their folders are named), time zones, tokens of the workload that are kept fresh,
// and what the Go runtime and metrics say of the process.
var systemFiles = []string{
	"/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/zoneinfo", "/usr/lib/ssl",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/secrets", "/var/run/secrets",
	"/proc", "/sys/fs/cgroup", "/dev/urandom", "/dev/null",
}

// fileVariables name files that libraries read when they need them: Go's own, and those of
// the object stores' and vaults' SDKs.
var fileVariables = []string{
	"SSL_CERT_FILE", "SSL_CERT_DIR", "ZONEINFO",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
	"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH",
}

// confine has the process give up all files but those that it needs from now on, or says that
// it could not. What was read at the start, the passphrase of the roots above all, is not
// among them.
func (c Config) confine() error {
	if c.Confine == confineOff {
		return nil
	}
	read, write, err := c.files()
	if err == nil {
		err = harden.Files(read, write)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = errors.New("the system has no Landlock, or one older than Linux 6.2's")
		if c.Confine == confineAuto {
			slog.Warn("all files of this process's user can be opened by it", "because", err)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	return nil
}

// files returns what a server reads after its start, and the folders that are its own.
func (c Config) files() (read, write []string, err error) {
	read = slices.Concat(systemFiles, c.Posture.Policies, c.Posture.Controls)
	for _, v := range fileVariables {
		read = append(read, os.Getenv(v))
	}
	if home, err := os.UserHomeDir(); err == nil && (c.Objects != "" || isAddress(c.Witness) || c.Audit.Tiles != nil) {
		read = append(read, filepath.Join(home, ".aws"))
	}
	// The principals that the process is elsewhere, whose certificates and tokens are kept
	// fresh by a rename: so their folders.
	principals, err := filepath.Glob(filepath.Join(c.Data, platformDir, credentialsDir, "*.json"))
	if err != nil {
		return nil, nil, err
	}
	principals = append(principals, filepath.Join(c.Data, platformDir, credentialFile), c.SealCredential, c.ObjectsCredential, c.WitnessCredential, c.Posture.Profile)
	if c.Audit.Tiles != nil {
		principals = append(principals, c.Audit.Tiles.Credential)
	}
	for _, name := range principals {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // whoever needs it says so
		}
		read = append(read, name)
		var names struct{ File, CAFile string }
		if json.Unmarshal(text, &names) != nil {
			continue // an object store's has a form of its own
		}
		for _, file := range []string{names.File, names.CAFile} {
			if file != "" {
				read = append(read, filepath.Dir(file))
			}
		}
	}
	write = []string{c.Data, "/dev/null"}
	if c.ClientCertificate != "" {
		read = append(read, filepath.Dir(c.ClientCertificate)) // it is renewed there
	}
	// Replicas may share the folder of extents by a link to it.
	if extents, err := filepath.EvalSymlinks(filepath.Join(c.Data, platformDir, extentsDir)); err == nil {
		write = append(write, extents)
	}
	folders := []string{c.Witness, c.Audit.Files}
	if c.Audit.Tiles != nil {
		folders = append(folders, c.Audit.Tiles.Place)
	}
	for _, folder := range folders {
		if folder == "" || isAddress(folder) {
			continue
		}
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return nil, nil, err
		}
		write = append(write, folder)
	}
	if trace := os.Getenv("KLUIS_FAILPOINTS_TRACE"); failpoint.Enabled && trace != "" {
		write = append(write, filepath.Dir(trace))
	}
	return read, write, nil
}
