package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/vault/securitydomain"
)

// domainVersion is the api-version of the security domain's protocol.
const domainVersion = "7.5"

var securityDomain = nest("security-domain", "Take a managed HSM's security domain out in shares, which activates it, and bring one in",
	domainInit, domainDownload, domainVerify, domainRestore)

// onHSM makes a command about the managed HSM of a name.
func (s *session) onHSM(use, short, long string, run func(ctx context.Context, o *sdk.Officer, hsm string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			s.hsm = true
			return run(ctx, o, args[0])
		}),
	}
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

const (
	officerBits = 3072
	officerLife = 20 * 365 * 24 * time.Hour // nobody looks at it; some tools show it
)

func domainInit(s *session) *cobra.Command {
	var dir string
	var n int
	c := &cobra.Command{
		Use:   "init-keys",
		Short: "Make officers' RSA keys with their certificates, for trying out",
		Long: `Make RSA keys for the officers of a security domain: NAME.pem, the private key,
and NAME.cer, its certificate, as 'az keyvault security-domain' takes them too.

In earnest each officer makes his own, on a machine of his own, and hands over
the certificate alone:

  openssl req -newkey rsa:3072 -nodes -keyout anna.pem -x509 -days 7300 -subj /CN=anna -out anna.cer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < securitydomain.MinOfficers || n > securitydomain.MaxOfficers {
				return usage("-n is %d to %d", securitydomain.MinOfficers, securitydomain.MaxOfficers)
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			var rows [][]string
			var made []map[string]string
			for i := range n {
				name := fmt.Sprintf("officer%d", i+1)
				thumbprint, err := newOfficer(filepath.Join(dir, name), name)
				if err != nil {
					return err
				}
				rows = append(rows, []string{name + ".pem", name + ".cer", thumbprint})
				made = append(made, map[string]string{"privateKey": name + ".pem", "certificate": name + ".cer", "thumbprint": thumbprint})
			}
			return s.show(made, "PRIVATE KEY,CERTIFICATE,THUMBPRINT", rows)
		},
	}
	c.Flags().StringVar(&dir, "dir", "officers", "the `DIR`ectory to put them in")
	c.Flags().IntVarP(&n, "number", "n", securitydomain.MinOfficers, "how many")
	return c
}

// newOfficer writes a key and its certificate, and returns the certificate's
// thumbprint.
func newOfficer(path, name string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, officerBits)
	if err != nil {
		return "", err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(officerLife),
		KeyUsage: x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	defer clear(private)
	if err != nil {
		return "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(text)
	if err := writeNew(path+".pem", text, 0o600); err != nil {
		return "", err
	}
	return securitydomain.Thumbprint(cert), writeNew(path+".cer", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if b, _ := pem.Decode(text); b != nil && b.Type == "CERTIFICATE" {
		text = b.Bytes
	}
	cert, err := x509.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate, in PEM or DER", path)
	}
	return cert, nil
}

// readOfficer reads a private key, and the certificate of the same name beside it.
func readOfficer(path string) (o securitydomain.Officer, err error) {
	cert := strings.TrimSuffix(path, filepath.Ext(path)) + ".cer"
	if o.Certificate, err = readCertificate(cert); err != nil {
		return o, err
	}
	text, err := os.ReadFile(path)
	defer clear(text)
	if err != nil {
		return o, err
	}
	b, _ := pem.Decode(text)
	if b == nil {
		return o, fmt.Errorf("%s holds no private key in PEM, without a passphrase", path)
	}
	defer clear(b.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(b.Bytes); err != nil {
			return o, fmt.Errorf("%s holds no RSA key in PKCS #8 or PKCS #1, without a passphrase", path)
		}
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(o.Certificate.PublicKey) {
		return o, fmt.Errorf("%s is not the private key of %s", path, cert)
	}
	o.Key = private
	return o, nil
}

func readFew(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, securitydomain.MaxFile+1))
}

func domainDownload(s *session) *cobra.Command {
	var file string
	var certificates []string
	var quorum int
	c := s.onHSM("download NAME", "Take the security domain out, in shares for officers, which activates the managed HSM",
		`Take a managed HSM's security domain out. Each officer's share is encrypted to his
certificate; a quorum of their private keys brings the domain into another managed
HSM, where backups of this one's keys can be restored then.

A managed HSM does nothing with keys before. It may be done again, for other
officers; earlier files stay good.

  kluis vault security-domain download steel --file steel.domain --quorum 2 \
    --officer anna.cer --officer bram.cer --officer carla.cer`,
		func(ctx context.Context, o *sdk.Officer, hsm string) error {
			var in struct {
				Certificates []map[string]any `json:"certificates"`
				Required     int              `json:"required"`
			}
			var all []*x509.Certificate
			for _, path := range certificates {
				cert, err := readCertificate(path)
				if err != nil {
					return err
				}
				all = append(all, cert)
			}
			if err := securitydomain.Check(all, quorum); err != nil {
				return err
			}
			for _, cert := range all {
				key := cert.PublicKey.(*rsa.PublicKey)
				in.Certificates = append(in.Certificates, map[string]any{
					"kid": securitydomain.Thumbprint(cert), "kty": "RSA", "key_ops": []string{"wrapKey", "encrypt"}, "alg": "RSA-OAEP-256",
					"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
					"x5c": []string{base64.StdEncoding.EncodeToString(cert.Raw)}, "x5t#S256": securitydomain.Thumbprint(cert),
				})
			}
			in.Required = quorum
			if _, err := os.Lstat(file); err == nil {
				return fmt.Errorf("%s is there already", file)
			}
			var out struct{ Value string }
			if err := s.custody(ctx, o, hsm, http.MethodPost, "securitydomain/download?api-version="+domainVersion, in, &out); err != nil {
				return err
			}
			if err := writeNew(file, []byte(out.Value), 0o600); err != nil {
				return err
			}
			return s.done("The security domain of managed HSM %s is in %s, in %d shares of which it takes %d. The HSM is active.", hsm, file, len(all), quorum)
		})
	f := c.Flags()
	f.StringVar(&file, "file", "", "the `FILE` to write")
	f.StringArrayVar(&certificates, "officer", nil, "the `FILE` of an officer's certificate, once for each")
	f.IntVar(&quorum, "quorum", securitydomain.MinQuorum, "how many officers it takes")
	c.MarkFlagRequired("file")
	c.MarkFlagRequired("officer")
	return c
}

// openFlags declares what opens a security domain.
func openFlags(c *cobra.Command, file *string, keys *[]string) {
	c.Flags().StringVar(file, "file", "", "the `FILE` that was downloaded")
	c.Flags().StringArrayVar(keys, "key", nil, "the `FILE` of an officer's private key, with his certificate beside it as .cer; once for each")
	c.MarkFlagRequired("file")
	c.MarkFlagRequired("key")
}

// openDomain opens a security domain with officers' private keys.
func openDomain(file string, keys []string) (text, secret []byte, err error) {
	if text, err = readFew(file); err != nil {
		return nil, nil, err
	}
	var officers []securitydomain.Officer
	for _, path := range keys {
		o, err := readOfficer(path)
		if err != nil {
			return nil, nil, err
		}
		officers = append(officers, o)
	}
	secret, err = securitydomain.Open(text, officers)
	return text, secret, err
}

func domainVerify(s *session) *cobra.Command {
	var file string
	var keys []string
	c := &cobra.Command{
		Use:   "verify",
		Short: "See that a quorum of officers opens a security domain, without a server, and restore nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, secret, err := openDomain(file, keys)
			defer clear(secret)
			if err != nil {
				return err
			}
			var of struct{ ID, HSM string }
			if err := json.Unmarshal(secret, &of); err != nil {
				return err
			}
			info, err := securitydomain.Describe(text)
			if err != nil {
				return err
			}
			answer := map[string]any{"id": of.ID, "managedHSM": of.HSM, "quorum": info.Quorum, "officers": info.Officers}
			return s.show(answer, "SECURITY DOMAIN,OF MANAGED HSM,QUORUM,OFFICERS",
				[][]string{{of.ID, of.HSM, fmt.Sprint(info.Quorum), fmt.Sprint(len(info.Officers))}})
		},
	}
	openFlags(c, &file, &keys)
	return c
}

func domainRestore(s *session) *cobra.Command {
	var file string
	var keys []string
	c := s.onHSM("restore NAME", "Bring a security domain into a managed HSM that is not active yet, with a quorum of private keys",
		`Bring a security domain into a new managed HSM, in this installation or another, and
activate it. The domain is opened here, with a quorum of the officers' private keys,
and encrypted to the HSM's transfer key. Backups of the old HSM's keys can be restored
then: 'kluis key restore NAME --hsm --file BACKUP'.

Where the officers do not come together at one machine with the server in reach, do
the same with 'az keyvault security-domain init-recovery, restore-blob, upload'.`,
		func(ctx context.Context, o *sdk.Officer, hsm string) error {
			_, secret, err := openDomain(file, keys)
			defer clear(secret)
			if err != nil {
				return err
			}
			path := "securitydomain/upload?api-version=" + domainVersion
			var transfer struct {
				Key string `json:"transfer_key"`
			}
			if err := s.custody(ctx, o, hsm, http.MethodGet, path, nil, &transfer); err != nil {
				return err
			}
			cert, err := transferCertificate(transfer.Key)
			if err != nil {
				return err
			}
			blob, err := securitydomain.Wrap(secret, cert)
			if err != nil {
				return err
			}
			if err := s.custody(ctx, o, hsm, http.MethodPost, path, map[string]string{"value": string(blob)}, nil); err != nil {
				return err
			}
			return s.done("Managed HSM %s has the security domain, and is active. To bring a key back: kluis key restore %s --hsm --file BACKUP", hsm, hsm)
		})
	openFlags(c, &file, &keys)
	return c
}

// transferCertificate reads the certificate in a transfer key's JWK.
func transferCertificate(jwk string) (*x509.Certificate, error) {
	var key struct {
		Chain []string `json:"x5c"`
	}
	bad := errors.New("the managed HSM's transfer key is not understood")
	if err := json.Unmarshal([]byte(jwk), &key); err != nil || len(key.Chain) == 0 {
		return nil, bad
	}
	der, err := base64.StdEncoding.DecodeString(key.Chain[0])
	if err != nil {
		return nil, bad
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, bad
	}
	return cert, nil
}
