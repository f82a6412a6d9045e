package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// keysVersion is the api-version of what is called without an official client.
const keysVersion = "7.6"

// uri returns the address of the vault, or the managed HSM, that is named.
func (s *session) uri(o *sdk.Officer, name string) string {
	if s.hsm {
		return o.Target().HSMURI(name)
	}
	return o.Target().VaultURI(name)
}

// custody calls one of kluis's own paths at a vault.
func (s *session) custody(ctx context.Context, o *sdk.Officer, vault, method, path string, in, out any) error {
	scope := sdk.VaultScope
	if s.hsm {
		scope = sdk.HSMScope
	}
	return o.Call(ctx, scope, method, s.uri(o, vault)+path, in, out)
}

// A use is what the vault knows of one principal's dependence on a key's version.
type use struct {
	KID       string    `json:"kid"`
	Principal string    `json:"principalId"`
	Operation string    `json:"operation"`
	Count     int64     `json:"count"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

func (s *session) uses(ctx context.Context, o *sdk.Officer, k keyRef) ([]use, error) {
	var answer struct{ Value []use }
	err := s.custody(ctx, o, k.vault, http.MethodGet, "keys/"+url.PathEscape(k.name)+"/usage?api-version="+keysVersion, nil, &answer)
	return answer.Value, err
}

const useHeader = "PRINCIPAL,OPERATION,VERSION,TIMES,FIRST,LAST"

func useRows(o *sdk.Officer, all []use) (rows [][]string) {
	for _, u := range all {
		rows = append(rows, []string{nameOf(o, u.Principal), u.Operation, path.Base(u.KID), strconv.FormatInt(u.Count, 10), when(&u.First), when(&u.Last)})
	}
	return rows
}

const keyedUseHeader = "KEY," + useHeader

// keyedUseRows is the same of several keys.
func keyedUseRows(o *sdk.Officer, all []use) [][]string {
	rows := useRows(o, all)
	for i, u := range all {
		rows[i] = slices.Insert(rows[i], 0, path.Base(path.Dir(u.KID)))
	}
	return rows
}

// nameOf returns a principal's name in the profile, or else its id.
func nameOf(o *sdk.Officer, id string) string {
	t := o.Target()
	if strings.EqualFold(id, t.Platform.ObjectID) {
		return "Fabric Platform CMK"
	}
	for name, p := range t.Principals {
		if strings.EqualFold(id, p.ObjectID) {
			return name
		}
	}
	return id
}

func keyUsage(s *session) *cobra.Command {
	return s.withKey("usage", "Tell who has used which version of a key, and when last", func(ctx context.Context, o *sdk.Officer, _ *azkeys.Client, k keyRef) error {
		all, err := s.uses(ctx, o, k)
		if err != nil {
			return err
		}
		if all == nil {
			all = []use{}
		}
		return s.show(all, useHeader, useRows(o, all))
	})
}

// dependents tells, before something is done to a key, who has used it. That it
// cannot be told is told too, and hinders nothing.
func (s *session) dependents(ctx context.Context, o *sdk.Officer, k keyRef) {
	all, err := s.uses(ctx, o, k)
	if err != nil {
		fmt.Fprintf(s.errOut, "Who depends on key %s is not known: %v\n", k.name, Explain(err))
		return
	}
	s.tellUses("key "+k.name, useHeader, useRows(o, all))
}

// tellUses tells who has used something, before that something is lost.
func (s *session) tellUses(what, header string, rows [][]string) {
	if len(rows) == 0 {
		fmt.Fprintf(s.errOut, "Nobody has used %s.\n", what)
		return
	}
	fmt.Fprintf(s.errOut, "Who has used %s:\n", what)
	t := tabwriter.NewWriter(s.errOut, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, ",", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// vaultDependents does the same for every key of a vault.
func (s *session) vaultDependents(ctx context.Context, o *sdk.Officer, vault string) {
	keys, err := o.Keys(s.uri(o, vault))
	if err != nil {
		return
	}
	all, err := listKeys(ctx, keys)
	if err != nil {
		fmt.Fprintf(s.errOut, "Who depends on the keys of vault %s is not known: %v\n", vault, Explain(err))
		return
	}
	for _, k := range all {
		s.dependents(ctx, o, keyRef{vault: vault, name: k.KID.Name()})
	}
}

// A holder is one way by which a principal may do something with keys.
type holder struct {
	Principal   string `json:"principalId"`
	Type        string `json:"principalType,omitempty"`
	Application string `json:"applicationId,omitempty"`
	Assignment  string `json:"roleAssignmentId,omitempty"`
	Role        string `json:"roleDefinitionId,omitempty"`
	Scope       string `json:"scope"`
}

func vaultWho(s *session) *cobra.Command {
	var permission string
	c := &cobra.Command{
		Use:   "who VAULT[/KEY]",
		Short: "Tell who can do something with a vault's keys, or with one of them",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			vault, key, one := strings.Cut(args[0], "/")
			q := url.Values{"permission": {permission}}
			if one {
				q.Set("key", key)
			}
			var answer struct{ Value []holder }
			if err := s.custody(ctx, o, vault, http.MethodGet, "access?"+q.Encode(), nil, &answer); err != nil {
				return err
			}
			var rows [][]string
			for _, h := range answer.Value {
				by := "access policy"
				if h.Role != "" {
					by = "role " + h.Role
				}
				rows = append(rows, []string{nameOf(o, h.Principal), h.Principal, by, h.Scope})
			}
			return s.show(answer.Value, "WHO,PRINCIPAL,BY,AT", rows)
		}),
	}
	c.Flags().StringVar(&permission, "can", "unwrapKey", "do what: a `PERMISSION` of access policies")
	return c
}

func approvalCommand() *cobra.Command {
	return group("approval", "Agree to what destroys or weakens, as a second custodian", "custodian", approvalList,
		approvalDecide("approve", "Agree to a request of another custodian, who then sends it again"),
		approvalDecide("reject", "Reject a request, or withdraw one's own"))
}

// An approval is one request that takes a second person.
type approval struct {
	ID          string    `json:"id"`
	Operation   string    `json:"operation"`
	Resource    string    `json:"resource"`
	Action      string    `json:"action"`
	State       string    `json:"state"`
	RequestedBy string    `json:"requestedBy"`
	Requested   time.Time `json:"requested"`
	Expires     time.Time `json:"expires"`
	DecidedBy   string    `json:"decidedBy,omitempty"`
	Decided     time.Time `json:"decided,omitzero"`
	Executed    time.Time `json:"executed,omitzero"`
}

func (s *session) showApprovals(o *sdk.Officer, v any, all ...approval) error {
	var rows [][]string
	for _, a := range all {
		rows = append(rows, []string{a.ID, a.Operation, path.Base(a.Resource), a.State, nameOf(o, a.RequestedBy), when(&a.Requested), when(&a.Expires)})
	}
	return s.show(v, "ID,OPERATION,OF,STATE,ASKED BY,ASKED,EXPIRES", rows)
}

func approvalList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list VAULT",
		Short: "List the requests at a vault that you made or could decide",
		Args:  cobra.ExactArgs(1),
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
			var answer struct{ Value []approval }
			if err := s.custody(ctx, o, args[0], http.MethodGet, "approvals", nil, &answer); err != nil {
				return err
			}
			return s.showApprovals(o, answer.Value, answer.Value...)
		}),
	}
}

// approvalDecide makes the command of one decision. To agree is asked for by the
// name of what is concerned: the act itself may be past undoing.
func approvalDecide(verb, short string) func(*session) *cobra.Command {
	return func(s *session) *cobra.Command {
		c := &cobra.Command{
			Use:   verb + " VAULT ID",
			Short: short,
			Args:  cobra.ExactArgs(2),
			RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
				at := "approvals/" + url.PathEscape(args[1])
				var a approval
				if verb == "approve" {
					if err := s.custody(ctx, o, args[0], http.MethodGet, at, nil, &a); err != nil {
						return err
					}
					name := path.Base(a.Resource)
					if slices.Contains([]string{"KeyDelete", "KeyPurge"}, a.Operation) {
						s.dependents(ctx, o, keyRef{vault: args[0], name: name})
					}
					if err := s.confirm(fmt.Sprintf("%s asks for %s of %s.", nameOf(o, a.RequestedBy), a.Operation, name), name); err != nil {
						return err
					}
				}
				if err := s.custody(ctx, o, args[0], http.MethodPost, at+"/"+verb, nil, &a); err != nil {
					return err
				}
				return s.showApprovals(o, a, a)
			}),
		}
		if verb == "approve" {
			s.confirmFlag(c)
		}
		return c
	}
}
