package identity

import (
	"net/url"
	"slices"

	"github.com/kluis-io/kluis/fault"
)

// A Client is an application that people sign in to with the embedded issuer. Clients
// are public (RFC 6749 §2.1): what proves that a code is theirs is its verifier.
type Client struct {
	ID   string // client_id
	Name string // for people
	// Redirects are the addresses to which people may be sent back, and SignedOut those
	// after signing out. They are compared byte for byte (RFC 9700 §2.1).
	Redirects, SignedOut []string
	// Loopback admits any port of http://localhost and http://127.0.0.1, for a program
	// on the person's own machine (RFC 8252 §7.3).
	Loopback bool
}

func (c Client) returnsTo(address string) bool {
	if slices.Contains(c.Redirects, address) {
		return true
	}
	u, err := url.Parse(address)
	return c.Loopback && err == nil && u.Scheme == "http" && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1") &&
		u.User == nil && u.Opaque == "" && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" && !u.ForceQuery
}

// Registered returns the client of an id, if people may be sent back to the address. If
// it fails nobody is sent anywhere: the address may be an attacker's.
func (i *Issuer) Registered(id, redirect string) (Client, error) {
	for _, c := range i.config.Clients {
		switch {
		case c.ID != id:
		case !c.returnsTo(redirect):
			return Client{}, fault.New(fault.InvalidArgument, "The application's redirect_uri is not one that is registered for it.")
		default:
			return c, nil
		}
	}
	return Client{}, fault.New(fault.InvalidArgument, "The application is not registered with this issuer.")
}

// isClient reports whether a client is registered.
func (i *Issuer) isClient(id string) bool {
	return slices.ContainsFunc(i.config.Clients, func(c Client) bool { return c.ID == id })
}
