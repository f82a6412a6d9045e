package cli

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

var errKeyFile = errors.New("it holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1, without a passphrase), no JSON Web Key, and no transfer blob")

// readKey reads a private key from a file's text.
func readKey(text []byte) (*azkeys.JSONWebKey, error) {
	if json.Valid(text) {
		return readJSONKey(text)
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errKeyFile
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			defer clear(block.Bytes)
			return readDER(block.Bytes)
		}
		text = rest // parameters of a curve come first
	}
}

// readJSONKey reads a JSON Web Key (RFC 7517), or a transfer blob
// (learn.microsoft.com/azure/key-vault/keys/byok-specification).
func readJSONKey(text []byte) (*azkeys.JSONWebKey, error) {
	var blob struct {
		Schema string `json:"schema_version"`
	}
	if json.Unmarshal(text, &blob) == nil && blob.Schema != "" {
		return &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), T: append([]byte(nil), text...)}, nil
	}
	key := new(azkeys.JSONWebKey)
	if err := json.Unmarshal(text, key); err != nil || key.Kty == nil {
		return nil, errKeyFile
	}
	return key, nil
}

func readDER(der []byte) (*azkeys.JSONWebKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			if key, err = x509.ParseECPrivateKey(der); err != nil {
				return nil, errKeyFile
			}
		}
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if len(k.Primes) != 2 {
			return nil, errors.New("an RSA key of more than two primes is not supported")
		}
		return &azkeys.JSONWebKey{
			Kty: to.Ptr(azkeys.KeyTypeRSA), N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(),
			P: k.Primes[0].Bytes(), Q: k.Primes[1].Bytes(), DP: k.Precomputed.Dp.Bytes(), DQ: k.Precomputed.Dq.Bytes(), QI: k.Precomputed.Qinv.Bytes(),
		}, nil
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		point, err := k.PublicKey.Bytes() // 4, x, y
		if err != nil {
			return nil, err
		}
		half := 1 + (len(point)-1)/2
		return &azkeys.JSONWebKey{
			Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveName(k.Params().Name)), D: d, X: point[1:half], Y: point[half:],
		}, nil
	}
	return nil, errors.New("only RSA and EC keys can be imported from PEM")
}

func clearKey(k *azkeys.JSONWebKey) {
	for _, b := range [][]byte{k.D, k.P, k.Q, k.DP, k.DQ, k.QI, k.K} {
		clear(b)
	}
}
