// Package storetest is the conformance suite of the stores: one function a
// domain, which every implementation's tests call with a way to open it.
package storetest

import (
	"context"
	"testing"
)

// transactional is what every domain's Store is.
type transactional[Tx any] interface {
	View(context.Context, func(Tx) error) error
	Update(context.Context, func(Tx) error) error
}

// view and update run a transaction that must succeed.

func view[Tx any, S transactional[Tx]](t *testing.T, s S, fn func(Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func update[Tx any, S transactional[Tx]](t *testing.T, s S, fn func(Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
