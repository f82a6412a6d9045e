package blob

import (
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// lease answers Lease Blob.
func (s *server) lease(c *call) error {
	r, err := storagewire.ParseLease(c.r.Header)
	if err != nil {
		return err
	}
	p, err := s.lake.Lease(c.r.Context(), c.caller, c.path, r)
	if err != nil {
		return err
	}
	storagewire.AnswerLease(c.w, r.Action, p)
	return nil
}

// setTier answers Set Blob Tier. In a workspace there is one; as in OneLake the wish
// is named as ignored, not refused.
func (s *server) setTier(c *call) error {
	if c.r.Header.Get("x-ms-access-tier") == "" {
		return storagewire.Coded(fault.InvalidArgument, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-access-tier.")
	}
	conditions, err := storagewire.ParseConditions(c.r.Header, "")
	if err != nil {
		return err
	}
	if s.config.Storage() != "" {
		t, err := storagewire.ParseTier(c.r.Header)
		if err != nil {
			return err
		}
		was, err := s.lake.SetTier(c.r.Context(), c.caller, c.path, t, conditions)
		if err != nil {
			return err
		}
		status := http.StatusOK
		if was == lake.Archive && t != was { // as of what Azure brings back within hours
			status = http.StatusAccepted
		}
		c.w.Header().Set("Content-Length", "0")
		c.w.WriteHeader(status)
		return nil
	}
	if _, err := s.lake.Stat(c.r.Context(), c.caller, c.path, conditions); err != nil {
		return err
	}
	storagewire.SetRejected(c.w, c.r, "x-ms-access-tier")
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// accountInfo answers Get Account Information, which says the same wherever in the
// account it is asked.
func (s *server) accountInfo(c *call) error {
	c.w.Header().Set("x-ms-sku-name", "Standard_LRS")
	c.w.Header().Set("x-ms-account-kind", "StorageV2")
	c.w.Header().Set("x-ms-is-hns-enabled", "true")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// maxKeyInfo bounds the body that asks for a user delegation key, in bytes.
const maxKeyInfo = 4 << 10

type keyInfo struct {
	XMLName xml.Name `xml:"KeyInfo"`
	Start   string
	Expiry  string
	User    string `xml:"DelegatedUserTid"`
}

type userDelegationKey struct {
	XMLName       xml.Name `xml:"UserDelegationKey"`
	SignedOid     string
	SignedTid     string
	SignedStart   string
	SignedExpiry  string
	SignedService string
	SignedVersion string
	Value         string
}

// delegationKey answers Get User Delegation Key.
func (s *server) delegationKey(c *call) error {
	if _, err := storagewire.CheckLength(c.r, maxKeyInfo); err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(c.r.Body, maxKeyInfo))
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, err, "The request body could not be read.")
	}
	var info keyInfo
	if err := xml.Unmarshal(body, &info); err != nil {
		return invalidXML(err)
	}
	if info.User != "" { // a key that is not bound as its client thinks would give more
		return storagewire.Coded(fault.Denied, "AuthenticationFailed", "User delegation keys for users of a tenant are not offered.")
	}
	expiry, err := parseDelegationTime(info.Expiry)
	if err != nil {
		return err
	}
	start, err := parseDelegationTime(info.Start)
	if err != nil {
		return err
	}
	version := c.r.Header.Get("x-ms-version")
	if version == "" {
		version = c.w.Header().Get("x-ms-version")
	}
	k, err := s.lake.DelegationKey(c.r.Context(), c.caller, s.config.Account, start, expiry, version)
	if err != nil {
		return err
	}
	value, err := s.lake.DelegationValue(k)
	if err != nil {
		return err
	}
	writeXML(c.w, http.StatusOK, userDelegationKey{
		SignedOid: string(k.Principal), SignedTid: string(k.Tenant),
		SignedStart: k.Start.Format(delegationTime), SignedExpiry: k.Expiry.Format(delegationTime),
		SignedService: k.Service, SignedVersion: k.Version,
		Value: base64.StdEncoding.EncodeToString(value),
	})
	return nil
}
