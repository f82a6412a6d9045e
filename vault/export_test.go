package vault

import "context"

// Do checks an input and works on it, as [Vaults.Use] does once it has authorised.
// RSA1_5 is switched on.
func Do(ctx context.Context, keys Keys, ref Ref, m Material, op Operation, in Input) (Output, error) {
	kv := KeyVersion{
		Type: m.Type, Bits: m.Bits, Curve: m.Curve, Public: m.Public, Platform: keys.Platform(), Tags: map[string]string{TagRSA15: "allowed"},
	}
	if err := in.check(kv, op); err != nil {
		return Output{}, err
	}
	return (&Vaults{keys: keys}).work(ctx, ref, kv, m, op, in)
}
