package remedy

import (
	"context"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// checkKey looks whether the vault and its key fit.
func (x *executor) checkKey(ctx context.Context) error {
	var vault struct {
		Properties struct {
			SoftDelete *bool `json:"enableSoftDelete"`
			Purge      bool  `json:"enablePurgeProtection"`
		} `json:"properties"`
	}
	if err := x.Keys.Call(ctx, "GET", x.run.VaultID+"?api-version="+vaultVersion, nil, &vault); err != nil {
		return err
	}
	if p := vault.Properties; p.SoftDelete != nil && !*p.SoftDelete || !p.Purge {
		return fault.New(fault.PreconditionFailed, "The vault lacks soft delete or purge protection: a key could be lost for good, and the data with it.").
			About(x.run.VaultID).WithMend("az keyvault update --name " + nameOf(x.run.VaultID) + " --enable-purge-protection true")
	}
	var key struct {
		Properties struct {
			Kty        string   `json:"kty"`
			Ops        []string `json:"keyOps"`
			KID        string   `json:"keyUriWithVersion"`
			Attributes struct {
				Enabled bool  `json:"enabled"`
				Expires int64 `json:"exp"`
			} `json:"attributes"`
		} `json:"properties"`
	}
	if err := x.Keys.Call(ctx, "GET", x.keyID()+"?api-version="+vaultVersion, nil, &key); err != nil {
		return err
	}
	p := key.Properties
	can := func(op string) bool {
		return slices.ContainsFunc(p.Ops, func(o string) bool { return strings.EqualFold(o, op) })
	}
	switch {
	case !p.Attributes.Enabled:
		return x.unfit("The key is disabled.")
	case p.Attributes.Expires > 0 && x.time().Unix() >= p.Attributes.Expires:
		return x.unfit("The key has expired.")
	case !can("wrapKey") || !can("unwrapKey"):
		return x.unfit("The key may not wrap and unwrap.")
	case !strings.HasPrefix(strings.ToUpper(p.Kty), "RSA") && !strings.EqualFold(p.Kty, "oct-HSM"):
		return x.unfit("The key is of type " + p.Kty + ", which cannot protect a resource.")
	}
	if rule := x.rule(); rule != nil && rule.Rotation == "never" {
		x.run.Version = posture.ParseKeyRef(p.KID).Version
	}
	return nil
}

func (x *executor) unfit(why string) error {
	return fault.New(fault.PreconditionFailed, why).About(x.run.Key).WithMend("Name another key with --key.")
}
