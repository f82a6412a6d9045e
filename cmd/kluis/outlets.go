package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/otlp"
	"github.com/kluis-io/kluis/internal/webhook"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/event"
	"github.com/kluis-io/kluis/workspace"
)

// What the server tells the outside by itself. Only the configuration file says to
// whom: no API can make the server write or send anywhere. See docs/integration.md.
type (
	// A receiverConfig is how messages get to a receiver.
	receiverConfig struct {
		URL        string `yaml:"url"`        // https
		SecretFile string `yaml:"secretFile"` // holds the key of the signatures
		CA         string `yaml:"ca"`         // PEM file; the system's authorities if left out
	}
	// A webhookConfig is a receiver of vaults' events.
	webhookConfig struct {
		receiverConfig `yaml:",inline"`

		Name   string       `yaml:"name"`   // of its own; what is on the way is kept under it
		Vaults []vault.Name `yaml:"vaults"` // all if left out
		Types  []string     `yaml:"types"`  // or beginnings that end in *; all if left out
	}
	// A contactConfig is a tenant's security contact.
	contactConfig struct {
		receiverConfig `yaml:",inline"`

		Tenant identity.TenantID `yaml:"tenant"`
	}
	// An auditConfig says where copies of the audit logs go.
	auditConfig struct {
		Files  string        `yaml:"files"`  // folder, in which each party has its own
		Keep   int           `yaml:"keep"`   // full files that stay; 0 means all
		Format string        `yaml:"format"` // of the vault's log: azure (if left out) or json
		Syslog *syslogConfig `yaml:"syslog"`
		OTLP   *otlpConfig   `yaml:"otlp"`
		Tiles  *tilesConfig  `yaml:"tiles"`
	}
	// A tilesConfig says where the audit logs are published, with proof.
	tilesConfig struct {
		Place      string        `yaml:"place"`      // folder, s3://BUCKET/PREFIX or azblob://ACCOUNT/CONTAINER/PREFIX
		Credential string        `yaml:"credential"` // file of kluis's credential there; in the environment if left out
		Every      time.Duration `yaml:"every"`      // a minute if left out
	}
	// An otlpConfig is an OpenTelemetry collector.
	otlpConfig struct {
		URL       string `yaml:"url"`       // https://HOST:4318/v1/logs
		TokenFile string `yaml:"tokenFile"` // holds the bearer token; none if left out
		CA        string `yaml:"ca"`        // PEM file; the system's authorities if left out
	}
	// A syslogConfig is a receiver of syslog.
	syslogConfig struct {
		Network string `yaml:"network"` // tls (if left out), tcp or udp
		Address string `yaml:"address"` // host and port
		CA      string `yaml:"ca"`      // PEM file; the system's authorities if left out
	}
)

// outlets returns what is to run beside the server until its context ends, and what
// of it copies audit logs.
func (s *server) outlets(ctx context.Context) (all []func(context.Context), copies []*export.Follower, err error) {
	if len(s.config.Webhooks) > 0 {
		events, err := s.events()
		if err != nil {
			return nil, nil, err
		}
		all = append(all, s.custodian.alone("webhooks", events.Run))
	}
	contacts, err := s.contacts()
	if err != nil {
		return nil, nil, err
	}
	all = append(all, contacts...)
	for _, p := range s.parties() {
		followers, err := s.followers(p)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range followers {
			all = append(all, p.alone(f.Name, f.Run))
		}
		copies = append(copies, followers...)
		if s.config.Audit.Tiles != nil {
			all = append(all, p.alone(p.name+" tiles", func(ctx context.Context) { s.config.publish(ctx, p, s.identity.Instance) }))
		}
	}
	board, err := s.alerts(copies)
	if err != nil {
		return nil, nil, err
	}
	if board != nil {
		all = append(all, s.governance.alone("alerts", board.Run))
	}
	return all, copies, nil
}

// events returns the service behind the webhooks.
func (s *server) events() (*event.Events, error) {
	if s.vaults == nil {
		return nil, usageError{errors.New("webhooks: the events are the vaults', and need the role vault")}
	}
	c := event.Config{Store: s.custodian.db.Event(), Host: func(n vault.Name) string { return s.host(string(n) + ".vault") }}
	for _, w := range s.config.Webhooks {
		sender, err := w.sender()
		if err != nil {
			return nil, fmt.Errorf("webhook %s: %w", w.Name, err)
		}
		c.Sinks = append(c.Sinks, event.Sink{Name: w.Name, Sender: sender, Vaults: w.Vaults, Types: w.Types})
	}
	return event.New(c)
}

