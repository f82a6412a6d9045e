package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"math/big"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/vault"
)

// A signature's algorithm (RFC 7518 §3.1, RFC 8812 §3.2).
type signature struct {
	kind cryptoki.Kind
	hash crypto.Hash
	pss  bool // with a salt as long as the digest
	bits int  // of the curve
}

var signatures = map[vault.Algorithm]signature{
	"RS256":  {kind: cryptoki.RSA, hash: crypto.SHA256},
	"RS384":  {kind: cryptoki.RSA, hash: crypto.SHA384},
	"RS512":  {kind: cryptoki.RSA, hash: crypto.SHA512},
	"PS256":  {kind: cryptoki.RSA, hash: crypto.SHA256, pss: true},
	"PS384":  {kind: cryptoki.RSA, hash: crypto.SHA384, pss: true},
	"PS512":  {kind: cryptoki.RSA, hash: crypto.SHA512, pss: true},
	"ES256":  {kind: cryptoki.EC, hash: crypto.SHA256, bits: 256},
	"ES256K": {kind: cryptoki.EC, hash: crypto.SHA256, bits: 256},
	"ES384":  {kind: cryptoki.EC, hash: crypto.SHA384, bits: 384},
	"ES512":  {kind: cryptoki.EC, hash: crypto.SHA512, bits: 521},
}

func signing(m vault.Material, alg vault.Algorithm, digest []byte) (signature, error) {
	s, ok := signatures[alg]
	if !ok || s.kind != kind(m.Type) || s.bits != 0 && s.bits != m.Bits {
		return s, fault.New(fault.InvalidArgument, "The algorithm does not fit the key.")
	}
	if len(digest) != s.hash.Size() {
		return s, fault.New(fault.InvalidArgument, "The digest is not as long as the algorithm's hash.")
	}
	return s, nil
}

// Sign signs a digest with RS256 to RS512, PS256 to PS512 or ES256, ES256K, ES384
// and ES512. A signature of an EC key is r‖s, each as long as the curve's order.
func (k *Keys) Sign(ctx context.Context, ref vault.Ref, m vault.Material, alg vault.Algorithm, digest []byte) ([]byte, error) {
	if _, err := signing(m, alg, digest); err != nil {
		return nil, err
	}
	h, err := k.Handle(ref, m)
	if err != nil {
		return nil, err
	}
	return k.token.Sign(ctx, h, cryptoki.Algorithm(alg), digest)
}

// Verify reports whether signature is one of digest. It needs m.Public alone, but
// for ES256K m.Sealed and the token.
func (k *Keys) Verify(ctx context.Context, ref vault.Ref, m vault.Material, alg vault.Algorithm, digest, signature []byte) (bool, error) {
	s, err := signing(m, alg, digest)
	if err != nil {
		return false, err
	}
	if alg == "ES256K" {
		h, err := k.Handle(ref, m)
		if err != nil {
			return false, err
		}
		return k.token.Verify(ctx, h, cryptoki.ES256K, digest, signature)
	}
	if s.kind == cryptoki.EC {
		public, err := publicKey[*ecdsa.PublicKey](m)
		if err != nil {
			return false, err
		}
		return verifyEC(public, digest, signature), nil
	}
	public, err := publicKey[*rsa.PublicKey](m)
	if err != nil {
		return false, err
	}
	if s.pss {
		err = rsa.VerifyPSS(public, s.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		err = rsa.VerifyPKCS1v15(public, s.hash, digest, signature)
	}
	return err == nil, nil
}

// verifyEC takes r‖s, of exactly twice the order's length.
func verifyEC(public *ecdsa.PublicKey, digest, signature []byte) bool {
	size := (public.Params().N.BitLen() + 7) / 8
	if len(signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(public, digest, r, s)
}
