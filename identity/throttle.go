package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// How many failed sign-ins are borne at once, and how often one more. That of a name from
// one address is small; that of a name from anywhere is large, lest a stranger lock its
// user out; that of an address bounds who tries one password on many names. They are
// counted in the directory's database: for all replicas together.
//
// A browser in which somebody has signed in before is counted for itself alone, as long as
// it tries his name: no stranger can use up what it is allowed, wherever he is (OWASP's
// device cookies).
var (
	pairRate    = allowance{30 * time.Second, 10}
	nameRate    = allowance{10 * time.Second, 100}
	addressRate = allowance{5 * time.Second, 50}
	deviceRate  = allowance{30 * time.Second, 10}
)

// An allowance is burst attempts at once, and one more in each interval.
type allowance struct {
	every time.Duration
	burst int
}

// A Throttle is how far something has used up its allowance: the time at which all of it
// is there again. (It is the theoretical arrival time of the generic cell rate algorithm.)
type Throttle struct {
	Key   [sha256.Size]byte // a MAC over what is counted
	Whole time.Time
}

// counted is one thing that an attempt counts against.
type counted struct {
	key [sha256.Size]byte
	allowance
}

// limits returns what an attempt counts against. Names that exist and names that do not
// are treated alike. The database has MACs of names and addresses, and neither.
func (i *Issuer) limits(tenant TenantID, name, device string, from netip.Addr) []counted {
	name = strings.ToLower(strings.TrimSpace(name))
	count := func(a allowance, parts ...string) counted {
		return counted{i.throttleMAC(parts...), a}
	}
	if i.knows(tenant, name, device) {
		return []counted{count(deviceRate, "device", device)}
	}
	address := from.String()
	if from.Is6() && !from.Is4In6() { // a subscriber has a /64
		p, _ := from.Prefix(64)
		address = p.String()
	}
	return []counted{
		count(pairRate, "pair", string(tenant), name, address),
		count(nameRate, "name", string(tenant), name),
		count(addressRate, "address", address),
	}
}

// throttleMAC is under a key of its own, made of that of the tickets.
func (i *Issuer) throttleMAC(parts ...string) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, i.tickets)
	m.Write([]byte("throttle\x00" + strings.Join(parts, "\x00")))
	m.Sum(sum[:0])
	return sum
}

// An attempt is one try to sign in. It counts from its beginning, lest many at once
// see the same allowance, and no more once it succeeds.
type attempt []counted

// begin counts an attempt, or refuses it with [fault.Throttled]. A refused one makes
// nobody wait longer.
func (i *Issuer) begin(ctx context.Context, tenant TenantID, name, device string, from netip.Addr, now time.Time) (attempt, error) {
	a := attempt(i.limits(tenant, name, device, from))
	return a, i.directory.store.Update(ctx, func(tx Tx) error {
		if err := tx.DeleteThrottles(now); err != nil {
			return err
		}
		for _, c := range a {
			whole, err := tx.Throttle(c.key)
			if err != nil {
				return err
			}
			if whole.Before(now) {
				whole = now
			}
			if whole = whole.Add(c.every); whole.Sub(now) > time.Duration(c.burst)*c.every {
				return fault.New(fault.Throttled, "There were too many failed attempts to sign in.").WithMend("Wait a minute, then try again.")
			}
			if err := tx.PutThrottle(Throttle{c.key, whole}); err != nil {
				return err
			}
		}
		return nil
	})
}

// succeeded takes the attempt out of the count.
func (a attempt) succeeded(tx Tx) error {
	for _, c := range a {
		whole, err := tx.Throttle(c.key)
		if err != nil {
			return err
		}
		if whole.IsZero() { // it is whole again
			continue
		}
		if err := tx.PutThrottle(Throttle{c.key, whole.Add(-c.every)}); err != nil {
			return err
		}
	}
	return nil
}

// Device returns what a browser shows when somebody signs in again who has signed in there
// before. It lets nobody in: a password is asked for all the same.
func (i *Issuer) Device(tenant TenantID, name string) string {
	id := rand.Text()
	return id + "." + i.deviceMAC(tenant, strings.ToLower(strings.TrimSpace(name)), id)
}

func (i *Issuer) deviceMAC(tenant TenantID, name, id string) string {
	sum := i.throttleMAC("known", string(tenant), name, id)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// knows reports whether somebody of that name has signed in at the device.
func (i *Issuer) knows(tenant TenantID, name, device string) bool {
	id, mac, ok := strings.Cut(device, ".")
	return ok && hmac.Equal([]byte(mac), []byte(i.deviceMAC(tenant, name, id)))
}
