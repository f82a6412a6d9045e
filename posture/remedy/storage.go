package remedy

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// The first case is the benchmark's own (CIS Azure Foundations 4.0, 2.1.1.2.1): a storage
// account, whose plan takes an identity, a grant and the key, in this order.
const (
	accountVersion    = "2022-09-01"
	vaultVersion      = "2022-07-01"
	assignmentVersion = "2022-04-01"

	// Key Vault Crypto Service Encryption User: get, wrap, unwrap, and no more.
	encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
)

var storage = kind{
	keyed: true, check: (*executor).checkAccount, image: (*executor).image, undisturbed: (*executor).accountUndisturbed, restored: (*executor).accountRestored,
	steps: []stepKind{identityStep, grantStep, {
		name: "key", do: "Put the account under the key, without a version, and wait until all of its data is.",
		look: (*executor).lookKey, act: (*executor).setKey, lookBack: (*executor).lookKeyBack, undo: (*executor).resetKey,
	}},
}

// An encryption is a storage account's, as much of it as the steps concern.
type encryption struct {
	Source string `json:"keySource"`
	Key    *struct {
		Vault   string `json:"keyvaulturi"`
		Name    string `json:"keyname"`
		Version string `json:"keyversion"`
		Current string `json:"currentVersionedKeyIdentifier"`
	} `json:"keyvaultproperties"`
	Identity *struct {
		UserAssigned string `json:"userAssignedIdentity"`
	} `json:"identity"`
	Kluis *struct {
		State string `json:"state"`
	} `json:"kluis"` // of a kluis server alone: how far its data is
}

func encryptionIn(text json.RawMessage) (encryption, error) {
	var a struct {
		ID         string `json:"id"`
		Properties struct {
			Encryption encryption `json:"encryption"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(text, &a); err != nil || a.ID == "" {
		return encryption{}, fault.New(fault.Internal, "The answer is no storage account.")
	}
	return a.Properties.Encryption, nil
}

func (x *executor) encryption(ctx context.Context) (encryption, error) {
	raw, err := x.image(ctx)
	if err != nil {
		return encryption{}, err
	}
	return encryptionIn(raw)
}

// before is the account's encryption before the first change.
func (x *executor) before() encryption {
	e, _ := encryptionIn(x.run.Before)
	return e
}

// key returns the key that the account names, without version; "" for the platform's.
func (e encryption) key() string {
	if !strings.EqualFold(e.Source, "Microsoft.Keyvault") || e.Key == nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(e.Key.Vault, "/") + "/keys/" + e.Key.Name)
}

// settled reports whether the data has followed, as far as that is told.
func (e encryption) settled() bool {
	return e.Kluis == nil || e.Kluis.State == "" || e.Kluis.State == "Active" || e.Kluis.State == "Disabled"
}

func (e encryption) version() string {
	if e.Key == nil || e.key() == "" {
		return ""
	}
	return e.Key.Version
}

// accountRestored reports whether an image agrees with the one before in what the steps
// change.
func (x *executor) accountRestored(now json.RawMessage) bool {
	s, err := x.parse(now)
	e, eerr := encryptionIn(now)
	before := x.before()
	return err == nil && eerr == nil && s.identityType() == x.was.identityType() && e.key() == before.key() && e.version() == before.version()
}

// checkAccount looks whether the account is still the platform's, and the key fits.
func (x *executor) checkAccount(ctx context.Context) error {
	e, err := x.encryption(ctx)
	if err != nil {
		return err
	}
	if key := e.key(); key != "" {
		return fault.New(fault.PreconditionFailed, "The account is under a customer's key by now.").About(key).WithMend("Scan again.")
	}
	return x.checkKey(ctx)
}

// accountUndisturbed looks whether the account is what the run made of it, or what it was
// before: what somebody else has done since is not undone.
func (x *executor) accountUndisturbed(image json.RawMessage) error {
	e, err := encryptionIn(image)
	if err != nil {
		return err
	}
	now := e.key()
	if now == x.before().key() || now == strings.ToLower(x.run.Key) {
		return nil
	}
	return fault.New(fault.Conflict, "The account was put under another key since: "+now+".").About(x.run.Resource).
		WithMend("Decide which of the two is right, and change it by hand.")
}

func (x *executor) lookKey(ctx context.Context) (presence, string, error) {
	e, err := x.encryption(ctx)
	switch {
	case err != nil || e.key() != strings.ToLower(x.run.Key) || e.Key.Version != "":
		return absent, "key source " + e.Source, err
	case !e.settled():
		return coming, "the data is on its way: " + e.Kluis.State, nil
	}
	return present, "under " + cmp.Or(e.Key.Current, x.run.Key), nil
}

func (x *executor) setKey(ctx context.Context, s *Step) error {
	e := map[string]any{"keySource": "Microsoft.Keyvault", "keyvaultproperties": x.keyProperties(x.run.Key, "")}
	if old := x.before().Identity; old != nil && old.UserAssigned != "" {
		e["identity"] = map[string]any{"userAssignedIdentity": old.UserAssigned}
	}
	return x.patch(ctx, s, map[string]any{"properties": map[string]any{"encryption": e}})
}

func (x *executor) keyProperties(key, version string) map[string]any {
	ref := posture.ParseKeyRef(key)
	return map[string]any{"keyvaulturi": "https://" + ref.Vault, "keyname": ref.Name, "keyversion": version}
}

func (x *executor) lookKeyBack(ctx context.Context, _ *Step) (presence, string, error) {
	e, err := x.encryption(ctx)
	switch {
	case err != nil || e.key() != x.before().key():
		return absent, "key source " + e.Source, err
	case !e.settled():
		return coming, "the data is on its way: " + e.Kluis.State, nil
	}
	return present, "key source " + e.Source, nil
}

func (x *executor) resetKey(ctx context.Context, s *Step) error {
	before := x.before()
	e := map[string]any{"keySource": before.Source}
	if before.key() != "" {
		e["keyvaultproperties"] = x.keyProperties(before.key(), before.Key.Version)
	}
	return x.patch(ctx, s, map[string]any{"properties": map[string]any{"encryption": e}})
}
