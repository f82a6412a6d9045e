package root_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/root"
)

// A keeper wraps by XOR with a byte, and says and does what the test wants.
type keeper struct {
	with byte
	err  error // of every answer
}

func (k *keeper) Wrap(_ context.Context, key *[32]byte) (root.Wrapped, error) {
	w := root.Wrapped{Key: "token/1", Algorithm: "XOR", Bytes: make([]byte, 32)}
	for i := range key {
		w.Bytes[i] = key[i] ^ k.with
	}
	return w, k.err
}

func (k *keeper) Unwrap(_ context.Context, w root.Wrapped) (*[32]byte, error) {
	if k.err != nil {
		return nil, k.err
	}
	if len(w.Bytes) != 32 {
		return nil, fault.New(fault.InvalidArgument, "not mine")
	}
	out := new([32]byte)
	for i := range out {
		out[i] = w.Bytes[i] ^ k.with
	}
	return out, nil
}

func TestWrapped(t *testing.T) {
	for typ, seal := range map[root.SealType]func(context.Context, root.Wrapper) root.Seal{
		root.TokenType: root.Token, root.RemoteKeyType: root.RemoteKey,
	} {
		k := &keeper{with: 7}
		path, r, shares := create(t, seal(t.Context(), k))
		opened, err := root.Open(path, seal(t.Context(), k))
		if err != nil {
			t.Fatal(err)
		}
		same(t, opened, r)
		if got, id, err := root.Sealed(path); got != typ || id != r.ID() || err != nil || opened.SealType() != typ {
			t.Errorf("sealed as %s, root %s, %v", got, id, err)
		}

		// Who refuses and who does not answer come out as they are.
		for _, reason := range []fault.Reason{fault.KEKRefused, fault.KEKUnreachable, fault.Unavailable, fault.KeyOperationForbidden} {
			k.err = fault.New(reason, "")
			_, err := root.Open(path, seal(t.Context(), k))
			wantReason(t, "open", err, reason)
			before, _ := os.ReadFile(path)
			wantReason(t, "reseal", r.Reseal(path, seal(t.Context(), k)), reason)
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Error("a reseal that failed touched the file")
			}
		}
		k.err = nil
		_, err = root.Open(path, seal(t.Context(), &keeper{with: 8}))
		wantReason(t, "another key", err, fault.Denied)
		_, err = root.Open(path, passphrase)
		wantReason(t, "a passphrase", err, fault.InvalidArgument)

		// The token is lost: the shares open it, under another seal.
		again, err := root.Recover(path, instance, shares, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, r)
	}
}

func TestWrappedFieldsAreBound(t *testing.T) {
	k := &keeper{with: 7}
	path, _, _ := create(t, root.Token(t.Context(), k))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(seal, wrapped map[string]any)
		want   fault.Reason
	}{
		"key":        {func(_, w map[string]any) { w["key"] = "token/2" }, fault.Denied},
		"algorithm":  {func(_, w map[string]any) { w["algorithm"] = "ROR" }, fault.Denied},
		"bytes":      {func(_, w map[string]any) { w["bytes"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }, fault.Denied},
		"length":     {func(_, w map[string]any) { w["bytes"] = "AAAA" }, fault.InvalidArgument},
		"no bytes":   {func(_, w map[string]any) { w["bytes"] = "" }, fault.Integrity},
		"no key":     {func(_, w map[string]any) { w["key"] = "" }, fault.Integrity},
		"line break": {func(_, w map[string]any) { w["key"] = "a\nb" }, fault.Integrity},
		"none":       {func(s, _ map[string]any) { delete(s, "wrapped") }, fault.Integrity},
		"passphrase": {func(s, _ map[string]any) { s["argon2id"] = map[string]any{"time": 1} }, fault.Integrity},
		"of a passphrase's file": {func(s, _ map[string]any) {
			s["type"], s["argon2id"] = "passphrase", map[string]any{"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "time": 1, "memory": 64, "threads": 1}
		}, fault.Integrity},
	} {
		var f map[string]any
		if err := json.Unmarshal(good, &f); err != nil {
			t.Fatal(err)
		}
		seal := f["seal"].(map[string]any)
		test.change(seal, seal["wrapped"].(map[string]any))
		b, _ := json.Marshal(f)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := root.Open(path, root.Token(t.Context(), k))
		wantReason(t, name, err, test.want)
	}
}

// What cannot be kept is not written.
func TestWrapperWithoutKey(t *testing.T) {
	bad := wrapper(func() (root.Wrapped, error) { return root.Wrapped{}, nil })
	path := t.TempDir() + "/root"
	_, _, err := root.Create(path, instance, root.RemoteKey(t.Context(), bad))
	wantReason(t, "create", err, fault.Integrity)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file was left: %v", err)
	}
}

type wrapper func() (root.Wrapped, error)

func (w wrapper) Wrap(context.Context, *[32]byte) (root.Wrapped, error) { return w() }

func (wrapper) Unwrap(context.Context, root.Wrapped) (*[32]byte, error) {
	return nil, errors.New("never asked")
}
