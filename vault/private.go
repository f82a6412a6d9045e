package vault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/kluis-io/kluis/fault"
)

// RFC 5208 §5 and RFC 5915 §3.
type (
	pkcs8 struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	ecPrivateKey struct {
		Version int
		Key     []byte
		Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Public  asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
)

// MarshalPrivate returns a private key as PKCS #8, DER: an [rsa.PrivateKey], an
// [ecdsa.PrivateKey] or a [secp256k1.PrivateKey], which the standard library
// lacks. The caller clears it.
func MarshalPrivate(private crypto.PrivateKey) ([]byte, error) {
	k1, ok := private.(*secp256k1.PrivateKey)
	if !ok {
		return x509.MarshalPKCS8PrivateKey(private)
	}
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		return nil, err
	}
	scalar := k1.Serialize()
	defer clear(scalar)
	point := k1.PubKey().SerializeUncompressed()
	key, err := asn1.Marshal(ecPrivateKey{Version: 1, Key: scalar, Public: asn1.BitString{Bytes: point, BitLength: 8 * len(point)}})
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return asn1.Marshal(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey, Parameters: asn1.RawValue{FullBytes: curve}}, Key: key})
}

// ParsePrivate is the reverse of [MarshalPrivate]. It fails with
// [fault.InvalidArgument] if the bytes are no such key, or one whose parts do not
// fit together.
func ParsePrivate(der []byte) (crypto.PrivateKey, error) {
	key, err := parsePrivate(der)
	if err != nil {
		return nil, fault.Wrap(fault.InvalidArgument, err, "The private key is malformed, or its parts do not fit together.")
	}
	return key, nil
}

func parsePrivate(der []byte) (crypto.PrivateKey, error) {
	var p pkcs8
	if rest, err := asn1.Unmarshal(der, &p); err == nil && len(rest) == 0 && p.Algorithm.Algorithm.Equal(oidECPublicKey) {
		defer clear(p.Key)
		var curve asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(p.Algorithm.Parameters.FullBytes, &curve); err == nil && curve.Equal(oidSecp256k1) {
			var ec ecPrivateKey
			if _, err := asn1.Unmarshal(p.Key, &ec); err != nil {
				return nil, err
			}
			defer clear(ec.Key)
			return K1Private(ec.Key)
		}
	}
	return x509.ParsePKCS8PrivateKey(der)
}

// K1Private returns the P-256K key of a scalar of 32 bytes.
func K1Private(scalar []byte) (*secp256k1.PrivateKey, error) {
	var s secp256k1.ModNScalar
	if len(scalar) != 32 || s.SetByteSlice(scalar) || s.IsZero() {
		s.Zero()
		return nil, fault.New(fault.InvalidArgument, "The private key does not lie on P-256K.")
	}
	defer s.Zero()
	return secp256k1.NewPrivateKey(&s), nil
}

// PublicOf returns the public part of a private key, nil if it is of no type known.
func PublicOf(private crypto.PrivateKey) crypto.PublicKey {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case *secp256k1.PrivateKey:
		return k.PubKey()
	}
	return nil
}

// CheckRSA checks what [x509.ParsePKCS8PrivateKey] leaves unchecked of a key that
// others made: that it has two primes, and that they are.
func CheckRSA(k *rsa.PrivateKey) error {
	if err := k.Validate(); err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The RSA key's parts do not fit together.")
	}
	if len(k.Primes) != 2 || !k.Primes[0].ProbablyPrime(20) || !k.Primes[1].ProbablyPrime(20) {
		return fault.New(fault.InvalidArgument, "The RSA key is not made of two primes.")
	}
	return nil
}
