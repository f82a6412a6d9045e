package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/failpoint"
)

// Mark is the tag that a version has which a drill has taken away. Its value is from when
// to when, as ISO 8601 has it: "2026-11-23T09:00:00Z/2026-11-23T09:10:00Z".
const Mark = "kluis-drill"

var (
	takenOne = failpoint.New("drill/take/version")
	taken    = failpoint.New("drill/take/all")
	dark     = failpoint.New("drill/run/dark")
	givenOne = failpoint.New("drill/give/version")
)

// A Key is the one that a drill takes away, in anybody's vault or managed HSM.
type Key struct {
	Client *azkeys.Client // of its vault, as whoever may change it
	Name   string
}

// An Away is a version that a drill took away.
type Away struct {
	KID         string    // with the version
	From, Until time.Time // seconds
	tags        map[string]*string
	updated     time.Time
}

// Version is the one that is away.
func (a Away) Version() string { id := azkeys.ID(a.KID); return id.Version() }

// Overdue reports whether the drill should have been over by now: the process that ran
// it is gone, or its vault did not answer it.
func (a Away) Overdue() bool { return time.Now().After(a.Until) }

// AwayFrom reads a version's mark. ok is false if no drill has it away: it is enabled, has
// no mark, or was changed by somebody since.
func AwayFrom(kid string, enabled bool, updated time.Time, mark string) (a Away, ok bool) {
	s, ok := parseSpan(mark)
	off := updated.Sub(s.from).Abs()
	return Away{KID: kid, From: s.from, Until: s.until}, ok && !enabled && off < skew
}

// skew is how far a vault's clock and that of who marks a version may lie apart, and how
// long the call may take.
const skew = 5 * time.Minute

// versions returns all versions of the key.
func (k Key) versions(ctx context.Context) (all []*azkeys.KeyProperties, err error) {
	for p := k.Client.NewListKeyPropertiesVersionsPager(k.Name, nil); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Value {
			if v.KID != nil && v.Attributes != nil && v.Attributes.Enabled != nil {
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// Left returns the versions that a drill took away and that nobody has given back. It is
// how to ask whether the caller may see the key at all.
func (k Key) Left(ctx context.Context) (all []Away, err error) {
	versions, err := k.versions(ctx)
	for _, v := range versions {
		if a, ok := AwayFrom(string(*v.KID), *v.Attributes.Enabled, updated(v.Attributes), value(v.Tags[Mark])); ok {
			a.tags, a.updated = v.Tags, updated(v.Attributes)
			all = append(all, a)
		}
	}
	return all, err
}

// A Taken key is away.
type Taken struct {
	key Key
	all []Away
}

// Versions returns those that were taken.
func (t *Taken) Versions() (all []string) {
	for _, a := range t.all {
		all = append(all, a.Version())
	}
	return all
}

// None is what is wrong with a key of which a drill cannot take anything away.
type None struct{ Key string }

func (e *None) Error() string { return "no version of key " + e.Key + " is enabled" }

// Take disables all versions of the key, and marks each in the same call with until when
// it is to be away. If one cannot be, those before are given back.
func (k Key) Take(ctx context.Context, until time.Time) (*Taken, error) {
	versions, err := k.versions(ctx)
	if err != nil {
		return nil, err
	}
	mark := span{time.Now(), until}.String()
	t := &Taken{key: k}
	for _, v := range versions {
		if !*v.Attributes.Enabled {
			continue
		}
		tags := maps.Clone(v.Tags)
		if tags == nil {
			tags = map[string]*string{}
		}
		tags[Mark] = &mark
		a := Away{KID: string(*v.KID), Until: until, tags: tags}
		var got azkeys.UpdateKeyResponse
		if got, err = k.set(ctx, a.Version(), false, tags); err == nil {
			a.updated = updated(got.Attributes)
			err = takenOne.Hit()
		}
		t.all = append(t.all, a) // also one of which nobody knows whether it is
		if err != nil {
			return nil, errors.Join(err, t.Give(context.WithoutCancel(ctx)))
		}
	}
	if len(t.all) == 0 {
		return nil, &None{k.Name}
	}
	if err := taken.Hit(); err != nil {
		return nil, errors.Join(err, t.Give(context.WithoutCancel(ctx)))
	}
	return t, nil
}

// Changed is what has happened to a key that a drill leaves as it is.
type Changed struct{ Key, Version string }

func (e *Changed) Error() string {
	return fmt.Sprintf("version %s of key %s was changed by somebody else while the drill had it away, and is left as it is", e.Version, e.Key)
}

// Give gives the key back: all the versions that were taken, and of those only what
// nobody else has changed meanwhile. Where one fails the others are given all the same.
func (t *Taken) Give(ctx context.Context) (err error) {
	for _, a := range t.all {
		err = errors.Join(err, t.key.give(ctx, a))
	}
	return err
}

// Restore gives back what a drill has left away, and returns the versions.
func (k Key) Restore(ctx context.Context) (versions []string, err error) {
	left, err := k.Left(ctx)
	for _, a := range left {
		e := k.give(ctx, a)
		if err = errors.Join(err, e); e == nil {
			versions = append(versions, a.Version())
		}
	}
	return versions, err
}

func (k Key) give(ctx context.Context, a Away) error {
	now, err := k.Client.GetKey(ctx, k.Name, a.Version(), nil)
	if err != nil && !forbidden(err) {
		return err
	}
	tags := a.tags
	if err == nil { // who may change a key and not read it trusts his own memory
		_, marked := parseSpan(value(now.Tags[Mark]))
		on := now.Attributes != nil && now.Attributes.Enabled != nil && *now.Attributes.Enabled
		switch {
		case on && !marked:
			return nil // the vault has given it back, or it was never taken
		case !marked, !a.updated.IsZero() && !updated(now.Attributes).Equal(a.updated):
			return &Changed{k.Name, a.Version()}
		}
		tags = now.Tags
	}
	tags = maps.Clone(tags)
	delete(tags, Mark)
	if _, err := k.set(ctx, a.Version(), true, tags); err != nil {
		return err
	}
	return givenOne.Hit()
}

func forbidden(err error) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == http.StatusForbidden
}

// set makes the one call that changes a version: its state and its tags together.
func (k Key) set(ctx context.Context, version string, on bool, tags map[string]*string) (azkeys.UpdateKeyResponse, error) {
	return k.Client.UpdateKey(ctx, k.Name, version, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}, Tags: tags}, nil)
}

func updated(a *azkeys.KeyAttributes) time.Time {
	if a == nil {
		return time.Time{}
	}
	return value(a.Updated)
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// KeyAt returns the name of the key that a URL names, and the address of its vault.
func KeyAt(kid string) (vault, name string) {
	id := azkeys.ID(kid)
	vault, _, _ = strings.Cut(kid, "/keys/")
	return vault, id.Name()
}
