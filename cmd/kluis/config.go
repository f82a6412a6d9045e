package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/root"
	"github.com/kluis-io/kluis/vault"
)

// The roles that a process can play.
const (
	roleVault      = "vault"
	rolePlatform   = "platform"
	roleGovernance = "governance"
)

// A Config is what `kluis serve` can be told. Flags, KLUIS_* variables and the
// file mean the same; a flag goes before a variable, and that before the file.
// Every field is right at its default.
type Config struct {
	Data   string   `yaml:"data"`   // the data directory
	Listen string   `yaml:"listen"` // address and port
	Domain string   `yaml:"domain"` // under which the services' hosts lie
	Roles  []string `yaml:"roles"`  // of vault, platform, governance
	Dev    bool     `yaml:"dev"`    // make everything that a first try needs
	Log    string   `yaml:"log"`    // debug, info, warn or error
	TLS    string   `yaml:"tls"`    // the least version that clients may speak: 1.3, or 1.2 for old ones

	// Confine has the server give up, once it has started, all files that it does not need:
	// auto does where the kernel has Landlock, require does not serve without, off does not.
	Confine string `yaml:"confine"`

	// ActivateHSMs makes managed HSMs that work at once, with no security domain taken
	// out: in dev mode alone.
	ActivateHSMs bool `yaml:"activateHSMs"`

	// Seal is what new roots are sealed with: passphrase, pkcs11 or vault. Dev mode
	// seals none. A root that is there opens with what its file says.
	Seal string `yaml:"seal"`
	// PassphraseFile holds the passphrase that seals the roots.
	PassphraseFile string `yaml:"passphraseFile"`
	// SealKey identifies the key of a vault elsewhere that seals the roots, and
	// SealCredential is the file (as the platform's credentials are) of the principal
	// that may use it. The vault holds no scope's key.
	SealKey        string `yaml:"sealKey"`
	SealCredential string `yaml:"sealCredential"`

	PublicPort string        `yaml:"publicPort"` // the port that clients use, if it is not the one listened on
	Lease      time.Duration `yaml:"lease"`      // of a scope's key, before its vault is asked again; 0 means 30 s
	Bound      time.Duration `yaml:"bound"`      // the kill-switch bound: the most that a lease may be; 0 means 60 s

	// VaultBudget is how many operations with RSA-2048 keys (one with RSA-3072 counts 4,
	// with RSA-4096 8) the platform asks one vault for in a second; 0 means 200.
	VaultBudget float64 `yaml:"vaultBudget"`
	// Replicas is how many processes use the platform's database, and share what each
	// vault may be asked; 0 means one.
	Replicas int `yaml:"replicas"`
	// Affinity is how many of the replicas serve one tenant, where the load balancer keeps
	// a tenant together; 0 means all of them.
	Affinity int `yaml:"affinity"`
	// Drain is for how long the process goes on serving, and says at /readyz that it is
	// stopping, before it stops: longer than the load balancer takes to notice.
	Drain time.Duration `yaml:"drain"`

	// Vaults are host suffixes, beyond this installation's own and Azure's, under
	// which customers' keys may lie, at private addresses too: ".vault.example.com".
	Vaults []string `yaml:"vaults"`

	// Trust are files of certificate authorities, beside the system's, from which the
	// certificates of vaults and of their token issuers may come.
	Trust []string `yaml:"trust"`

	// Databases are the parties' databases on PostgreSQL servers, each by its connection
	// string. They are for the parties that are made now: the file database in a party's
	// folder names its one from then on. A party that is not named has an embedded one.
	Databases map[string]string `yaml:"databases"`

	// Clients are services that reach the vault's keys over mutual TLS alone: from the file
	// alone.
	Clients *clientsConfig `yaml:"clients"`

	// ClientCertificate is the PEM file of the certificate, and its key, that the platform
	// shows to vaults that ask for one. It is read for each connection.
	ClientCertificate string `yaml:"clientCertificate"`

	// Objects is where the platform's extents lie, if not in its folder:
	// s3://BUCKET/PREFIX or azblob://ACCOUNT/CONTAINER/PREFIX. ObjectsCredential is the
	// file of kluis's credential there, if it is not in the environment.
	Objects           string `yaml:"objects"`
	ObjectsCredential string `yaml:"objectsCredential"`

	// HSMSocket is where kluis-hsm listens, for keys of the -HSM types and for roots
	// that a token seals.
	HSMSocket string `yaml:"hsmSocket"`

	// Platform is what the control plane offers: from the file alone.
	Platform platformConfig `yaml:"platform"`

	// Issuers are trusted beside the embedded one.
	Issuers []Issuer `yaml:"issuers"`

	// Audiences are services elsewhere, by their https origins, that the embedded issuer
	// makes tokens for too: the governance, audit logs and storage of parties that trust it.
	Audiences []string `yaml:"audiences"`

	Limits vault.Limits `yaml:"limits"` // of key work; a limit of 0 is none
	Duties rbac.Duties  `yaml:"duties"` // that vaults which ask for it keep apart

	// What the server tells the outside, and who calls it on a listener of its own:
	// from the file alone.
	EKM      *ekmConfig      `yaml:"ekm"`
	Webhooks []webhookConfig `yaml:"webhooks"`
	Audit    auditConfig     `yaml:"audit"`

	// Witness is the folder, or the object store (s3://BUCKET/PREFIX or
	// azblob://ACCOUNT/CONTAINER/PREFIX), that remembers how far the databases had come;
	// beside each of them if empty, where whoever puts an old one back reaches it too.
	// WitnessCredential is the file of kluis's credential there, if it is not in the
	// environment.
	Witness           string `yaml:"witness"`
	WitnessCredential string `yaml:"witnessCredential"`

	// Metrics is the loopback address that Prometheus reads; none if empty.
	Metrics string `yaml:"metrics"`

	// SecurityContacts hear at once of changes of their tenants' keys.
	SecurityContacts []contactConfig `yaml:"securityContacts"`

	Alerts *alertsConfig `yaml:"alerts"` // to whom they go; nobody watches if left out

	// Traces is where traces of requests and jobs are posted, by OTLP over HTTPS:
	// https://collector.example.com:4318/v1/traces. If it is empty, OpenTelemetry's own
	// variables say where, and none are made if those do not either.
	Traces string `yaml:"traces"`

	measured *metrics // nil if nobody reads them
	traced   *tracing // nil if nothing is traced

	Posture postureConfig `yaml:"posture"` // when the server scans, and what: from the file alone

	Portal portalConfig `yaml:"portal"` // where the web portal finds parties elsewhere: from the file alone
}

