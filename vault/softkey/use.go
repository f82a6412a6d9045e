package softkey

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"math/big"

	k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

var errNotMade = fault.New(fault.InvalidArgument, "The value was not made with this key and algorithm.")

// Encrypt implements [vault.Keys].
func (k *Keys) Encrypt(_ context.Context, ref vault.Ref, m vault.Material, in vault.Input) (vault.Output, error) {
	method, err := methodOf(in)
	if err != nil {
		return vault.Output{}, err
	}
	key, err := opened[[]byte](k, ref, m)
	if err != nil {
		return vault.Output{}, err
	}
	return encryptOct(key, method, in)
}

// Decrypt implements [vault.Keys].
func (k *Keys) Decrypt(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) (vault.Output, error) {
	method, err := methodOf(in)
	if err != nil {
		return vault.Output{}, err
	}
	if m.Type.Family() == vault.Oct {
		key, err := opened[[]byte](k, ref, m)
		if err != nil {
			return vault.Output{}, err
		}
		return decryptOct(key, method, in)
	}
	if err := turn(ctx, k.cores, patience); err != nil {
		return vault.Output{}, err
	}
	defer k.cores.Release(1)
	key, err := opened[*rsa.PrivateKey](k, ref, m)
	if err != nil {
		return vault.Output{}, err
	}
	switch method.Mode {
	case vault.ModeOAEP:
		// Go answers every defect of the ciphertext in the same way and time.
		plain, err := rsa.DecryptOAEP(method.Hash.New(), nil, key, in.Value, nil)
		if err != nil {
			return vault.Output{}, errNotMade
		}
		return vault.Output{Value: plain}, nil
	case vault.ModePKCS1Encryption:
		plain, err := decryptPKCS1(key, in.Value)
		return vault.Output{Value: plain}, err
	}
	return vault.Output{}, fault.New(fault.NotSupported, "The algorithm is not supported.")
}

// Sign implements [vault.Keys].
func (k *Keys) Sign(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) ([]byte, error) {
	method, err := methodOf(in)
	if err != nil {
		return nil, err
	}
	if m.Type.Family() != vault.Oct {
		if err := turn(ctx, k.cores, patience); err != nil {
			return nil, err
		}
		defer k.cores.Release(1)
	}
	private, err := k.open(ref, m)
	if err != nil {
		return nil, err
	}
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if method.Mode == vault.ModePSS {
			return rsa.SignPSS(rand.Reader, key, method.Hash, in.Value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(nil, key, method.Hash, in.Value)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, in.Value)
		if err != nil {
			return nil, err
		}
		return concat(r, s, (key.Params().BitSize+7)/8), nil
	case *secp256k1.PrivateKey:
		signature := k1ecdsa.Sign(key, in.Value)
		r, s := signature.R(), signature.S()
		rb, sb := r.Bytes(), s.Bytes()
		return append(rb[:], sb[:]...), nil
	case []byte:
		return mac(key, method, in.Value), nil
	}
	return nil, fault.New(fault.Integrity, "The private key is of another type.")
}

// concat returns r ‖ s, each of n bytes.
func concat(r, s *big.Int, n int) []byte {
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out
}

func methodOf(in vault.Input) (vault.Method, error) {
	m, ok := in.Algorithm.Method()
	if !ok {
		return m, fault.New(fault.NotSupported, "The algorithm is not supported.")
	}
	return m, nil
}
