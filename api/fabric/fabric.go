// Package fabric speaks the part of Fabric's REST API (v1) that workspaces under
// customer-managed keys need: workspaces, their role assignments, items with
// definitions, capacities, tenant settings, workspace encryption and the
// administrator's list of it (learn.microsoft.com/rest/api/fabric).
//
// Every answer that is not a success is Fabric's error body with an errorCode:
// clients of the published Go module crash on any other, so unknown routes,
// methods and panics are answered in that shape too.
//
// # Beyond Fabric
//
// The encryption of a workspace tells more than Fabric's five states, as additional
// fields that its clients skip: how the scope serves and why not, the key version
// in use, progress as a whole and per item, which key versions may be disabled, the
// kill-switch bound, and what is wrong with the key. A revoked or unreachable
// workspace keeps its state of encryption on Fabric's fields. Calls of ours lie
// beside Fabric's, below encryption, jobs and labels. A storage account is a scope as a
// workspace is: below storageAccounts stands what Resource Manager has no words for.
package fabric

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

// Audience is the one for which Fabric's clients ask their tokens.
const Audience = "https://api.fabric.microsoft.com"

// Limits of a request's body, in bytes.
const (
	bodyLimit       = 64 << 10
	definitionLimit = 16 << 20 // base64 of workspace.MaxDefinition, with room
)

// Encryption is the state machine of workspaces' encryption. An
// encryption.Scopes is one.
type Encryption interface {
	Assign(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, keyIdentifier string) error
	Reset(ctx context.Context, caller identity.Caller, scope encryption.ScopeID) error
	Status(ctx context.Context, caller identity.Caller, scope encryption.ScopeID) (encryption.Status, error)
	Summary(ctx context.Context, caller identity.Caller, scope encryption.ScopeID) (encryption.Status, error)
	Items(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, q encryption.ItemQuery) (page []encryption.ItemStatus, more bool, err error)

	Reseal(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, keyIdentifier string) error
	Rotate(ctx context.Context, caller identity.Caller, scope encryption.ScopeID) (generation int64, err error)
	Preview(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, keyIdentifier string) (encryption.Preview, error)
	Revalidate(ctx context.Context, caller identity.Caller, scope encryption.ScopeID) error
	SetBound(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, bound time.Duration) error
	DeclareKeyLost(ctx context.Context, caller identity.Caller, scope encryption.ScopeID, lost bool) error
	Impact(ctx context.Context, caller identity.Caller, keyIdentifier string) ([]encryption.Status, error)
}

// Config says how the API is reached and what it tells of others.
type Config struct {
	Audiences    []string // that a token may have besides [Audience]
	BlobEndpoint string   // of the lake, without a slash at the end; told with each workspace
	DFSEndpoint  string
	PageSize     int // of listings; 100 if 0

	// Accounts and Containers are the storage accounts, of whose encryption this tells as
	// it does of workspaces'; nil: there are none.
	Accounts   Accounts
	Containers Containers

	// Scrub tells what the lake's scrub has done; nil: there is none.
	Scrub Scrubber

	// Rate and Burst are how many requests one principal may make, a second and at
	// once; 50 and 500 if 0. More are answered 429.
	Rate  float64
	Burst int
}

type handler struct {
	ws        *workspace.Workspaces
	enc       Encryption
	tokens    api.Tokens
	config    Config
	audiences []string
	throttle  throttle
	mux       *http.ServeMux
}

// A call is one authenticated request.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	caller identity.Caller
}

// An operation answers a call, or returns why not before anything is written.
type operation func(*call) error

// New returns the handler of everything below /v1.
func New(ws *workspace.Workspaces, enc Encryption, tokens api.Tokens, c Config) http.Handler {
	if c.PageSize == 0 {
		c.PageSize = 100
	}
	h := &handler{
		ws: ws, enc: enc, tokens: tokens, config: c, mux: http.NewServeMux(), throttle: newThrottle(c.Rate, c.Burst),
		audiences: append([]string{Audience, Audience + "/"}, c.Audiences...),
	}
	h.routes()
	return h
}

