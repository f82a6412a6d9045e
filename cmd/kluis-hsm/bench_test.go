//go:build cgo

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/softhsmtest"
)

// BenchmarkUnwrap sets unwraps through the helper, both ends of the socket included,
// beside the bare operation of SoftHSM. The figure that counts is operations per
// second of processor time.
func BenchmarkUnwrap(b *testing.B) {
	soft := softhsmtest.New(b)
	b.Setenv("SOFTHSM2_CONF", soft.Conf)
	lib := pkcs11.New(soft.Module)
	if lib == nil {
		b.Fatal("SoftHSM does not load")
	}
	if err := lib.Initialize(); err != nil {
		b.Fatal(err)
	}
	defer lib.Finalize()
	tok := newToken(config{label: soft.Label, pinFile: soft.PINFile, sessions: 8}, lib, quiet)
	go tok.keepOpen(b.Context())
	socket, _ := start(b, tok, quiet)
	client := cryptoki.New(cryptoki.Config{Socket: socket})
	defer client.Close()
	share := bytes.Repeat([]byte{7}, 32)

	for _, spec := range []cryptoki.Spec{
		{Kind: cryptoki.RSA, Bits: 2048}, {Kind: cryptoki.RSA, Bits: 3072}, {Kind: cryptoki.RSA, Bits: 4096}, {Kind: cryptoki.AES, Bits: 256},
	} {
		h, der, err := client.Generate(b.Context(), spec, "benchmark")
		if err != nil {
			b.Fatal(err)
		}
		alg := cryptoki.A256KW
		var wrapped []byte
		if spec.Kind == cryptoki.RSA {
			alg = cryptoki.RSAOAEP256
			public, err := x509.ParsePKIXPublicKey(der)
			if err != nil {
				b.Fatal(err)
			}
			wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), share, nil)
			if err != nil {
				b.Fatal(err)
			}
		} else if wrapped, err = client.Encrypt(b.Context(), h, alg, share); err != nil {
			b.Fatal(err)
		}
		b.Run(spec.String()+"/helper", func(b *testing.B) {
			b.SetParallelism(4)
			began := cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if p, err := client.Decrypt(b.Context(), h, alg, wrapped); err != nil || !bytes.Equal(p, share) {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/(cpu(b)-began).Seconds(), "ops/cpu-s")
		})
		// The bare operation: no padding, no pool, one session. Of an AES key it is
		// the 24 blocks that RFC 3394 needs.
		b.Run(spec.String()+"/bare", func(b *testing.B) {
			o, err := tok.ready(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			k, err := tok.object(o, o.anchor, h.Key)
			if err != nil {
				b.Fatal(err)
			}
			began := cpu(b)
			for b.Loop() {
				if err := bare(lib, o.anchor, k, wrapped); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/(cpu(b)-began).Seconds(), "ops/cpu-s")
		})
	}
}

func bare(lib *pkcs11.Ctx, s pkcs11.SessionHandle, k *object, wrapped []byte) error {
	if k.kind == cryptoki.RSA {
		if err := lib.DecryptInit(s, mechanism(pkcs11.CKM_RSA_X_509, nil), k.private); err != nil {
			return err
		}
		_, err := lib.Decrypt(s, wrapped)
		return err
	}
	if err := lib.DecryptInit(s, mechanism(pkcs11.CKM_AES_ECB, nil), k.private); err != nil {
		return err
	}
	for range 24 {
		if _, err := lib.DecryptUpdate(s, wrapped[:16]); err != nil {
			return err
		}
	}
	_, err := lib.DecryptFinal(s)
	return err
}

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
