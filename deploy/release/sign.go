package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/blake2b"
)

const sumsFile = "SHA256SUMS"

// sign writes the checksums of all that was made and, if there is a key, a signature
// that minisign verifies (https://jedisct1.github.io/minisign/, prehashed).
func (r release) sign(keyFile string) error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), e.Name())
	}
	if err := os.WriteFile(filepath.Join(r.out, sumsFile), sums.Bytes(), 0o644); err != nil {
		return err
	}
	if keyFile == "" {
		fmt.Println("nothing is signed: give the signer's key with -key")
		return nil
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("%s holds no key of %d bytes in hexadecimal digits", keyFile, ed25519.SeedSize)
	}
	defer clear(seed)
	signature, public := minisign(ed25519.NewKeyFromSeed(seed), sums.Bytes(), "kluis "+r.version)
	if err := os.WriteFile(filepath.Join(r.out, sumsFile+".minisig"), []byte(signature), 0o644); err != nil {
		return err
	}
	fmt.Println("verify with: minisign -Vm", sumsFile, "-P", public)
	return nil
}

// minisign returns a signature of a message in minisign's form, and the public key.
func minisign(key ed25519.PrivateKey, message []byte, comment string) (signature, public string) {
	pub := key.Public().(ed25519.PublicKey)
	id := sha256.Sum256(pub)
	hash := blake2b.Sum512(message)
	sig := ed25519.Sign(key, hash[:])
	global := ed25519.Sign(key, slices.Concat(sig, []byte(comment)))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("untrusted comment: signature of a kluis release\n%s\ntrusted comment: %s\n%s\n",
		b64(slices.Concat([]byte("ED"), id[:8], sig)), comment, b64(global)), b64(slices.Concat([]byte("Ed"), id[:8], pub))
}
