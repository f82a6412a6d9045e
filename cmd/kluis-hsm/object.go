//go:build cgo

package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// An object is a key on the token, by its handles; 0 stands for none.
type object struct {
	kind            cryptoki.Kind
	private, public pkcs11.ObjectHandle // an AES key is private
	modulus         *big.Int            // of RSA
	curve           string              // of EC
	bits            int                 // of AES
}

// cached bounds the handles that are remembered.
const cached = 4096

type curve struct {
	oid  asn1.ObjectIdentifier
	bits uint
}

// The named curves (RFC 5480 §2.1.1.1; SEC 2 for secp256k1).
var curves = map[string]curve{
	cryptoki.P256:  {asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, 256},
	cryptoki.P256K: {asn1.ObjectIdentifier{1, 3, 132, 0, 10}, 256},
	cryptoki.P384:  {asn1.ObjectIdentifier{1, 3, 132, 0, 34}, 384},
	cryptoki.P521:  {asn1.ObjectIdentifier{1, 3, 132, 0, 35}, 521},
}

// params is the curve as CKA_EC_PARAMS has it.
func (c curve) params() []byte {
	der, err := asn1.Marshal(c.oid)
	if err != nil {
		panic(err) // the list above is fixed
	}
	return der
}

// object returns the key under an id, from memory if it was used before.
func (t *token) object(o *opened, s pkcs11.SessionHandle, id cryptoki.KeyID) (*object, error) {
	o.mu.Lock()
	k := o.objects[id]
	o.mu.Unlock()
	if k != nil {
		return k, nil
	}
	handles, err := t.handles(s, id)
	if err != nil {
		return nil, err
	}
	if k, err = t.describe(s, handles); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.objects) >= cached {
		clear(o.objects)
	}
	o.objects[id] = k
	return k, nil
}

func (o *opened) forget(id cryptoki.KeyID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.objects, id)
}

// handles finds every object under an id.
func (t *token) handles(s pkcs11.SessionHandle, id cryptoki.KeyID) ([]pkcs11.ObjectHandle, error) {
	if err := t.m.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, id.Bytes())}); err != nil {
		return nil, named("C_FindObjectsInit", err)
	}
	found, _, err := t.m.FindObjects(s, 16)
	final := t.m.FindObjectsFinal(s)
	if err != nil {
		return nil, named("C_FindObjects", err)
	}
	return found, named("C_FindObjectsFinal", final)
}

// missing says why no private key was found. Who is not logged in sees none: only
// a session that is proves that there is none.
func (t *token) missing(s pkcs11.SessionHandle) error {
	i, err := t.m.GetSessionInfo(s)
	switch {
	case err != nil:
		return named("C_GetSessionInfo", err)
	case i.State != pkcs11.CKS_RW_USER_FUNCTIONS:
		return callError{"C_FindObjects", pkcs11.CKR_USER_NOT_LOGGED_IN}
	}
	return errMissing
}

func (t *token) number(s pkcs11.SessionHandle, h pkcs11.ObjectHandle, attribute uint) (uint, error) {
	b, err := t.attribute(s, h, attribute)
	if err != nil {
		return 0, err
	}
	n := uint(0)
	for i := len(b) - 1; i >= 0; i-- { // CK_ULONG in the machine's order; Linux on little-endian processors
		n = n<<8 | uint(b[i])
	}
	return n, nil
}

func (t *token) attribute(s pkcs11.SessionHandle, h pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	a, err := t.m.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		return nil, named("C_GetAttributeValue", err)
	}
	if len(a) != 1 {
		return nil, errors.New("C_GetAttributeValue: another number of attributes")
	}
	return a[0].Value, nil
}

