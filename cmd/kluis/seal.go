package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/root"
)

// seal returns what new roots are sealed with.
func (c Config) seal(ctx context.Context) (root.Seal, error) {
	if c.Dev {
		return root.DevUnsealed(), nil
	}
	return c.sealAs(ctx, root.SealType(c.Seal))
}

// unseal returns what the root file at path opens with. The file says how it is
// sealed, so that the roots of one directory may be resealed one after the other.
func (c Config) unseal(ctx context.Context, path string) (root.Unseal, error) {
	t, _, err := root.Sealed(path)
	if err != nil {
		return nil, err
	}
	return c.sealAs(ctx, t)
}

func (c Config) sealAs(ctx context.Context, t root.SealType) (root.Seal, error) {
	switch t {
	case root.PassphraseType:
		return passphraseIn(c.PassphraseFile, "--passphrase-file or KLUIS_PASSPHRASE_FILE")
	case root.TokenType:
		if c.HSMSocket == "" {
			return nil, usageError{errors.New("the root is sealed by a PKCS#11 token: name the socket of kluis-hsm with --hsm-socket or KLUIS_HSM_SOCKET")}
		}
		return root.Token(ctx, tokenWrapper{c.HSMSocket}), nil
	case root.RemoteKeyType:
		w, err := c.remoteKey()
		if err != nil {
			return nil, err
		}
		return root.RemoteKey(ctx, w), nil
	case root.DevUnsealedType:
		if c.Dev {
			return root.DevUnsealed(), nil
		}
		return nil, usageError{errors.New("the root is not sealed, and without --dev none may be so")}
	}
	return nil, usageError{fmt.Errorf("no such seal: %q; there are passphrase, pkcs11 and vault", t)}
}

// passphraseIn returns the seal of the passphrase in a file, which option names.
func passphraseIn(file, option string) (root.Seal, error) {
	if file == "" {
		return nil, usageError{errors.New("the root is sealed by a passphrase: name the file that holds it with " + option)}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	passphrase := bytes.TrimRight(text, "\r\n")
	if len(passphrase) < root.MinPassphrase {
		return nil, usageError{fmt.Errorf("the passphrase in %s is shorter than %d bytes", file, root.MinPassphrase)}
	}
	return root.Passphrase(passphrase), nil
}

// A tokenWrapper wraps with a key on the token behind kluis-hsm: a new one for each
// seal, so that whoever makes one chooses no key that others use.
type tokenWrapper struct{ socket string }

func (w tokenWrapper) Wrap(ctx context.Context, key *[32]byte) (out root.Wrapped, err error) {
	c := cryptoki.New(cryptoki.Config{Socket: w.socket})
	defer c.Close()
	h, err := c.NewWrappingKey(ctx, "kluis root seal")
	if err != nil {
		return out, err
	}
	out = root.Wrapped{Key: url.PathEscape(h.Token) + "/" + string(h.Key), Algorithm: string(cryptoki.A256KW)}
	out.Bytes, err = c.Wrap(ctx, h, key)
	return out, err
}

func (w tokenWrapper) Unwrap(ctx context.Context, in root.Wrapped) (*[32]byte, error) {
	token, id, _ := strings.Cut(in.Key, "/")
	serial, err := url.PathUnescape(token)
	if err != nil || len(cryptoki.KeyID(id).Bytes()) != 16 || in.Algorithm != string(cryptoki.A256KW) {
		return nil, fault.Wrap(fault.Integrity, err, "The root file names no key of a token.")
	}
	c := cryptoki.New(cryptoki.Config{Socket: w.socket})
	defer c.Close()
	return c.Unwrap(ctx, cryptoki.Handle{Token: serial, Key: cryptoki.KeyID(id)}, in.Bytes)
}

// A remoteWrapper wraps with a key of a vault elsewhere, and with no other vault's
// whatever the root file says.
type remoteWrapper struct {
	config kek.Config
	tenant string
	key    kek.KeyIdentifier
}

// remoteKey reads what the configuration says of the key.
func (c Config) remoteKey() (w remoteWrapper, err error) {
	if c.SealKey == "" || c.SealCredential == "" {
		return w, usageError{errors.New("the root is sealed by a vault's key: give its identifier with --seal-key, and with --seal-credential the file of the principal that may wrap and unwrap with it")}
	}
	u, err := url.Parse(c.SealKey)
	if err != nil {
		return w, usageError{fmt.Errorf("--seal-key: %w", err)}
	}
	host := u.Hostname()
	_, suffix, _ := strings.Cut(strings.TrimSuffix(u.Host, ":443"), ".")
	for _, own := range []string{".vault." + c.Domain, ".managedhsm." + c.Domain} {
		if host == c.Domain || strings.HasSuffix(host, own) {
			return w, usageError{errors.New("--seal-key lies in a vault of this installation, which opens only after its root")}
		}
	}
	policy := kek.Policy{Suffixes: append(kek.AzureSuffixes(), "."+suffix)}
	if w.key, err = kek.ParseKeyIdentifier(c.SealKey, policy); err != nil {
		return w, usageError{fmt.Errorf("--seal-key: %w", err)}
	}
	text, err := os.ReadFile(c.SealCredential)
	if err != nil {
		return w, err
	}
	var cred credential
	if err := json.Unmarshal(text, &cred); err != nil || cred.Tenant == "" || cred.Authority == "" || cred.Kind == "" && (cred.ClientID == "" || cred.Secret == "") {
		return w, usageError{fmt.Errorf("%s does not hold tenantId, authority, and clientId with clientSecret or another kind of credential", c.SealCredential)}
	}
	pool, err := c.pool()
	if err != nil {
		return w, err
	}
	w.tenant = string(cred.Tenant)
	w.config = kek.Config{
		Policy: policy, Roots: pool,
		AllowPrivate: func(h string) bool { return h == host },
		Credential: func(string) (azcore.TokenCredential, error) {
			return cred.tokens(cred.Authority, localca.Transport(pool, "localhost"))
		},
	}
	return w, nil
}

func (w remoteWrapper) Wrap(ctx context.Context, key *[32]byte) (out root.Wrapped, err error) {
	c := kek.NewClient(w.config)
	defer c.Close()
	info, err := c.Latest(ctx, w.tenant, w.key)
	if err == nil {
		err = info.Usable(time.Now())
	}
	if err != nil {
		return out, err
	}
	out = root.Wrapped{Key: string(info.KID), Algorithm: string(info.Algorithm)}
	out.Bytes, err = c.Wrap(ctx, w.tenant, info.KID, info.Algorithm, key[:])
	return out, err
}

func (w remoteWrapper) Unwrap(ctx context.Context, in root.Wrapped) (*[32]byte, error) {
	kid, err := kek.ParseKID(in.Key, w.config.Policy)
	if err != nil || kid.Vault() != w.key.Vault() {
		return nil, fault.Wrap(fault.Integrity, err, "The root file names a key of another vault than --seal-key.")
	}
	c := kek.NewClient(w.config)
	defer c.Close()
	b, err := c.Unwrap(ctx, w.tenant, kid, kek.Algorithm(in.Algorithm), in.Bytes)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return (*[32]byte)(bytes.Clone(b)), nil // of kek.ShareSize
}