func defaultConfig() Config {
	return Config{
		Data: "kluis-data", Listen: "127.0.0.1:8443", Domain: "localhost", Log: "info", TLS: "1.3", Confine: confineAuto,
		Roles:  []string{roleVault, rolePlatform, roleGovernance},
		Seal:   string(root.PassphraseType),
		Limits: vault.AzureLimits, Duties: rbac.VaultDuties,
	}
}

// tlsVersions are those that clients may be held to.
var tlsVersions = map[string]uint16{"1.3": tls.VersionTLS13, "1.2": tls.VersionTLS12}

// readConfig puts file, variables and flags together.
func readConfig(cmd *cobra.Command) (Config, error) {
	c := defaultConfig()
	f := cmd.Flags()
	file := os.Getenv("KLUIS_CONFIG")
	if f.Changed("config") {
		file, _ = f.GetString("config")
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return c, err
		}
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
			return c, fmt.Errorf("%s: %w", file, err)
		}
	}
	var err error
	for _, o := range c.options() {
		text, given := os.LookupEnv(variable(o.name))
		if f.Changed(o.name) {
			text, given = f.Lookup(o.name).Value.String(), true
			text = strings.Trim(text, "[]") // as a list prints itself
		}
		if given {
			err = errors.Join(err, o.set(text))
		}
	}
	if err != nil {
		return c, err
	}
	if pairs, ok := databasePairs(f); ok {
		if c.Databases, err = parseDatabases(pairs); err != nil {
			return c, err
		}
	}
	return c, c.check()
}