func (w receiverConfig) sender() (*webhook.Sender, error) {
	secret, err := os.ReadFile(w.SecretFile)
	if err != nil {
		return nil, err
	}
	c := webhook.Config{URL: w.URL, Secret: string(secret), ContentType: event.ContentType}
	if w.CA != "" {
		if c.Roots, err = readPool(w.CA); err != nil {
			return nil, err
		}
	}
	return webhook.New(c)
}

// contacts returns what tells tenants' security contacts.
func (s *server) contacts() (all []func(context.Context), err error) {
	seen := map[identity.TenantID]bool{}
	for _, c := range s.config.SecurityContacts {
		if s.workspaces == nil {
			return nil, usageError{errors.New("securityContacts: they hear of workspaces, and need the role platform")}
		}
		tenant, err := uuid.Parse(string(c.Tenant))
		if err != nil || seen[c.Tenant] {
			return nil, usageError{fmt.Errorf("securityContacts: each names a tenant of its own by its id, and %q is none", c.Tenant)}
		}
		seen[c.Tenant] = true
		sender, err := c.sender()
		if err != nil {
			return nil, fmt.Errorf("security contact of %s: %w", c.Tenant, err)
		}
		name := "security contact of " + tenant.String()
		follower := export.Follower{
			Name: name, Log: s.operator.log, Position: s.operator.position(name, "alerts-"+tenant.String()+".position"),
			Sink: &export.Alerts{Sender: sender, Party: s.operator.name, Now: time.Now, Wants: func(e audit.Entry) bool {
				return workspace.Alerts(e, tenant.String()) || lake.Alerts(e, tenant.String())
			}},
		}
		all = append(all, s.operator.alone(name, follower.Run))
	}
	return all, nil
}

// followers returns what carries a party's log outside.
func (s *server) followers(p *party) (all []*export.Follower, err error) {
	c := s.config.Audit
	format := export.Format(export.JSON) // Azure's shape is made for vaults alone
	if p == s.custodian && c.Format != "json" {
		if format, err = export.FormatNamed("azure", s.auditEvents()); err != nil {
			return nil, err
		}
	}
	if c.Format != "" && c.Format != "azure" && c.Format != "json" {
		return nil, usageError{fmt.Errorf("audit: the format is azure or json, not %q", c.Format)}
	}
	follow := func(name string, sink export.Sink) {
		all = append(all, &export.Follower{Name: p.name + " " + name, Log: p.log, Sink: sink, Position: p.position(p.name+" "+name, "export-"+name+".position")})
	}
	if c.Files != "" {
		follow("files", &export.Files{Dir: filepath.Join(c.Files, p.name), Format: format, Keep: c.Keep})
	}
	if y := c.Syslog; y != nil {
		sink, err := y.sink(format)
		if err != nil {
			return nil, err
		}
		follow("syslog", sink)
	}
	if o := c.OTLP; o != nil {
		logs, err := s.collector(*o, p)
		if err != nil {
			return nil, fmt.Errorf("otlp: %w", err)
		}
		follow("otlp", &export.OTLP{Logs: logs, Format: format})
	}
	return all, nil
}

// sink returns the receiver, for messages in a format.
func (y syslogConfig) sink(format export.Format) (sink *export.Syslog, err error) {
	sink = &export.Syslog{Network: y.Network, Address: y.Address, TLS: &tls.Config{}, Format: format}
	if sink.Network == "" {
		sink.Network = "tls"
	}
	if sink.Hostname, err = os.Hostname(); err != nil {
		return nil, err
	}
	if y.CA != "" {
		if sink.TLS.RootCAs, err = readPool(y.CA); err != nil {
			return nil, fmt.Errorf("syslog: %w", err)
		}
	}
	return sink, nil
}

// collector returns the way to a collector for a party's log.
func (s *server) collector(o otlpConfig, p *party) (*otlp.Client, error) {
	c := otlp.Config{URL: o.URL, Scope: "github.com/kluis-io/kluis/audit", Version: version, Resource: []otlp.Attribute{
		{Key: "service.namespace", Text: "kluis"}, {Key: "service.name", Text: "kluis-" + p.name}, {Key: "service.version", Text: version},
		{Key: "service.instance.id", Text: s.identity.Instance},
	}}
	if o.TokenFile != "" {
		token, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return nil, err
		}
		c.Token = strings.TrimSpace(string(token))
	}
	if o.CA != "" {
		var err error
		if c.Roots, err = readPool(o.CA); err != nil {
			return nil, err
		}
	}
	return otlp.New(c)
}

// auditEvents says how Azure's records name what is served here.
func (s *server) auditEvents() export.Azure {
	return export.Azure{Suffix: s.host("vault"), ARM: s.authority("management"), Status: keyvault.Status}
}
