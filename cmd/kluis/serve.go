package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/arm"
	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/harden"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/hsm"
	"github.com/kluis-io/kluis/vault/softkey"
	"github.com/kluis-io/kluis/workspace"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the vault and the platform",
		Long: `Run the vault and the platform on one HTTPS listener.

With --dev nothing else is needed: the first start makes the data directory, a
local certificate authority, one principal for each role and a vault named
"default", and writes DIR/bootstrap.json, which tells clients all that they need.
Without --dev the data directory is one that 'kluis init' has made.

SIGTERM stops it: it says at /readyz that it is stopping, serves on for as long as
--drain says, and then ends what is under way.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			level, _ := c.level()
			slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
			if os.Getenv("GOGC") == "" {
				// The heap is small, a few tens of megabytes, and so collected often: that a
				// data plane's requests wait for less is worth as much memory again.
				debug.SetGCPercent(200)
			}
			if err := harden.Memory(); err != nil {
				slog.Info("keys in memory may be swapped out", "because", err)
			}
			s, err := start(cmd.Context(), c)
			if err != nil {
				return err
			}
			if err := c.confine(); err != nil {
				return errors.Join(err, s.stop())
			}
			slog.Info("serving", "address", s.authority("localhost"), "data", c.Data, "roles", c.Roles, "dev", c.Dev, "version", version)
			if s.separated() != "" {
				slog.Warn("the parties are not separated", "because", s.separated())
			}
			for _, p := range s.parties() {
				if p.db.caveat != "" {
					slog.Warn("the database may lose what it has acknowledged", "party", p.name, "because", p.db.caveat)
				}
			}
			var failure error
			select {
			case <-cmd.Context().Done():
				slog.Info("stopping", "after", c.Drain)
				failure = s.drain(c.Drain)
			case failure = <-s.failure:
				slog.Info("stopping")
			}
			return errors.Join(failure, s.stop())
		},
	}
	addFlags(cmd.Flags())
	return cmd
}

// A server is a running process: the parties that it serves, and their workers.
type server struct {
	config   Config
	identity instance
	port     string
	ca       *localca.Authority

	authorities *x509.CertPool // that the platform's own clients trust
	lock        *os.File

	login, custodian, operator, governance *party // nil if not served

	hsm        *cryptoki.Client // nil if there is none
	directory  *identity.Directory
	issuer     *identity.Issuer
	vaults     *vault.Vaults
	workspaces *workspace.Workspaces
	accounts   *account.Accounts
	ring       *encryption.Keyring
	scopes     *encryption.Scopes
	objects    lake.Objects // nil in commands that look at no content
	lake       *lake.Lake
	records    *governance.Records
	portal     *portal.Portal // nil if none is served

	metrics *metrics // nil if nobody reads them
	managed managedIdentity
	http    []*http.Server
	workers sync.WaitGroup
	halt    context.CancelFunc
	failure chan error // why the process must not go on
	ready   readiness
}

// start opens what the configuration names, and serves it when it returns.
func start(ctx context.Context, c Config) (_ *server, err error) {
	if c.Metrics != "" {
		c.measured = newMetrics()
	}
	if c.traced, err = c.tracing(); err != nil {
		return nil, err
	}
	s := &server{config: c, metrics: c.measured, failure: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := s.openData(ctx); err != nil {
		return s, err
	}
	if err := s.openObjects(ctx); err != nil {
		return s, err
	}
	listener, err := s.bind()
	if err != nil {
		return s, err
	}
	rt := &router{domain: c.Domain, health: s.ready.handler()}
	if err := s.wire(ctx, rt); err != nil {
		listener.Close()
		return s, err
	}
	if s.metrics != nil {
		rt.wrap(s.metrics.serve)
	}
	s.config.traced.watch(rt)
	if err := s.listen(listener, rt); err != nil {
		return s, err
	}
	outlets, copies, err := s.outlets(ctx)
	if err != nil {
		return s, err
	}
	if err := s.introduce(ctx); err != nil {
		return s, err
	}
	// Nobody else works on the scopes, unless other processes share the database: then
	// what a dead one held is taken when its lease ends.
	if s.scopes != nil && s.config.Replicas <= 1 {
		if err := s.scopes.TakeOver(ctx); err != nil {
			return s, err
		}
	}
	workers, halt := context.WithCancel(c.traced.jobs(context.WithoutCancel(ctx)))
	s.halt = halt
	s.work(workers)
	for _, run := range outlets {
		s.workers.Go(func() { run(workers) })
	}
	s.scanWhenDue(workers)
	if err := s.listenEKM(); err != nil {
		return s, err
	}
	if err := s.listenMetrics(workers, copies); err != nil {
		return s, err
	}
	if err := serveProfiles(workers); err != nil {
		return s, err
	}
	for _, p := range s.parties() {
		s.ready.needs(p.name, p.db.Answers)
	}
	s.ready.set(nil)
	return s, nil
}

// parties are those that are open.
func (s *server) parties() []*party {
	return slices.DeleteFunc([]*party{s.login, s.custodian, s.operator, s.governance}, func(p *party) bool { return p == nil })
}

// wire sets up the domains of the roles served, and their protocols.
func (s *server) wire(ctx context.Context, rt *router) error {
	tokens, err := s.wireLogin(ctx, rt)
	if err != nil {
		return err
	}
	if s.config.has(roleVault) {
		s.wireVault(rt, tokens)
	}
	if s.config.has(rolePlatform) {
		if err := s.wirePlatform(rt, tokens); err != nil {
			return err
		}
	}
	if s.governance != nil {
		s.wireGovernance(rt, tokens)
	}
	s.wireAuditLogs(rt, tokens)
	if s.vaults != nil || s.accounts != nil {
		rt.arm = arm.New(s.vaults, tokens, s.armConfig())
	}
	return s.wirePortal(rt)
}

// wireVault sets up the custodian's side.
func (s *server) wireVault(rt *router, tokens api.Tokens) {
	root := s.custodian.root
	keys := softkey.New(root.Instance(), root.Derive("kluis/v1/private-keys"))
	config := vault.Config{
		Store: s.custodian.db.Vault(), Audit: s.custodian.log, Keys: keys, Roles: rbac.VaultRoles, Limits: &s.config.Limits, Duties: s.config.Duties,
		Instance: root.Instance(), Backups: root.Derive("kluis/v1/key-backups"), Domains: root.Derive("kluis/v1/security-domains"),
		Cursors:      root.Derive("kluis/v1/feed-cursors"),
		ActivateHSMs: s.config.ActivateHSMs, Witness: s.custodian.remember,
	}
	if s.config.Clients != nil {
		config.Clients = s.config.Clients.Names
	}
	switch {
	case s.config.HSMSocket != "":
		s.hsm = cryptoki.New(cryptoki.Config{Socket: s.config.HSMSocket})
		config.HSM = hsm.New(root.Instance(), root.Derive("kluis/v1/private-keys"), s.hsm)
	case s.identity.Dev:
		config.HSM = keys // software stands in, and each key says so
	}
	s.vaults = vault.New(config)
	rt.vault = keyvault.New(s.vaults, tokens, keyvault.Config{
		Suffix: s.host("vault"), Authority: s.authority("login"), Default: defaultVault, Region: "local",
		HSMSuffix: s.host("managedhsm"), Audiences: []string{"https://vault.azure.net", "https://managedhsm.azure.net"},
	})
}

// wirePlatform sets up the operator's side. It reaches the vaults, its own
// neighbour included, over HTTPS alone.
func (s *server) wirePlatform(rt *router, tokens *identity.Verifier) error {
	var err error
	if s.authorities, err = s.trusted(); err != nil {
		return err
	}
	certificate, err := s.config.ownCertificate()
	if err != nil {
		return err
	}
	policy := kek.Policy{Suffixes: append(kek.AzureSuffixes(), s.config.Vaults...)}
	policy.Suffixes = append(policy.Suffixes, "."+s.host("vault"), "."+s.host("managedhsm"))
	s.ring = encryption.NewKeyring(encryption.Config{
		Store: s.operator.db.Encryption(), Root: s.operator.root, Recorder: s.operator.log, Policy: policy, Witness: s.operator.witness,
		Lease: s.config.Lease, Bound: s.config.Bound, Budget: s.config.VaultBudget, Replicas: s.config.Replicas, Affinity: s.config.Affinity, Shared: s.operator.db.shared,
		Watch: s.metrics.question(),
		Vault: kek.NewClient(kek.Config{
			Policy: policy, Credential: s.platformCredential, Roots: s.authorities, AllowPrivate: s.private, Certificate: certificate,
		}),
	})
	s.workspaces = workspace.New(s.workspaceConfig())
	s.lake = lake.New(lake.Config{
		Store: s.operator.db.Lake(), Objects: s.objects, Keys: s.ring, Catalog: catalog{s.workspaces, func() *account.Accounts { return s.accounts }}, Recorder: s.operator.log,
		Delegation: s.operator.root.Derive("kluis/v1/user-delegation"), Shared: s.config.Replicas > 1,
	})
	s.ring.OnDrop(s.lake.Forget)
	s.scopes = encryption.NewScopes(s.ring, rbac.PlatformRoles, s.supported, s.workspaces, s.lake)
	s.scopes.Guard(s.workspaces)
	storage := storagewire.Config{
		Account: storageAccount, Audiences: s.storageAudiences(),
		AuthorizationURI: s.authority("login") + "/" + string(s.identity.Tenant) + "/oauth2/authorize",
		Delegations:      s.lake, Issuances: tokens, Policies: s.lake,
	}
	rt.blob = blob.New(s.lake, tokens, storage)
	paths := dfs.New(s.lake, tokens, storage)
	rt.dfs = storagewire.DispatchDFS(rt.blob, paths)
	rt.storage = storagewire.Dispatch(rt.blob, paths)
	s.wireAccounts(rt, tokens, storage)
	rt.fabric = fabric.New(s.workspaces, s.scopes, tokens, s.fabricConfig())
	return nil
}