// describe reads what the objects of one id are.
func (t *token) describe(s pkcs11.SessionHandle, handles []pkcs11.ObjectHandle) (*object, error) {
	k := new(object)
	for _, h := range handles {
		class, err := t.number(s, h, pkcs11.CKA_CLASS)
		if err != nil {
			return nil, err
		}
		switch class {
		case pkcs11.CKO_PUBLIC_KEY:
			k.public = h
		case pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_SECRET_KEY:
			if k.private != 0 {
				return nil, errors.New("two keys on the token have one id")
			}
			k.private = h
		}
	}
	if k.private == 0 {
		return nil, t.missing(s)
	}
	kind, err := t.number(s, k.private, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	switch kind {
	case pkcs11.CKK_RSA:
		k.kind = cryptoki.RSA
		n, err := t.attribute(s, k.private, pkcs11.CKA_MODULUS)
		if err != nil {
			return nil, err
		}
		k.modulus = new(big.Int).SetBytes(n)
	case pkcs11.CKK_EC:
		k.kind = cryptoki.EC
		p, err := t.attribute(s, k.private, pkcs11.CKA_EC_PARAMS)
		if err != nil {
			return nil, err
		}
		for name, c := range curves {
			if bytes.Equal(p, c.params()) {
				k.curve = name
			}
		}
	case pkcs11.CKK_AES:
		k.kind = cryptoki.AES
		n, err := t.number(s, k.private, pkcs11.CKA_VALUE_LEN)
		if err != nil {
			return nil, err
		}
		k.bits = int(n) * 8
	default:
		return nil, fmt.Errorf("%w: keys of PKCS#11 type %#x", errUnsupported, kind)
	}
	return k, nil
}

// generate makes a key, checks that the token keeps it as it was told, and returns
// its public part.
func (t *token) generate(o *opened, s pkcs11.SessionHandle, r *cryptoki.Request) ([]byte, error) {
	if !o.has(*r.Spec) {
		return nil, errUnsupported
	}
	// The caller's ids are random; one that is taken is a mistake.
	taken, err := t.handles(s, r.Key)
	if err != nil {
		return nil, err
	}
	if len(taken) > 0 {
		return nil, errExists
	}
	name := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, r.Key.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, r.Label),
	}
	secret := append(name[:len(name):len(name)],
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	)
	public := append(name[:len(name):len(name)],
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
	)
	var k object
	switch r.Spec.Kind {
	case cryptoki.RSA:
		k.public, k.private, err = t.m.GenerateKeyPair(s, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil),
			append(public,
				pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, r.Spec.Bits),
				pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})),
			append(secret,
				pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
				pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false)))
		err = named("C_GenerateKeyPair", err)
	case cryptoki.EC:
		k.public, k.private, err = t.m.GenerateKeyPair(s, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
			append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curves[r.Spec.Curve].params())),
			append(secret,
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false)))
		err = named("C_GenerateKeyPair", err)
	default:
		k.private, err = t.m.GenerateKey(s, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), append(secret,
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, r.Spec.Bits/8),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false)))
		err = named("C_GenerateKey", err)
	}
	if err != nil {
		return nil, err
	}
	der, err := t.inspect(s, r, &k)
	if err != nil {
		t.m.DestroyObject(s, k.private)
		if k.public != 0 {
			t.m.DestroyObject(s, k.public)
		}
		return nil, err
	}
	return der, nil
}

// inspect checks that a new key can never be read, and returns its public part.
func (t *token) inspect(s pkcs11.SessionHandle, r *cryptoki.Request, k *object) ([]byte, error) {
	for attribute, want := range map[uint]uint{
		pkcs11.CKA_SENSITIVE: 1, pkcs11.CKA_ALWAYS_SENSITIVE: 1, pkcs11.CKA_EXTRACTABLE: 0, pkcs11.CKA_NEVER_EXTRACTABLE: 1,
	} {
		have, err := t.number(s, k.private, attribute)
		if err != nil {
			return nil, err
		}
		if have != want {
			return nil, fmt.Errorf("the token made a key that can leave it: attribute %#x is %d", attribute, have)
		}
	}
	switch r.Spec.Kind {
	case cryptoki.RSA:
		n, err := t.attribute(s, k.public, pkcs11.CKA_MODULUS)
		if err != nil {
			return nil, err
		}
		e, err := t.attribute(s, k.public, pkcs11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return nil, err
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if public.N.BitLen() != r.Spec.Bits || public.E != 65537 {
			return nil, errors.New("the token made an RSA key of another size or exponent")
		}
		return x509.MarshalPKIXPublicKey(public)
	case cryptoki.EC:
		point, err := t.attribute(s, k.public, pkcs11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		return marshalPoint(r.Spec.Curve, point)
	}
	return nil, nil
}

// marshalPoint returns a public key as PKIX, which Go writes for its own curves
// only. Tokens give the uncompressed point in an OCTET STRING or, older ones, bare.
func marshalPoint(name string, point []byte) ([]byte, error) {
	size := int(curves[name].bits+7) / 8
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	if len(point) != 1+2*size || point[0] != 4 {
		return nil, errors.New("the token gives the public point in an unknown form")
	}
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{
		pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, // id-ecPublicKey
			Parameters: asn1.RawValue{FullBytes: curves[name].params()},
		},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	if err == nil && name != cryptoki.P256K {
		_, err = x509.ParsePKIXPublicKey(der) // the point lies on the curve
	}
	return der, err
}
