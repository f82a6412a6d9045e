package export

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
)

// Azure makes Key Vault's AuditEvent records
// (learn.microsoft.com/azure/key-vault/general/logging).
//
// What the log does not hold is empty: the api-version asked for
// (operationVersion), the client's user agent (clientInfo) and the user's principal
// name. requestUri is put together from the operation and the key, without the
// query. The success of an operation that answers 201 is told as 200.
type Azure struct {
	Suffix string                 // of the vaults' hosts, with the port unless it is 443
	ARM    string                 // origin of Resource Manager: https://management.example.com
	Status func(fault.Reason) int // the HTTP status that the vault's API gives for a reason
}

// An AuditEvent is a record in Azure's shape.
type AuditEvent struct {
	Time              string     `json:"time"`
	ResourceID        string     `json:"resourceId"` // the vault's, in upper case
	OperationName     string     `json:"operationName"`
	OperationVersion  string     `json:"operationVersion"`
	Category          string     `json:"category"`
	ResultType        string     `json:"resultType"`
	ResultSignature   string     `json:"resultSignature"`
	ResultDescription string     `json:"resultDescription"`
	DurationMs        string     `json:"durationMs"` // "" for entries of before it was recorded
	CallerIPAddress   string     `json:"callerIpAddress"`
	CorrelationID     string     `json:"correlationId"`
	Identity          Identity   `json:"identity"`
	Properties        Properties `json:"properties"`
}

// An Identity is who asked, as the token said.
type Identity struct {
	Claim Claim `json:"claim"`
}

// A Claim holds object id and client id.
type Claim struct {
	OID   string `json:"oid,omitempty"`
	AppID string `json:"appid,omitempty"`
}

// Properties are the record's details. Kluis holds what Azure's shape has no place
// for.
type Properties struct {
	ClientInfo     string   `json:"clientInfo"`
	RequestURI     string   `json:"requestUri,omitempty"`
	ID             string   `json:"id,omitempty"` // of the key or its version
	HTTPStatusCode int      `json:"httpStatusCode"`
	Algorithm      string   `json:"algorithm,omitempty"`
	Assignment     string   `json:"appliedAssignmentId,omitempty"` // the role assignment that allowed it
	Kluis          Recorded `json:"kluis"`
}

// Recorded is what the log says beside.
type Recorded struct {
	Sequence int64             `json:"sequence"`
	Outcome  audit.Outcome     `json:"outcome"`
	Reason   fault.Reason      `json:"reason,omitempty"`
	Tenant   string            `json:"tenant,omitempty"`
	Request  string            `json:"request,omitempty"`
	Detail   map[string]string `json:"detail,omitempty"`
}

// azureTime is how Azure writes times: UTC with seven digits.
const azureTime = "2006-01-02T15:04:05.0000000Z"

// signatures are the words for a status, as resultSignature has them.
var signatures = map[int]string{
	200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
	412: "Precondition Failed", 413: "Request Entity Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
	503: "Service Unavailable",
}

// uses are the last parts of requests' paths below a key.
var uses = map[string]string{
	"KeyCreate": "/create", "KeyImport": "", "KeyRotate": "/rotate", "KeyListVersions": "/versions",
	"KeyEncrypt": "/encrypt", "KeyDecrypt": "/decrypt", "KeyWrap": "/wrapkey", "KeyUnwrap": "/unwrapkey",
	"KeySign": "/sign", "KeyVerify": "/verify", "KeyBackup": "/backup",
}

// Record returns an entry as an AuditEvent.
func (a Azure) Record(n audit.Numbered) AuditEvent {
	e := n.Entry
	status := 200
	if e.Outcome != audit.Allowed {
		status = a.Status(e.Reason)
	} else if e.Operation == "KeyPurge" {
		status = 204
	}
	vault, key := split(e.Resource)
	r := AuditEvent{
		Time: e.Time.UTC().Format(azureTime), ResourceID: strings.ToUpper(cmp.Or(vault, e.Resource)),
		OperationName: e.Operation, Category: "AuditEvent", ResultType: "Success",
		ResultSignature: cmp.Or(signatures[status], strconv.Itoa(status)), ResultDescription: string(e.Reason),
		DurationMs: milliseconds(e.Detail["micros"]), CallerIPAddress: e.Address,
		CorrelationID: cmp.Or(e.Correlation, e.Request), Identity: Identity{Claim{OID: e.Principal, AppID: e.Application}},
		Properties: Properties{
			HTTPStatusCode: status, Algorithm: e.Detail["algorithm"], Assignment: e.Detail["assignment"],
			Kluis: Recorded{Sequence: n.Sequence, Outcome: e.Outcome, Reason: e.Reason, Tenant: e.Tenant, Request: e.Request, Detail: e.Detail},
		},
	}
	if e.Outcome != audit.Allowed {
		r.ResultType = "Failed"
	}
	p := &r.Properties
	if vault == "" || !strings.HasPrefix(e.Operation, "Key") {
		if a.ARM != "" && strings.HasPrefix(e.Resource, "/subscriptions/") {
			p.RequestURI = a.ARM + e.Resource
		}
		return r
	}
	base := "https://" + vault[strings.LastIndexByte(vault, '/')+1:] + "." + a.Suffix
	switch part, used := uses[e.Operation]; {
	case key == "" && e.Operation == "KeyListDeleted":
		p.RequestURI = base + "/deletedkeys"
	case key == "":
		p.RequestURI = base + "/keys"
	case e.Operation == "KeyGetDeleted", e.Operation == "KeyPurge":
		p.RequestURI, p.ID = base+"/deletedkeys/"+key, base+"/keys/"+key
	case e.Operation == "KeyRecover":
		p.RequestURI, p.ID = base+"/deletedkeys/"+key+"/recover", base+"/keys/"+key
	default:
		p.ID = base + "/keys/" + key
		v := e.Detail["version"]
		if v != "" {
			p.ID += "/" + v
		}
		switch e.Operation {
		case "KeyCreate", "KeyRotate", "KeyDelete", "KeyListVersions", "KeyBackup":
			p.RequestURI = base + "/keys/" + key + part
		default:
			p.RequestURI = p.ID
			if used {
				p.RequestURI += part
			}
		}
	}
	return r
}

// Format is a [Format].
func (a Azure) Format(n audit.Numbered) ([]byte, error) { return json.Marshal(a.Record(n)) }

// split takes a scope apart: the vault's, and the key's name. Both are "" if it is
// not one of a vault.
func split(resource string) (vault, key string) {
	seg := strings.Split(resource, "/")
	if len(seg) < 9 || !strings.EqualFold(seg[6], "Microsoft.KeyVault") {
		return "", ""
	}
	if len(seg) >= 11 && strings.EqualFold(seg[9], "keys") {
		key = seg[10]
	}
	return strings.Join(seg[:9], "/"), key
}

func milliseconds(micros string) string {
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatInt((n+500)/1000, 10)
}