func (h *handler) routes() {
	on := h.on
	on("/v1/workspaces", methods{"GET": (*call).listWorkspaces, "POST": (*call).createWorkspace})
	on("/v1/workspaces/{w}", methods{
		"GET": (*call).getWorkspace, "PATCH": (*call).updateWorkspace, "DELETE": (*call).deleteWorkspace,
	})
	on("/v1/workspaces/{w}/roleAssignments", methods{"GET": (*call).listRoles, "POST": (*call).addRole})
	on("/v1/workspaces/{w}/roleAssignments/{id}", methods{
		"GET": (*call).getRole, "PATCH": (*call).updateRole, "DELETE": (*call).deleteRole,
	})
	on("/v1/workspaces/{w}/assignToCapacity", methods{"POST": (*call).assignCapacity})
	on("/v1/workspaces/{w}/unassignFromCapacity", methods{"POST": (*call).unassignCapacity})
	on("/v1/workspaces/{w}/setLabel", methods{"POST": (*call).labelWorkspace})
	on("/v1/workspaces/{w}/folders", methods{"GET": (*call).listFolders, "POST": (*call).createFolder})
	on("/v1/workspaces/{w}/folders/{f}", methods{
		"GET": (*call).getFolder, "PATCH": (*call).renameFolder, "DELETE": (*call).deleteFolder,
	})
	on("/v1/workspaces/{w}/folders/{f}/move", methods{"POST": (*call).moveFolder})
	on("/v1/workspaces/{w}/recoverableItems", methods{"GET": (*call).listRecoverable})
	on("/v1/workspaces/{w}/recoverableItems/{i}", methods{"DELETE": (*call).purgeItem})
	on("/v1/workspaces/{w}/recoverableItems/{i}/recover", methods{"POST": (*call).recoverItem})
	on("/v1/workspaces/{w}/items/{i}/move", methods{"POST": (*call).moveItem})
	on("/v1/workspaces/{w}/items/{i}/setLabel", methods{"POST": (*call).labelItem})
	on("/v1/workspaces/{w}/items/{i}/jobs/instances", methods{"GET": (*call).listJobs, "POST": (*call).startNamedJob})
	on("/v1/workspaces/{w}/items/{i}/jobs/{t}/{j}", methods{ // of which one is the word instances
		"GET": (*call).getJob, "PATCH": (*call).updateJob, "POST": (*call).startJob,
	})
	on("/v1/workspaces/{w}/items/{i}/jobs/instances/{j}/cancel", methods{"POST": (*call).cancelJob})
	on("/v1/workspaces/{w}/items/{i}/jobs/instances/{j}/log", methods{"GET": (*call).getJobLog, "POST": (*call).appendJobLog})
	on("/v1/operations/{id}", methods{"GET": (*call).getOperation})
	on("/v1/operations/{id}/result", methods{"GET": (*call).getOperationResult})
	on("/v1/domains", methods{"GET": (*call).listDomains})
	on("/v1/domains/{d}", methods{"GET": (*call).getDomain})
	on("/v1/labels", methods{"GET": (*call).listLabels})
	h.scope("/v1/workspaces/{w}/encryption")
	if h.config.Accounts != nil {
		h.scope("/v1/storageAccounts/{a}/encryption")
		on("/v1/storageAccounts/{a}/encryption/rotate", methods{"POST": (*call).rotateAccountKey})
		on("/v1/storageAccounts/{a}/encryption/retry", methods{"POST": (*call).retryAccount})
	}
	on("/v1/workspaces/{w}/encryption/assign", methods{"POST": (*call).assignKey})
	on("/v1/workspaces/{w}/encryption/reset", methods{"POST": (*call).resetKey})
	on("/v1/workspaces/{w}/encryption/coverage", methods{"GET": (*call).coverage})
	on("/v1/workspaces/{w}/encryption/rotate", methods{"POST": (*call).rotateKey})
	on("/v1/workspaces/{w}/items/{i}/shortcuts", methods{"GET": (*call).listShortcuts, "POST": (*call).createShortcut})
	on("/v1/admin/encryption/impact", methods{"GET": (*call).impact})
	on("/v1/admin/encryption/drills", methods{"POST": (*call).recordDrill})
	on(shreddings+"{id}", methods{"GET": (*call).getShredding})
	on("/v1/admin/emergencyAccess", methods{"GET": (*call).listEmergencies, "POST": (*call).requestEmergency})
	on("/v1/admin/emergencyAccess/{id}/approve", methods{"POST": (*call).approveEmergency})
	on("/v1/admin/emergencyAccess/{id}/reject", methods{"POST": (*call).rejectEmergency})
	on("/v1/capacities", methods{"GET": (*call).listCapacities})
	on("/v1/capacities/{id}", methods{"GET": (*call).getCapacity})
	on("/v1/admin/scrub", methods{"GET": (*call).scrub})
	on("/v1/admin/workspaces", methods{"GET": (*call).adminWorkspaces})
	on("/v1/admin/workspaces/{w}", methods{"GET": (*call).adminWorkspace})
	on("/v1/admin/labels", methods{"POST": (*call).createLabel})
	on("/v1/admin/labels/{l}", methods{"PATCH": (*call).updateLabel, "DELETE": (*call).deleteLabel})
	on("/v1/admin/domains", methods{"GET": (*call).listAdminDomains, "POST": (*call).createDomain})
	on("/v1/admin/domains/{d}", methods{
		"GET": (*call).getDomain, "PATCH": (*call).updateDomain, "DELETE": (*call).deleteDomain,
	})
	on("/v1/admin/domains/{d}/workspaces", methods{"GET": (*call).listDomainWorkspaces})
	on("/v1/admin/domains/{d}/assignWorkspaces", methods{"POST": (*call).assignToDomain})
	on("/v1/admin/domains/{d}/unassignWorkspaces", methods{"POST": (*call).unassignFromDomain})
	on("/v1/admin/tenantsettings", methods{"GET": (*call).listSettings})
	on("/v1/admin/tenantsettings/{name}/update", methods{"POST": (*call).updateSetting})

	h.collection("items", "")
	for name, t := range collections {
		h.collection(name, t)
	}
}

