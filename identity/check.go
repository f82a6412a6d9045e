package identity

import (
	"context"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/internal/check"
)

// Check checks that the issuer's signing keys open under its root, as
// [IssuerConfig] has it, and that one of them signs.
func Check(ctx context.Context, store Store, instance string, root *envelope.Key, r *check.Report) error {
	const part = "signing key"
	var keys []SealedSigningKey
	err := store.View(ctx, func(tx Tx) (err error) {
		keys, err = tx.SigningKeys()
		return err
	})
	if err != nil {
		return err
	}
	ring := newKeyring(store, instance, root)
	signing := 0
	for _, k := range keys {
		r.Checked(part)
		if _, err := ring.open(k); err != nil {
			r.Found(part, k.ID, "%s", check.Text(err))
		}
		if k.End.IsZero() {
			signing++
		}
	}
	if len(keys) > 0 && signing != 1 {
		r.Found(part, "", "%d keys sign, and not one.", signing)
	}
	return nil
}
