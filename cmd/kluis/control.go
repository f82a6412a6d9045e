package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/workspace"
)

// A platformConfig is what the operator says of the control plane: from the file
// alone. docs/samples/platform.yaml shows all of it.
type platformConfig struct {
	Capacities []capacityConfig     `yaml:"capacities"` // the first is every workspace's that names none
	Regions    []string             `yaml:"regions"`    // where workspaces can be under customers' keys
	Industry   []workspace.ItemType `yaml:"industry"`   // item types of industry solutions
	Covered    []workspace.ItemType `yaml:"covered"`    // further item types that the operator vouches for
	Rate       float64              `yaml:"rate"`       // requests a second of one principal to the control plane
	Burst      int                  `yaml:"burst"`      // and at once
}

type capacityConfig struct {
	ID     string `yaml:"id"`
	Name   string `yaml:"name"`
	SKU    string `yaml:"sku"`
	Region string `yaml:"region"`
}

func (c platformConfig) check() error {
	for _, k := range c.Capacities {
		if !workspace.IsID(k.ID) || k.ID != strings.ToLower(k.ID) || k.Name == "" || k.SKU == "" || k.Region == "" {
			return usageError{fmt.Errorf("platform.capacities: a capacity needs id (a UUID in lower case), name, sku and region: %+v", k)}
		}
	}
	for _, t := range c.Covered {
		if _, ok := workspace.ParseItemType(string(t)); !ok {
			return usageError{fmt.Errorf("platform.covered: there is no item type %q", t)}
		}
	}
	if c.Rate < 0 || c.Burst < 0 {
		return usageError{errors.New("platform.rate and platform.burst are not below 0")}
	}
	return nil
}

// workspaceConfig is what package workspace needs.
func (s *server) workspaceConfig() workspace.Config {
	p := s.config.Platform
	c := workspace.Config{
		Store: s.operator.db.Workspace(), Keys: s.ring, Audit: s.operator.log, Log: s.operator.log, Roles: rbac.PlatformRoles,
		Regions: p.Regions, Industry: p.Industry, Covered: p.Covered,
	}
	for _, k := range p.Capacities {
		c.Capacities = append(c.Capacities, workspace.Capacity{
			ID: workspace.CapacityID(k.ID), DisplayName: k.Name, SKU: k.SKU, Region: k.Region, State: "Active",
		})
	}
	return c
}

// credentialsDir holds, in the platform's folder, its principals in further tenants'
// directories: a file for each, named by the tenant.
const credentialsDir = "credentials"

// readCredential returns the platform's principal in a tenant's directory. It is
// read anew for each connection, so that `kluis tenant connect` works on a running
// platform.
func (s *server) readCredential(tenant string) (c credential, err error) {
	if _, err := identity.ParseTenantID(tenant); err != nil {
		return c, err
	}
	for _, file := range []string{filepath.Join(credentialsDir, tenant+".json"), credentialFile} {
		text, err := os.ReadFile(s.operator.path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return c, fmt.Errorf("the platform's principal: %w", err)
		}
		if err := json.Unmarshal(text, &c); err != nil {
			return c, fmt.Errorf("%s: %w", file, err)
		}
		if string(c.Tenant) == tenant {
			return c, nil
		}
	}
	return credential{}, notConnected(tenant)
}

// notConnected says how a tenant gives the platform a principal.
func notConnected(tenant string) error {
	return fault.New(fault.KEKTokenRefused, "The platform has no principal in the directory of this tenant, which its keys could be granted to.").
		About(tenant).WithMend("Have an administrator of the tenant create the service principal of application " + identity.FabricPlatformCMK +
		" (POST /v1.0/servicePrincipals with that appId, at Microsoft Graph or at this installation's), give it a client secret, and hand both to the platform's operator for 'kluis tenant connect'.")
}
