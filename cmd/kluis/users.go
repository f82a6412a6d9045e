package main

import (
	"context"
	"crypto/rand"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/portal"
)

// portalClient is the web portal's client id at the embedded issuer.
const portalClient = "portal"

// azCLI is the client id of the Azure CLI, by which it lets people sign in in a browser.
const azCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// clients are the applications to which people may sign in here.
func (s *server) clients() []identity.Client {
	at := s.authority("portal")
	return []identity.Client{
		{ID: portalClient, Name: "the kluis portal", Redirects: []string{at + portal.SessionPath + "callback"}, SignedOut: []string{at + "/"}},
		{ID: azCLI, Name: "the Azure CLI", Loopback: true},
	}
}

// firstUsers makes a user for each role of dev mode, with the same rights as the
// principal of that name.
func (s *server) firstUsers(ctx context.Context, b *Bootstrap) error {
	admin := b.Principals["admin"]
	by := identity.Caller{Tenant: s.identity.Tenant, Principal: admin.ObjectID, Application: admin.ClientID, Type: identity.ServicePrincipal}
	made, ids := map[string]User{}, map[string]identity.PrincipalID{}
	for _, name := range roleNames {
		password := rand.Text()
		p, err := s.directory.CreateUser(ctx, by, name, name, password)
		if err != nil {
			return err
		}
		made[name], ids[name] = User{Name: p.UserName, Password: password, ObjectID: p.ID}, p.ID
	}
	if err := s.directory.Grant(ctx, by, ids["admin"], identity.DirectoryAdministrator); err != nil {
		return err
	}
	if err := s.firstRoles(ctx, ids, identity.User); err != nil {
		return err
	}
	b.Users = made
	return nil
}
