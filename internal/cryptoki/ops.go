package cryptoki

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// Info asks for the token's present description.
func (c *Client) Info(ctx context.Context) (Info, error) {
	r, err := c.do(ctx, &Request{Op: OpInfo}, true)
	if err != nil {
		return Info{}, err
	}
	if r.Info == nil {
		return Info{}, fault.New(fault.Internal, "kluis-hsm says nothing of its token.")
	}
	if r.Info.Serial == "" {
		return Info{}, failure(&Response{Code: Unavailable, Detail: r.Detail})
	}
	return *r.Info, nil
}

// Generate makes a key on the token, sensitive and not extractable, and returns
// its public part, PKIX in DER; nil for AES. label is what an HSM's own tools show
// of it, at most 128 bytes. If the answer is lost, so may a key be that nobody
// uses: Generate tries to destroy it.
func (c *Client) Generate(ctx context.Context, spec Spec, label string) (Handle, []byte, error) {
	if err := spec.Check(); err != nil {
		return Handle{}, nil, fault.Wrap(fault.InvalidArgument, err, "There is no such kind or size of key.")
	}
	h, err := c.Place(ctx)
	if err != nil {
		return Handle{}, nil, err
	}
	public, err := c.GenerateAt(ctx, h, spec, label)
	return h, public, err
}

// Place chooses where a key may be made: under a fresh id on the present token.
func (c *Client) Place(ctx context.Context) (Handle, error) {
	info, err := c.Info(ctx)
	return Handle{Token: info.Serial, Key: NewKeyID()}, err
}

// GenerateAt is [Client.Generate] of a key at a place that was chosen before.
func (c *Client) GenerateAt(ctx context.Context, h Handle, spec Spec, label string) ([]byte, error) {
	if err := spec.Check(); err != nil {
		return nil, fault.Wrap(fault.InvalidArgument, err, "There is no such kind or size of key.")
	}
	r, err := c.do(ctx, &Request{Op: OpGenerate, Token: h.Token, Key: h.Key, Label: label, Spec: &spec}, false)
	if err != nil {
		if fault.ReasonOf(err) == fault.Unavailable {
			go c.discard(h)
		}
		return nil, err
	}
	return r.Public, nil
}

// Copy makes a second copy of a key on its token, under a fresh id, which lives and dies
// apart from the first. label is as for [Client.Generate], and so is what happens if
// the answer is lost.
func (c *Client) Copy(ctx context.Context, h Handle, id KeyID, label string) (Handle, error) {
	to := Handle{Token: h.Token, Key: id}
	if _, err := c.do(ctx, &Request{Op: OpCopy, Token: h.Token, Key: h.Key, To: to.Key, Label: label}, false); err != nil {
		if fault.ReasonOf(err) == fault.Unavailable {
			go c.discard(to)
		}
		return Handle{}, err
	}
	return to, nil
}

// discard destroys a key that may have been made.
func (c *Client) discard(h Handle) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.Destroy(ctx, h)
}

// Encrypt wraps or encrypts value with an AES key, under an algorithm of the key's
// size. To wrap, it has 16 bytes or more, a multiple of 8.
func (c *Client) Encrypt(ctx context.Context, h Handle, alg Algorithm, value []byte) ([]byte, error) {
	return c.use(ctx, &Request{Op: OpEncrypt, Token: h.Token, Key: h.Key, Algorithm: alg, Value: value})
}

// Decrypt unwraps or decrypts value with an RSA or AES key.
func (c *Client) Decrypt(ctx context.Context, h Handle, alg Algorithm, value []byte) ([]byte, error) {
	return c.use(ctx, &Request{Op: OpDecrypt, Token: h.Token, Key: h.Key, Algorithm: alg, Value: value})
}

// EncryptWith is Encrypt of an algorithm that takes an initialisation vector or
// additional data.
func (c *Client) EncryptWith(ctx context.Context, h Handle, alg Algorithm, iv, aad, value []byte) ([]byte, error) {
	return c.use(ctx, &Request{Op: OpEncrypt, Token: h.Token, Key: h.Key, Algorithm: alg, IV: iv, AAD: aad, Value: value})
}

