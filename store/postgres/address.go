package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CheckAddress checks that a connection string can be used. The error does not quote it:
// it may hold a password.
func CheckAddress(address string) error {
	_, err := parse(address)
	return err
}

// parse reads a connection string, as libpq takes it. What goes over a network is
// encrypted to a server whose certificate names it.
func parse(address string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(address)
	if err != nil { // which may quote the string
		return nil, errors.New("the connection string cannot be read: it is postgres://ROLE@HOST/DATABASE, or 'host=… dbname=… user=…'")
	}
	if c.Database == "" {
		return nil, errors.New("the connection string names no database")
	}
	err = verified(c.Host, c.TLSConfig)
	for _, f := range c.Fallbacks {
		err = errors.Join(err, verified(f.Host, f.TLSConfig))
	}
	if err != nil {
		return nil, errors.New("the connection string demands no verified TLS: add sslmode=verify-full (and sslrootcert=FILE); without is for a server on this machine alone")
	}
	return c, nil
}

// verified fails if a server elsewhere is reached without TLS that verifies it.
func verified(host string, t *tls.Config) error {
	ip, _ := netip.ParseAddr(host)
	if strings.HasPrefix(host, "/") || host == "localhost" || ip.IsLoopback() || t != nil && !t.InsecureSkipVerify {
		return nil
	}
	return fmt.Errorf("%s is not verified", host)
}
