package audit

import (
	"context"

	"github.com/google/uuid"
)

type requestKey struct{}

// WithRequest returns a context of what is done for a request or a job, by the party's
// own id of it: entries about it have the id as their Request, and a question that it
// makes another party answer carries the id there, where it is the Correlation.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestOf returns the id of the request or job that ctx belongs to, "" outside one.
func RequestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// WithJob returns a context of something that a party does by itself, under a new id.
func WithJob(ctx context.Context) context.Context { return WithRequest(ctx, uuid.NewString()) }
