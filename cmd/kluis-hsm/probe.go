//go:build cgo

package main

import (
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// probe asks which mechanisms the token has, and derives what it can be used for.
func (t *token) probe(o *opened) error {
	list, err := t.m.GetMechanismList(o.slot)
	if err != nil {
		return named("C_GetMechanismList", err)
	}
	o.mechanisms = map[uint]pkcs11.MechanismInfo{}
	for _, m := range list {
		info, err := t.m.GetMechanismInfo(o.slot, []*pkcs11.Mechanism{m})
		if err == nil {
			o.mechanisms[m.Mechanism] = info
		}
	}
	kinds := map[cryptoki.Kind]bool{}
	for _, s := range cryptoki.Specs() {
		if t.makes(o, s) {
			kinds[s.Kind] = true
			o.info.Kinds = append(o.info.Kinds, s.String())
		}
	}
	add := func(ok bool, algorithms ...cryptoki.Algorithm) {
		if ok {
			o.info.Algorithms = append(o.info.Algorithms, algorithms...)
		}
	}
	can := o.can
	raw := can(pkcs11.CKM_RSA_X_509, pkcs11.CKF_DECRYPT)
	add(kinds[cryptoki.RSA] && (raw || can(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.CKF_DECRYPT)), cryptoki.RSAOAEP, cryptoki.RSAOAEP256)
	add(kinds[cryptoki.RSA] && can(pkcs11.CKM_RSA_PKCS, pkcs11.CKF_SIGN), cryptoki.RS256, cryptoki.RS384, cryptoki.RS512)
	add(kinds[cryptoki.RSA] && can(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.CKF_SIGN), cryptoki.PS256, cryptoki.PS384, cryptoki.PS512)
	for alg, a := range aesOf {
		add(o.has(cryptoki.Spec{Kind: cryptoki.AES, Bits: a.bits}) && can(mechanismOf[a.mode], pkcs11.CKF_ENCRYPT|pkcs11.CKF_DECRYPT), alg)
	}
	if can(pkcs11.CKM_ECDSA, pkcs11.CKF_SIGN) {
		for alg, a := range ecdsaOf {
			add(o.has(cryptoki.Spec{Kind: cryptoki.EC, Curve: a.curve}), alg)
		}
	}
	slices.Sort(o.info.Algorithms)
	return nil
}

// can reports whether the token offers the mechanism for all of the uses in flags.
func (o *opened) can(mechanism uint, flags uint) bool {
	m, ok := o.mechanisms[mechanism]
	return ok && m.Flags&flags == flags
}

func (o *opened) has(s cryptoki.Spec) bool {
	for _, k := range o.info.Kinds {
		if k == s.String() {
			return true
		}
	}
	return false
}

// makes reports whether the token generates such keys. Of elliptic curves a token
// tells the sizes only, and secp256k1 is as long as P-256: one is made on trial, in
// the session's memory.
func (t *token) makes(o *opened, s cryptoki.Spec) bool {
	within := func(mechanism uint, pair bool, size uint) bool {
		flag := uint(pkcs11.CKF_GENERATE)
		if pair {
			flag = pkcs11.CKF_GENERATE_KEY_PAIR
		}
		m := o.mechanisms[mechanism]
		// Sizes of AES keys are bytes here and bits there.
		return o.can(mechanism, flag) && (m.MaxKeySize == 0 || m.MinKeySize <= size && size <= m.MaxKeySize)
	}
	switch s.Kind {
	case cryptoki.RSA:
		return within(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, true, uint(s.Bits))
	case cryptoki.AES:
		return within(pkcs11.CKM_AES_KEY_GEN, false, uint(s.Bits/8)) || within(pkcs11.CKM_AES_KEY_GEN, false, uint(s.Bits))
	}
	if !within(pkcs11.CKM_EC_KEY_PAIR_GEN, true, curves[s.Curve].bits) {
		return false
	}
	if s.Curve != cryptoki.P256K {
		return true
	}
	public, private, err := t.m.GenerateKeyPair(o.anchor, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil),
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curves[s.Curve].params()),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		})
	if err != nil {
		return false
	}
	t.m.DestroyObject(o.anchor, public)
	t.m.DestroyObject(o.anchor, private)
	return true
}

func mechanism(m uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, parameter)}
}
