package vault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/kluis-io/kluis/fault"
)

// RFC 5480 §2.1.1; SEC 2 §A.2.1.
var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

type spki struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// MarshalPublic returns a public key in PKIX form, DER: an [rsa.PublicKey], an
// [ecdsa.PublicKey] or a [secp256k1.PublicKey], which the standard library lacks.
func MarshalPublic(public crypto.PublicKey) ([]byte, error) {
	k1, ok := public.(*secp256k1.PublicKey)
	if !ok {
		return x509.MarshalPKIXPublicKey(public)
	}
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		return nil, err
	}
	point := k1.SerializeUncompressed()
	return asn1.Marshal(spki{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey, Parameters: asn1.RawValue{FullBytes: curve}},
		Key:       asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
}

// ParsePublic is the reverse of [MarshalPublic].
func ParsePublic(der []byte) (crypto.PublicKey, error) {
	var s spki
	if rest, err := asn1.Unmarshal(der, &s); err == nil && len(rest) == 0 && s.Algorithm.Algorithm.Equal(oidECPublicKey) {
		var curve asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(s.Algorithm.Parameters.FullBytes, &curve); err == nil && curve.Equal(oidSecp256k1) {
			return secp256k1.ParsePubKey(s.Key.RightAlign())
		}
	}
	return x509.ParsePKIXPublicKey(der)
}

// Point returns the coordinates of an EC public key, each as long as the curve's
// field.
func Point(public crypto.PublicKey) (x, y []byte, err error) {
	var point []byte
	switch p := public.(type) {
	case *secp256k1.PublicKey:
		point = p.SerializeUncompressed()
	case *ecdsa.PublicKey:
		if point, err = p.Bytes(); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, errors.New("not an EC key")
	}
	n := (len(point) - 1) / 2
	return point[1 : 1+n], point[1+n:], nil
}

// ShapeOf returns the shape of a key of the type, from its public part.
func ShapeOf(t KeyType, public crypto.PublicKey) (Shape, error) {
	s := Shape{Type: t}
	family := EC
	switch p := public.(type) {
	case *rsa.PublicKey:
		family, s.Bits = RSA, p.N.BitLen()
		if p.E != 65537 {
			return s, fault.New(fault.InvalidArgument, "The public exponent must be 65537.")
		}
	case *secp256k1.PublicKey:
		s.Curve = P256K
	case *ecdsa.PublicKey:
		s.Curve = Curve(p.Curve.Params().Name)
	}
	if family != t.Family() {
		return s, fault.New(fault.InvalidArgument, "The key is not of the type that kty says.")
	}
	return s, s.complete()
}

// publicly does an operation that takes the public part only.
func (k KeyVersion) publicly(op Operation, in Input) (Output, error) {
	public, err := ParsePublic(k.Public)
	if err != nil {
		return Output{}, fault.Wrap(fault.Integrity, err, "The stored public key is damaged.")
	}
	m := methods[in.Algorithm]
	if op == Verify {
		return Output{Valid: verify(public, m, in)}, nil
	}
	pub, ok := public.(*rsa.PublicKey)
	if !ok {
		return Output{}, fault.New(fault.Integrity, "The stored public key is of another type.")
	}
	var value []byte
	room := pub.Size() - 11
	if m.Mode == ModeOAEP {
		room = pub.Size() - 2*m.Hash.Size() - 2
	}
	switch {
	case len(in.Value) > room:
		return Output{}, fault.New(fault.InvalidArgument, fmt.Sprintf("The value is too long: this key takes at most %d bytes with %s.", room, in.Algorithm))
	case m.Mode == ModeOAEP:
		value, err = rsa.EncryptOAEP(m.Hash.New(), rand.Reader, pub, in.Value, nil)
	default:
		//lint:ignore SA1019 for old clients, of a key that its owner has tagged for it
		value, err = rsa.EncryptPKCS1v15(rand.Reader, pub, in.Value)
	}
	return Output{Value: value}, err
}

func verify(public crypto.PublicKey, m Method, in Input) bool {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if m.Mode == ModePSS {
			return rsa.VerifyPSS(p, m.Hash, in.Value, in.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(p, m.Hash, in.Value, in.Signature) == nil
	case *ecdsa.PublicKey:
		r, s, ok := halves(in.Signature, (p.Curve.Params().BitSize+7)/8)
		return ok && ecdsa.Verify(p, in.Value, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
	case *secp256k1.PublicKey:
		rb, sb, ok := halves(in.Signature, 32)
		var r, s secp256k1.ModNScalar
		if !ok || r.SetByteSlice(rb) || s.SetByteSlice(sb) || r.IsZero() || s.IsZero() {
			return false
		}
		return k1ecdsa.NewSignature(&r, &s).Verify(in.Value, p)
	}
	return false
}

// halves takes r ‖ s apart.
func halves(signature []byte, n int) (r, s []byte, ok bool) {
	if len(signature) != 2*n {
		return nil, nil, false
	}
	return signature[:n], signature[n:], true
}
