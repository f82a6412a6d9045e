package portal

import (
	"context"
	"errors"
	"net/http"
)

// A User is who has signed in, as the issuer of his tokens names him.
type User struct {
	Name   string // for people
	ID     string // the object id
	Tenant string // the directory's id
}

// A Session is somebody who has signed in, and his way to tokens. It is used by one
// request, but by several goroutines of it.
type Session interface {
	User() User
	// Token returns an access token of the user's for an audience, such as
	// "https://vault.azure.net". An error means that he has to sign in again, if it is
	// [ErrSignIn], and otherwise that the issuer cannot be asked.
	Token(ctx context.Context, audience string) (string, error)
	// Refused tells that a party has refused an access token before its time.
	Refused(audience, token string)
}

// Sessions knows who has signed in. It serves the paths below [SessionPath]: whatever
// signing in needs, and a POST of "signout".
type Sessions interface {
	http.Handler

	// Session returns the request's session, nil if nobody has signed in. It may renew
	// the session's cookie.
	Session(w http.ResponseWriter, r *http.Request) Session

	// Begin answers a request that needs somebody with the way to sign in, which ends at
	// the local path returnTo.
	Begin(w http.ResponseWriter, r *http.Request, returnTo string)
}

// SessionPath is where [Sessions] are served.
const SessionPath = "/session/"

type signInError struct{}

func (signInError) Error() string { return "the session has ended" }

// ErrSignIn says that a session's user has to sign in again.
var ErrSignIn error = signInError{}

// watched notes that a session has ended, whatever a page makes of the error.
type watched struct {
	Session
	call *Call
}

func (w watched) Token(ctx context.Context, audience string) (string, error) {
	token, err := w.Session.Token(ctx, audience)
	if errors.Is(err, ErrSignIn) {
		w.call.ended.Store(true)
	}
	return token, err
}