// scope serves what the encryption of a workspace and of a storage account have in common.
func (h *handler) scope(base string) {
	h.on(base, methods{"GET": (*call).getEncryption})
	h.on(base+"/items", methods{"GET": (*call).listEncrypted})
	h.on(base+"/preview", methods{"POST": (*call).previewKey})
	h.on(base+"/revalidate", methods{"POST": (*call).revalidateKey})
	h.on(base+"/killSwitchBound", methods{"PUT": (*call).setBound})
	h.on(base+"/keyLost", methods{"PUT": (*call).declareKeyLost})
}

// collections are the typed ones, which alias the items of one type.
var collections = map[string]workspace.ItemType{
	"lakehouses": workspace.Lakehouse, "notebooks": workspace.Notebook, "warehouses": "Warehouse",
	"environments": "Environment", "sparkJobDefinitions": "SparkJobDefinition", "GraphQLApis": "GraphQLApi",
	"mlModels": "MLModel", "mlExperiments": "MLExperiment", "dataPipelines": "DataPipeline", "dataflows": "Dataflow",
	"mirroredDatabases": "MirroredDatabase", "sqlDatabases": sqlDatabase, "copyJobs": "CopyJob",
}

func (h *handler) collection(name string, t workspace.ItemType) {
	typed := func(op func(*call, workspace.ItemType) error) operation {
		return func(c *call) error { return op(c, t) }
	}
	base := "/v1/workspaces/{w}/" + name
	h.on(base, methods{"GET": typed((*call).listItems), "POST": typed((*call).createItem)})
	h.on(base+"/{i}", methods{
		"GET": typed((*call).getItem), "PATCH": typed((*call).updateItem), "DELETE": typed((*call).deleteItem),
	})
	h.on(base+"/{i}/getDefinition", methods{"POST": typed((*call).getDefinition)})
	if t == sqlDatabase {
		h.on(base+"/{i}/revalidateCMK", methods{"POST": typed((*call).revalidate)})
	}
	h.on(base+"/{i}/updateDefinition", methods{"POST": typed((*call).updateDefinition)})
}

type methods map[string]operation

// on serves a pattern. The method is looked at here and not by the mux, which
// would answer a wrong one in its own words.
func (h *handler) on(pattern string, ops methods) {
	allow := strings.Join(slices.Sorted(maps.Keys(ops)), ", ")
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		op, ok := ops[r.Method]
		if !ok {
			w.Header().Set("Allow", allow)
			writeError(w, r, fault.New(fault.MethodNotAllowed, "This takes "+allow+"."))
			return
		}
		caller, err := api.Authenticate(r, h.tokens, h.audiences...)
		if err == nil {
			err = h.throttle.admit(w, caller)
		}
		if err == nil {
			err = op(&call{handler: h, w: w, r: r, caller: caller})
		}
		if err != nil {
			writeError(w, r, err)
		}
	})
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if api.RequestID(r.Context()) == "" {
		api.WithRequestID(http.HandlerFunc(h.serve)).ServeHTTP(w, r)
		return
	}
	h.serve(w, r)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	t := &tracked{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || t.begun {
			panic(http.ErrAbortHandler)
		}
		slog.ErrorContext(r.Context(), "panic", "protocol", "fabric", "request", api.RequestID(r.Context()),
			"panic", p, "stack", string(debug.Stack()))
		writeError(t, r, fault.New(fault.Internal, ""))
	}()
	r = r.Clone(r.Context())
	if len(r.URL.Path) > 1 {
		r.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
		r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	}
	// The mux would redirect a path that is not clean, and answer an unknown one,
	// in its own words.
	_, pattern := h.mux.Handler(r)
	if pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
		writeError(t, r, fault.New(fault.NotFound, "There is no such operation."))
		return
	}
	h.mux.ServeHTTP(t, r)
}

// tracked knows whether an answer has begun.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// id returns a path's id in its canonical form. What is not an id names nothing.
func (c *call) id(name string, missing fault.Reason) (string, error) {
	id := c.r.PathValue(name)
	if !workspace.IsID(id) {
		return "", fault.New(missing, "The path needs an id here, which is a UUID.")
	}
	return strings.ToLower(id), nil
}

func (c *call) workspace() (encryption.ScopeID, error) {
	id, err := c.id("w", fault.WorkspaceNotFound)
	return encryption.ScopeID(id), err
}

func (c *call) read(limit int64, into any) error { return api.ReadJSON(c.r, limit, into) }

func (c *call) answer(status int, body any) error {
	api.WriteJSON(c.w, status, body)
	return nil
}

// done answers 200 without a body, as Fabric does: its clients take nothing else.
func (c *call) done(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusOK)
	}
	return err
}

// url returns the absolute address of a path, by the host that the client used.
func (c *call) url(path string) string { return "https://" + c.r.Host + path }
