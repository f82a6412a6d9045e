package deploytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/porttest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/store/enginetest"
)

// belongs says which party a key of the configuration file concerns; all others concern
// every party.
var belongs = map[string]string{
	"posture": "governance", "alerts": "governance",
	"webhooks": "vault", "ekm": "vault", "limits": "vault", "duties": "vault", "clients": "vault",
	"platform": "platform", "securityContacts": "platform",
}

// write makes a site's configuration file of what the plan's says and what the site adds.
func (d *Deployment) write(s *site, more map[string]any) error {
	all := map[string]any{}
	if d.plan.Config != "" {
		text, err := os.ReadFile(d.plan.Config)
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(text, &all); err != nil {
			return err
		}
	}
	all["domain"], all["roles"] = s.domain, []string{s.party}
	for key := range all {
		if party, ok := belongs[key]; ok && party != s.party {
			delete(all, key)
		}
	}
	for key, value := range more {
		if own, ok := all[key].(map[string]any); ok {
			for k, v := range value.(map[string]any) {
				own[k] = v
			}
			continue
		}
		all[key] = value
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(s.config, text, 0o600)
}

// configure says what can be said before anything runs.
func (d *Deployment) configure() error {
	if err := d.certify(); err != nil {
		return err
	}
	return d.write(d.site("vault"), map[string]any{
		"audiences": []string{d.origin("governance", "posture"), d.origin("platform", "audit"), d.origin("governance", "audit")},
		"clients": map[string]any{
			"authorities": []string{d.clients},
			"names":       map[string]string{identity.FabricPlatformCMK: d.site("platform").domain},
		},
	})
}

// flags are those of every start of a site.
func (s *site) flags(data, listen string) []string {
	return []string{"serve", "--dev", "--roles", s.party, "--domain", s.domain, "--data", data, "--listen", "127.0.0.1:" + listen, "--public-port", s.port}
}

// found has a site made by its first start. A vault that is to be the only one goes on.
func (d *Deployment) found(s *site) error {
	env := s.env
	if d.plan.Replicas > 1 || os.Getenv("KLUIS_TEST_STORE") == "postgres" {
		var databases []string
		for _, party := range []string{"login", s.party} {
			url, err := enginetest.PostgreSQL(filepath.Join(s.data[0], party))
			if err != nil {
				return err
			}
			databases = append(databases, party+"="+url)
		}
		env = append(slices.Clone(env), "KLUIS_DATABASE="+strings.Join(databases, " "))
	}
	args := s.flags(s.data[0], s.port)
	if s.party == "vault" {
		args = append(args, "--config", s.config)
	}
	first, err := d.plan.launch(env, args...)
	if err != nil {
		return err
	}
	s.serves = []*process{first}
	if err := first.await(); err != nil || s.party == "vault" {
		return err
	}
	s.serves = nil
	return first.stop()
}

// introduce lets the parties know each other as their administrators would: the platform and
// governance trust the vault's directory, whose people get their roles there, and the platform
// gets a credential in it.
func (d *Deployment) introduce() error {
	vault, platform, governance := d.site("vault"), d.site("platform"), d.site("governance")
	people, err := sdk.ReadTarget(vault.data[0])
	if err != nil {
		return err
	}
	if err := d.bundle(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	secret, err := PlatformSecret(ctx, people)
	if err != nil {
		return err
	}
	text, err := json.Marshal(d.target(people))
	if err != nil {
		return err
	}
	reader := filepath.Join(d.plan.Data, "governance.json") // with the secret of whoever scans
	if err := errors.Join(os.WriteFile(d.profile(), text, 0o600), os.WriteFile(reader, text, 0o600)); err != nil {
		return err
	}
	trust := people.CAFile
	issuers := []map[string]string{{"issuer": people.Authority + "/" + people.TenantID + "/v2.0", "tenant": people.TenantID, "ca": trust}}
	err = errors.Join(
		d.write(platform, map[string]any{"issuers": issuers, "trust": []string{trust}, "clientCertificate": d.client, "vaults": []string{
			".vault." + vault.domain + ":" + vault.port, ".managedhsm." + vault.domain + ":" + vault.port,
		}}),
		d.write(governance, map[string]any{"issuers": issuers, "trust": []string{d.target(people).CAFile}, "posture": map[string]any{
			"profile": reader, "tenant": people.TenantID,
		}}),
	)
	if err != nil {
		return err
	}
	return d.each(func(s *site) error {
		switch s.party {
		case "platform":
			return errors.Join(
				d.adopt(s, people, "--subscription", people.SubscriptionID),
				d.plan.run(s.env, secret, "tenant", "connect", "--data", s.data[0], "--tenant", people.TenantID,
					"--authority", people.Authority, "--object-id", people.Platform.ObjectID))
		case "governance":
			return d.adopt(s, people)
		}
		if d.plan.Replicas <= 1 {
			return nil
		}
		first := s.serves[0]
		s.serves = nil
		return first.stop()
	})
}

// roles are those that dev mode's people have at the parties elsewhere, beside the
// administrator's.
var roles = map[string][][2]string{ // party: person and role
	"platform": {
		{"engineer", "Workspace Creator"}, {"engineer", "Emergency Operator"}, {"engineer", "Contributor"}, {"engineer", "Role Based Access Control Administrator"},
		{"auditor", "Auditor"}, {"auditor", "Reader"},
	},
	"governance": {{"auditor", "Governance Reader"}},
}

func (d *Deployment) adopt(s *site, people sdk.Target, more ...string) error {
	args := append([]string{"tenant", "adopt", "--dev", "--roles", s.party, "--domain", s.domain, "--data", s.data[0], "--config", s.config,
		"--tenant", people.TenantID, "--admin", people.Principals["admin"].ObjectID}, more...)
	for _, r := range roles[s.party] {
		args = append(args, "--give", r[1]+"="+people.Principals[r[0]].ObjectID)
		if u, ok := people.Users[r[0]]; ok {
			args = append(args, "--give", r[1]+"="+u.ObjectID)
		}
	}
	return d.plan.run(s.env, "", args...)
}

// bundle puts the certificates of all parties' authorities into one file.
func (d *Deployment) bundle() error {
	var all []byte
	for _, s := range d.sites {
		t, err := sdk.ReadTarget(s.data[0])
		if err != nil {
			return err
		}
		text, err := os.ReadFile(t.CAFile)
		if err != nil {
			return err
		}
		all = append(all, text...)
	}
	return os.WriteFile(filepath.Join(d.plan.Data, "ca.pem"), all, 0o600)
}

// serve starts a site's processes, and waits until all of them serve.
func (d *Deployment) serve(s *site) error {
	if d.plan.Replicas <= 1 {
		if len(s.serves) > 0 {
			return nil
		}
		p, err := d.plan.launch(s.env, append(s.flags(s.data[0], s.port), "--config", s.config)...)
		if err != nil {
			return err
		}
		s.serves = []*process{p}
		return p.await()
	}
	ports, err := s.replicate()
	if err != nil {
		return err
	}
	b, err := Balance(balancing, s.port, ports...)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.balancers = append(d.balancers, b)
	d.mu.Unlock()
	for i, data := range s.data {
		args := append(s.flags(data, ports[i]), "--config", s.config, "--replicas", fmt.Sprint(len(s.data)))
		p, err := d.plan.launch(s.env, args...)
		if err != nil {
			return err
		}
		s.serves = append(s.serves, p)
	}
	for _, p := range s.serves {
		if err := p.await(); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(patience); b.Up() < len(ports); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %d of %d replicas are ready", s.party, b.Up(), len(ports))
		}
	}
	return nil
}

// replicate copies the site's folder for each further replica, and returns their ports.
func (s *site) replicate() (ports []string, err error) {
	for i, data := range s.data {
		if i > 0 {
			if err := Copy(s.data[0], data); err != nil {
				return nil, err
			}
		}
		port, err := porttest.Free()
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// balancing is how long a balancer waits for a server's answer.
const balancing = 10 * time.Second

// Copy copies a data directory that nobody serves, as it is, for a further replica. Extents
// that lie in a folder are shared.
func Copy(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, strings.TrimPrefix(p, from)), info.Mode().Perm())
	})
	if err != nil {
		return err
	}
	of, with := filepath.Join(from, "platform", "extents"), filepath.Join(to, "platform", "extents")
	if _, err := os.Stat(of); err != nil {
		return nil // they lie elsewhere
	}
	return errors.Join(os.RemoveAll(with), os.Symlink(of, with))
}
