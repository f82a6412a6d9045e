package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kluis-io/kluis/portal"
)

// A provider is an issuer as its discovery document describes it.
type provider struct {
	oauth      oauth2.Config
	verifier   *oidc.IDTokenVerifier
	endSession string
}

// issuerTimeout bounds one question to the issuer.
const issuerTimeout = 15 * time.Second

// maxAnswer bounds what an issuer answers, in bytes.
const maxAnswer = 1 << 20

// issuer returns the provider, which is asked once it is needed.
func (s *Sessions) issuer(ctx context.Context) (*provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider != nil {
		return s.provider, nil
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, s.config.HTTP), issuerTimeout)
	defer cancel()
	found, err := oidc.NewProvider(ctx, s.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("session: the issuer's description: %w", err)
	}
	var more struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("session: the issuer's description: %w", err)
	}
	endpoint := found.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	for _, address := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		if !strings.HasPrefix(address, "https://") {
			return nil, fmt.Errorf("session: the issuer's address %q is no https address", address)
		}
	}
	scopes := []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess}
	if first := s.config.Scope(s.config.First); s.config.First != "" && first != "" {
		scopes = append(scopes, first)
	}
	s.provider = &provider{
		oauth: oauth2.Config{
			ClientID: s.config.Client, ClientSecret: s.config.ClientSecret, Endpoint: endpoint,
			RedirectURL: s.config.Origin + Callback, Scopes: scopes,
		},
		verifier:   found.Verifier(&oidc.Config{ClientID: s.config.Client, Now: s.config.Now}),
		endSession: more.EndSession,
	}
	return s.provider, nil
}

// tokens are what an issuer answers to a refresh token (RFC 6749 §5.1).
type tokens struct {
	Access  string      `json:"access_token"`
	Refresh string      `json:"refresh_token"`
	Expires json.Number `json:"expires_in"`
	Type    string      `json:"token_type"`
	Error   string      `json:"error"`
}

func (t tokens) life() time.Duration {
	n, err := t.Expires.Int64()
	if err != nil || n < 0 || n > 24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// refresh asks for an access token of a scope (RFC 6749 §6), which package oauth2 cannot.
// It fails with [portal.ErrSignIn] if the issuer has decided that there is none.
func (s *Sessions) refresh(ctx context.Context, p *provider, refresh, scope string) (tokens, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {p.oauth.ClientID}}
	if p.oauth.ClientSecret != "" {
		form.Set("client_secret", p.oauth.ClientSecret)
	}
	if scope != "" {
		form.Set("scope", strings.Join([]string{"openid profile offline_access", scope}, " "))
	}
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.oauth.Endpoint.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := s.config.HTTP.Do(req)
	if err != nil {
		return tokens{}, fmt.Errorf("session: the issuer does not answer: %w", err)
	}
	defer res.Body.Close()
	var t tokens
	err = json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&t)
	switch {
	case err == nil && res.StatusCode == http.StatusOK && t.Access != "" && strings.EqualFold(t.Type, "bearer"):
		return t, nil
	case err == nil && ends(t.Error):
		return tokens{}, portal.ErrSignIn
	}
	return tokens{}, fmt.Errorf("session: the issuer answers %d %s to a refresh token", res.StatusCode, t.Error)
}

// ends reports whether an issuer's error is a decision about the session, and no failure.
func ends(code string) bool {
	switch code {
	case "invalid_grant", "interaction_required", "login_required", "consent_required":
		return true
	}
	return false
}