// DecryptWith is Decrypt of such an algorithm.
func (c *Client) DecryptWith(ctx context.Context, h Handle, alg Algorithm, iv, aad, value []byte) ([]byte, error) {
	return c.use(ctx, &Request{Op: OpDecrypt, Token: h.Token, Key: h.Key, Algorithm: alg, IV: iv, AAD: aad, Value: value})
}

// Sign signs a digest of the algorithm's own hash.
func (c *Client) Sign(ctx context.Context, h Handle, alg Algorithm, digest []byte) ([]byte, error) {
	return c.use(ctx, &Request{Op: OpSign, Token: h.Token, Key: h.Key, Algorithm: alg, Value: digest})
}

func (c *Client) use(ctx context.Context, r *Request) ([]byte, error) {
	if len(r.Value) > maxValue || len(r.AAD) > maxValue || len(r.IV) > 16 {
		return nil, fault.New(fault.InvalidArgument, "The value is too long for the key.")
	}
	answer, err := c.do(ctx, r, true)
	if err != nil {
		return nil, err
	}
	return answer.Value, nil
}

// Verify has the token check a signature, for keys that Go's library cannot.
func (c *Client) Verify(ctx context.Context, h Handle, alg Algorithm, digest, signature []byte) (bool, error) {
	if len(digest) == 0 || len(digest) > maxValue || len(signature) > maxValue {
		return false, nil
	}
	_, err := c.do(ctx, &Request{Op: OpVerify, Token: h.Token, Key: h.Key, Algorithm: alg, Value: digest, Signature: signature}, true)
	if fault.ReasonOf(err) == fault.InvalidArgument {
		return false, nil
	}
	return err == nil, err
}

// Destroy removes the key from the token for good. It is no error if the token
// does not hold it.
func (c *Client) Destroy(ctx context.Context, h Handle) error {
	_, err := c.do(ctx, &Request{Op: OpDestroy, Token: h.Token, Key: h.Key}, true)
	if fault.ReasonOf(err) == fault.Integrity {
		return nil
	}
	return err
}

// Random returns n bytes of the token's own random source, 1 to [MaxRandom].
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > MaxRandom {
		return nil, fault.New(fault.InvalidArgument, "At most 128 random bytes are given at once.")
	}
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.do(ctx, &Request{Op: OpRandom, Token: info.Serial, Count: n}, true)
	if err != nil {
		return nil, err
	}
	return r.Value, nil
}

// NewWrappingKey makes an AES key of 256 bits for [Client.Wrap]: what a party's
// root can be sealed under. The caller keeps the handle.
func (c *Client) NewWrappingKey(ctx context.Context, label string) (Handle, error) {
	h, _, err := c.Generate(ctx, Spec{Kind: AES, Bits: 256}, label)
	return h, err
}

// Wrap wraps 32 bytes under a key of [Client.NewWrappingKey], as RFC 3394 says:
// 40 bytes. It carries no context; what must be bound to one needs a seal of its own.
func (c *Client) Wrap(ctx context.Context, h Handle, key *[32]byte) ([]byte, error) {
	return c.Encrypt(ctx, h, A256KW, key[:])
}

// Unwrap is the reverse. [fault.InvalidArgument] says that wrapped was not made
// under h, or is damaged.
func (c *Client) Unwrap(ctx context.Context, h Handle, wrapped []byte) (*[32]byte, error) {
	if len(wrapped) != 40 {
		return nil, fault.New(fault.InvalidArgument, "The wrapped key is not of 40 bytes.")
	}
	b, err := c.Decrypt(ctx, h, A256KW, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	if len(b) != 32 {
		return nil, fault.New(fault.Integrity, "The HSM returned another number of bytes than it was given.")
	}
	return (*[32]byte)(append([]byte(nil), b...)), nil
}