// databasePairs returns what flags or variables say of databases. A URL may name several
// hosts with a comma, so the variable's are separated by spaces.
func databasePairs(f *pflag.FlagSet) ([]string, bool) {
	if f.Changed("database") {
		pairs, err := f.GetStringArray("database")
		return pairs, err == nil
	}
	text, given := os.LookupEnv("KLUIS_DATABASE")
	return strings.Fields(text), given
}

func (c Config) check() error {
	for _, r := range c.Roles {
		if !slices.Contains([]string{roleVault, rolePlatform, roleGovernance}, r) {
			return usageError{fmt.Errorf("no such role: %q; there are vault, platform and governance", r)}
		}
	}
	if !slices.Contains([]root.SealType{root.PassphraseType, root.TokenType, root.RemoteKeyType}, root.SealType(c.Seal)) {
		return usageError{fmt.Errorf("no such seal: %q; there are passphrase, pkcs11 and vault", c.Seal)}
	}
	if _, ok := tlsVersions[c.TLS]; !ok {
		return usageError{fmt.Errorf("--tls is 1.3 or 1.2, not %q", c.TLS)}
	}
	if c.ActivateHSMs && !c.Dev {
		return usageError{errors.New("--activate-hsms goes with --dev: elsewhere a managed HSM is activated by taking out its security domain")}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usageError{fmt.Errorf("--listen takes an address and a port, such as 127.0.0.1:8443: %w", err)}
	}
	if ip := net.ParseIP(host); c.Dev && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usageError{errors.New("--dev listens on a loopback address only: its principals' secrets lie in a file, and its roots are not sealed")}
	}
	if c.Metrics != "" {
		if err := loopback("--metrics", c.Metrics); err != nil {
			return err
		}
	}
	for _, i := range c.Issuers {
		if err := i.check(); err != nil {
			return err
		}
	}
	for _, a := range c.Audiences {
		if !isOrigin(a) {
			return usageError{fmt.Errorf("audiences: %q is no https origin, such as https://posture.example.com", a)}
		}
	}
	if !c.Dev && c.Domain == "" {
		return usageError{errors.New("--domain is empty")}
	}
	if c.Lease > encryption.MaxBound || c.Bound > encryption.MaxBound {
		return usageError{fmt.Errorf("a lease and the kill-switch bound are at most %s", encryption.MaxBound)}
	}
	if _, err := parseObjects(c.Objects); err != nil {
		return usageError{err}
	}
	if err := checkRecords("--witness", c.Witness); err != nil {
		return usageError{err}
	}
	if t := c.Audit.Tiles; t != nil && (t.Place == "" || t.Every < 0) {
		return usageError{errors.New("audit.tiles: place names a folder or an object store, and every is a length of time")}
	} else if t != nil {
		if err := checkRecords("audit.tiles", t.Place); err != nil {
			return usageError{err}
		}
	}
	if err := c.checkDatabases(); err != nil {
		return err
	}
	if err := c.Platform.check(); err != nil {
		return err
	}
	if err := c.Portal.check(); err != nil {
		return err
	}
	if err := c.Posture.check(c.Dev); err != nil {
		return err
	}
	if _, err := c.level(); err != nil {
		return usageError{err}
	}
	if !slices.Contains([]string{confineAuto, confineRequire, confineOff}, c.Confine) {
		return usageError{fmt.Errorf("--confine is auto, require or off, not %q", c.Confine)}
	}
	return nil
}

// isOrigin reports whether an address is https and names a host alone.
func isOrigin(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https" && u.Host != "" && strings.Trim(u.Path, "/") == ""
}

func (c Config) has(role string) bool { return slices.Contains(c.Roles, role) }

func (c Config) level() (l slog.Level, err error) {
	err = l.UnmarshalText([]byte(c.Log))
	return l, err
}
