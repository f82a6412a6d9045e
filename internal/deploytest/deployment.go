// Package deploytest stands up kluis for tests as it can be deployed, so that the same
// tests run against each: one process; the vault, the platform and governance apart, each
// an installation of its own with its process, databases, root, domain and certificate
// authority; and three replicas of each of those behind balancers, on PostgreSQL.
//
// KLUIS_TEST_DEPLOYMENT names the one that is tested: one (which is the default), apart or
// replicas. What a deployment leaves in its folder is what one server would: bootstrap.json,
// which tells clients all that they need, and links to the parties' folders. Commands that
// open a data directory are run on its installations: see [Sites].
package deploytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kluis-io/kluis/internal/porttest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/objstore/servertest"
)

// Variable names the deployment that is tested.
const Variable = "KLUIS_TEST_DEPLOYMENT"

// The deployments.
const (
	One      = "one"
	Apart    = "apart"
	Replicas = "replicas"

	inside = "inside" // what a deployment's own processes are told
)

// Chosen returns the deployment that is tested.
func Chosen() (string, error) {
	switch chosen := os.Getenv(Variable); chosen {
	case "", One, inside:
		return One, nil
	case Apart, Replicas:
		return chosen, nil
	default:
		return "", fmt.Errorf("%s=%s is no deployment: one, apart or replicas", Variable, chosen)
	}
}

// InsideEnv tells commands that they are run on a deployment's installation, as it is.
const InsideEnv = Variable + "=" + inside

// Inside reports whether this process is one of a deployment's, or run on one.
func Inside() bool { return os.Getenv(Variable) == inside }

// A Plan says what is to be stood up.
type Plan struct {
	Binary   string // kluis
	Data     string // the folder that everything lies in
	Config   string // a configuration file for one process, whose keys go to those they concern; "" for none
	Replicas int    // of each process
	Log      io.Writer
}

// A Deployment is one that runs.
type Deployment struct {
	plan  Plan
	sites []*site

	clients, client string // files: the authority of the vault's clients, and the platform's certificate

	mu        sync.Mutex
	balancers []*Balancer
}

// A site is one installation: a party with a login of its own.
type site struct {
	party  string // what is served: vault, platform or governance
	domain string
	port   string // that clients use

	data   []string // folders, one for each replica
	config string   // its configuration file
	env    []string
	serves []*process
}

// parties are what is apart, the one with the people first.
var parties = []string{"vault", "platform", "governance"}

// Start stands it up, and returns when all of it serves.
func Start(p Plan) (_ *Deployment, err error) {
	p.Log = &lines{to: p.Log}
	if p.Data, err = filepath.Abs(p.Data); err != nil {
		return nil, err
	}
	d := &Deployment{plan: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop())
		}
	}()
	for _, party := range parties {
		if err := d.addSite(party); err != nil {
			return d, err
		}
	}
	if err := d.configure(); err != nil {
		return d, err
	}
	if err := d.each(d.found); err != nil {
		return d, err
	}
	if err := d.introduce(); err != nil {
		return d, err
	}
	if err := d.each(d.serve); err != nil {
		return d, err
	}
	return d, d.describe()
}

// addSite plans an installation.
func (d *Deployment) addSite(party string) (err error) {
	s := &site{party: party, domain: party + "-side.localhost", config: filepath.Join(d.plan.Data, party+".yaml")}
	if s.port, err = porttest.Free(); err != nil {
		return err
	}
	for i := range max(1, d.plan.Replicas) {
		s.data = append(s.data, filepath.Join(d.plan.Data, "sites", fmt.Sprintf("%s-%d", party, i)))
	}
	if err := os.MkdirAll(filepath.Dir(s.data[0]), 0o700); err != nil {
		return err
	}
	if d.plan.Replicas > 1 {
		witness := filepath.Join(d.plan.Data, "witness")
		if err := os.MkdirAll(witness, 0o700); err != nil {
			return err
		}
		s.env = append(s.env, "KLUIS_WITNESS="+witness)
	}
	if party == "platform" {
		objects, err := servertest.Variables(s.data[0])
		if err != nil {
			return err
		}
		s.env = append(s.env, objects...)
	}
	d.sites = append(d.sites, s)
	return nil
}

func (d *Deployment) site(party string) *site {
	return d.sites[slices.Index(parties, party)]
}

// origin returns a service's address at a party.
func (d *Deployment) origin(party, service string) string {
	s := d.site(party)
	return "https://" + service + "." + s.domain + ":" + s.port
}

// each does something for all sites at once.
func (d *Deployment) each(do func(*site) error) error {
	errs := make([]error, len(d.sites))
	var all sync.WaitGroup
	for i, s := range d.sites {
		all.Go(func() { errs[i] = do(s) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Stop drains and ends everything.
func (d *Deployment) Stop() error {
	var all sync.WaitGroup
	errs := make(chan error, 16)
	for _, s := range slices.Backward(d.sites) { // the platform needs the vault to the end
		for _, p := range s.serves {
			all.Go(func() { errs <- p.stop() })
		}
		all.Wait()
	}
	for _, b := range d.balancers {
		b.Close()
	}
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// Failed tells of the first process that ends by itself.
func (d *Deployment) Failed() <-chan error {
	failed := make(chan error, 1)
	for _, s := range d.sites {
		for _, p := range s.serves {
			go func() {
				<-p.exited
				select {
				case failed <- p.ended():
				default:
				}
			}()
		}
	}
	return failed
}

// A Site is an installation of a deployment, for commands that open a data directory.
type Site struct {
	Party string   // vault, platform or governance
	Data  string   // its folder: that of its first replica
	Env   []string // what the commands need to know of it
}

const sitesFile = "sites.json"

// Sites returns the installations of the deployment that lies in a folder, none where no
// deployment does.
func Sites(data string) (all []Site, err error) {
	text, err := os.ReadFile(filepath.Join(data, sitesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	return all, err
}

// describe leaves what clients and commands look for; bootstrap.json comes last.
func (d *Deployment) describe() error {
	var all []Site
	for _, s := range d.sites {
		all = append(all, Site{s.party, s.data[0], append(s.env, "KLUIS_CONFIG="+s.config)})
		if err := os.Symlink(filepath.Join(s.data[0], s.party), filepath.Join(d.plan.Data, s.party)); err != nil {
			return err
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.plan.Data, sitesFile), text, 0o600); err != nil {
		return err
	}
	return os.Rename(d.profile(), filepath.Join(d.plan.Data, "bootstrap.json"))
}

// profile is where the clients' file lies until everything serves. Governance keeps a copy.
func (d *Deployment) profile() string { return filepath.Join(d.plan.Data, "clients.json") }

// target is the deployment as clients see it: its people are the vault's.
func (d *Deployment) target(people sdk.Target) sdk.Target {
	t := people
	t.CAFile = filepath.Join(d.plan.Data, "ca.pem")
	t.Endpoints = map[string]string{
		"login": people.Endpoints["login"], "graph": people.Endpoints["graph"], "portal": people.Endpoints["portal"],
		"vault": people.Endpoints["vault"], "arm": people.Endpoints["arm"], "audit": people.Endpoints["audit"],
		"accounts": d.origin("platform", "management"), "platformAudit": d.origin("platform", "audit"),
		"fabric": d.origin("platform", "api.fabric"), "blob": d.origin("platform", "onelake.blob"), "dfs": d.origin("platform", "onelake.dfs"),
		"posture": d.origin("governance", "posture"),
	}
	return t
}
