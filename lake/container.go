package lake

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A storage account's containers are items of its scope that clients make and
// remove. Their names, properties and metadata are a folder's entries and nodes:
// those of the scope's own item, whose keys seal a scope's names.

// ContainerType is the item type of a storage account's containers.
const ContainerType = "Container"

// containerKind is what an entry for a container names.
const containerKind Kind = 3

// itemOf returns the item of a container by its node's id, as a UUID.
func itemOf(id NodeID) encryption.ItemID {
	s := string(id)
	if len(s) != 32 {
		return encryption.ItemID(s)
	}
	return encryption.ItemID(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}

// containerName is Azure's rule:
// https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata#container-names
var containerName = regexp.MustCompile(`^(\$root|\$logs|\$web|[a-z0-9]+(-[a-z0-9]+)*)$`)

func checkContainerName(name string) error {
	if !containerName.MatchString(name) {
		return fault.New(fault.InvalidPath, "A container's name has lower-case letters, digits and single hyphens.")
	}
	if name[0] != '$' && (len(name) < 3 || len(name) > 63) {
		return fault.New(fault.InvalidArgument, "A container's name has between 3 and 63 characters.")
	}
	return nil
}

// beginAccount finds the account, authorises the caller, and enters the path's
// container.
func (s *session) beginAccount(ctx context.Context, p Path) error {
	if err := s.enterAccount(ctx, p.Account); err != nil || p.Container == "" {
		return err
	}
	var m manifest
	var e EntryRow
	err := s.view(ctx, func(tx Tx) (err error) {
		e, m, err = s.findContainer(tx, p.Container)
		return err
	})
	if err != nil {
		return err
	}
	s.container.Name, s.container.Modified = p.Container, m.modified
	s.root = m
	s.keys = nil
	item := Item{ID: itemOf(e.ID), Type: ContainerType, Name: p.Container}
	s.entry.Resource += "/items/" + string(item.ID)
	if err := s.takeItem(ctx, item); err != nil {
		if errors.Is(err, fault.ItemNotFound) { // removed just now
			return errNoContainer()
		}
		return err
	}
	return nil
}

// enterAccount makes the session work on the account's own names.
func (s *session) enterAccount(ctx context.Context, name string) (err error) {
	s.container, err = s.lake.catalog.FindAccount(ctx, name)
	if errors.Is(err, fault.ResourceNotFound) || err == nil && s.container.Tenant != s.caller.Tenant {
		return fault.New(fault.ContainerNotFound, "There is no such storage account.")
	}
	if err != nil {
		return err
	}
	s.entry.Resource = string(s.container.path())
	if err := s.takeScope(ctx, s.authorise); err != nil {
		return err
	}
	return s.takeItem(ctx, Item{ID: encryption.ScopeItem(s.container.ID)})
}

func errNoContainer() error { return fault.New(fault.ContainerNotFound, "There is no such container.") }

// findContainer finds a container by name, in a session on the account's own names.
func (s *session) findContainer(tx Tx, name string) (EntryRow, manifest, error) {
	f, ok, err := s.special(tx, Root, false)
	if err != nil {
		return EntryRow{}, manifest{}, err
	}
	var e EntryRow
	if ok {
		if e, ok, err = s.find(tx, f, name); err != nil {
			return e, manifest{}, err
		}
	}
	if !ok || e.Kind != containerKind {
		return e, manifest{}, errNoContainer()
	}
	_, m, err := s.node(tx, e.ID)
	return e, m, err
}

// containerProperties describes a container of an account.
func (s *session) containerProperties(name string, m manifest) ContainerProperties {
	c := s.container
	c.Name, c.Modified = name, m.modified
	return ContainerProperties{Container: c, ETag: formatETag(m.etag), Metadata: m.metadata, Lease: m.lease}
}

// onNames runs fn as an authorised operation of the caller on the account's own
// names: a management action if manage is set.
func (l *Lake) onNames(ctx context.Context, caller identity.Caller, op string, action rbac.Action, manage bool, account string, fn func(*session) error) error {
	s := &session{lake: l, caller: caller, action: action, manage: manage, entry: caller.Entry(op, "")}
	return s.recorded(ctx, func() error {
		if err := s.enterAccount(ctx, account); err != nil {
			return err
		}
		return fn(s)
	})
}

// CreateContainer makes a container in a storage account.
func (l *Lake) CreateContainer(ctx context.Context, caller identity.Caller, p Path, metadata map[string]string) (props ContainerProperties, err error) {
	err = l.onNames(ctx, caller, opMakeContainer, rbac.ContainersWrite, true, p.Account, func(s *session) error {
		if err := checkContainerName(p.Container); err != nil {
			return err
		}
		node := NodeID(newID())
		keys, err := s.use.NewItem(itemOf(node), ContainerType)
		if err != nil {
			return err
		}
		return s.update(ctx, func(tx Tx) error {
			f, _, err := s.special(tx, Root, true)
			if err != nil {
				return err
			}
			if _, taken, err := s.find(tx, f, p.Container); err != nil {
				return err
			} else if taken {
				return fault.New(fault.ContainerExists, "The account has a container of this name.")
			}
			if err := keys.Insert(tx); err != nil {
				return err
			}
			now := s.now()
			m := manifest{attributes: attributes{kind: containerKind, etag: newETag(), created: now, modified: now}, metadata: metadata}
			if err := s.putContainer(tx, &f, EntryRow{ID: node}, p.Container, m); err != nil {
				return err
			}
			props = s.containerProperties(p.Container, m)
			return s.record(tx, node, 0)
		})
	})
	return props, err
}

// putContainer stores a container's entry and node.
func (s *session) putContainer(tx Tx, f *FolderRow, e EntryRow, name string, m manifest) error {
	if err := s.put(tx, f, e, record{name, m.attributes}); err != nil {
		return err
	}
	return s.putNode(tx, e.ID, m)
}

// changeContainer changes what is known of a container, and its ETag with it.
func (l *Lake) changeContainer(ctx context.Context, caller identity.Caller, op string, action rbac.Action, manage bool, p Path, c Conditions, set func(*manifest) error) (props ContainerProperties, err error) {
	err = l.onNames(ctx, caller, op, action, manage, p.Account, func(s *session) error {
		return s.update(ctx, func(tx Tx) error {
			e, m, err := s.findContainer(tx, p.Container)
			if err != nil {
				return err
			}
			if err := m.lease.allowsRead(c.Lease); err != nil { // its lease protects it from deletion only
				return err
			}
			if err := c.forWrite(&m.attributes); err != nil {
				return err
			}
			f, _, err := tx.LakeFolder(e.Folder)
			if err != nil {
				return err
			}
			if err := set(&m); err != nil {
				return err
			}
			m.etag, m.modified = newETag(), s.now()
			if err := s.putContainer(tx, &f, e, p.Container, m); err != nil {
				return err
			}
			props = s.containerProperties(p.Container, m)
			return s.record(tx, e.ID, 0)
		})
	})
	return props, err
}

// SetContainerMetadata replaces the user metadata of a storage account's container.
func (l *Lake) SetContainerMetadata(ctx context.Context, caller identity.Caller, p Path, metadata map[string]string, c Conditions) (ContainerProperties, error) {
	return l.changeContainer(ctx, caller, opUpdate, rbac.ContainersWrite, true, p, c, func(m *manifest) error {
		m.metadata = metadata
		return nil
	})
}

// DeleteContainer removes a container of a storage account, with all that lies in it:
// its keys are shredded at once, and its rows are swept.
func (l *Lake) DeleteContainer(ctx context.Context, caller identity.Caller, p Path, c Conditions) error {
	return l.onNames(ctx, caller, opDropContainer, rbac.ContainersDelete, true, p.Account, func(s *session) error {
		var item encryption.ItemID
		err := s.update(ctx, func(tx Tx) error {
			e, m, err := s.findContainer(tx, p.Container)
			if err != nil {
				return err
			}
			if err := c.allow(&m); err != nil {
				return err
			}
			item = itemOf(e.ID)
			if err := tx.ShredItem(item); err != nil {
				return err
			}
			if err := tx.DeleteLakeEntry(e.ID); err != nil {
				return err
			}
			if err := tx.DeleteLakeNode(e.ID); err != nil {
				return err
			}
			return s.record(tx, e.ID, 0)
		})
		if err == nil {
			s.lake.keys.Forget(s.container.ID, item)
		}
		return err
	})
}

// ContainerNames returns the names of a storage account's containers by their items, to
// whoever may read their data. It returns nil to whom may not, and if the account's key
// cannot be used now.
func (l *Lake) ContainerNames(ctx context.Context, caller identity.Caller, account string) (map[encryption.ItemID]string, error) {
	names := map[encryption.ItemID]string{}
	err := l.onNames(ctx, caller, opContainer, rbac.DataRead, false, account, func(s *session) error {
		err := s.view(ctx, func(tx Tx) error {
			clear(names)
			return s.eachContainer(tx, func(id NodeID, name string) error {
				names[itemOf(id)] = name
				return nil
			})
		})
		if err != nil {
			return err
		}
		return s.recordRead(ctx, "", 0)
	})
	switch r := fault.ReasonOf(err); {
	case err == nil:
		return names, nil
	case r == fault.Denied, r.RefusedByVault(), r == fault.KEKUnreachable, r == fault.KEKIntegrity, r == fault.EncryptionChanged:
		return nil, nil
	}
	return nil, err
}

// eachContainer calls fn with every container of the account.
func (s *session) eachContainer(tx Tx, fn func(NodeID, string) error) error {
	f, ok, err := s.special(tx, Root, false)
	if err != nil || !ok {
		return err
	}
	names := map[NodeID]string{}
	err = tx.LakeEntries(f.ID, func(e EntryRow) error {
		r, err := s.open(f, e)
		if err == nil && r.kind == containerKind {
			names[e.ID] = r.name
		}
		return err
	})
	for id, name := range names {
		if err == nil {
			err = fn(id, name)
		}
	}
	return err
}

// accountContainers lists an account's containers whose names begin with the prefix,
// in order.
func (l *Lake) accountContainers(ctx context.Context, caller identity.Caller, account, prefix string) (out []ContainerProperties, err error) {
	err = l.onNames(ctx, caller, opContainer, rbac.DataRead, false, account, func(s *session) error {
		err := s.view(ctx, func(tx Tx) error {
			out = nil
			return s.eachContainer(tx, func(id NodeID, name string) error {
				if !strings.HasPrefix(name, prefix) {
					return nil
				}
				_, m, err := s.node(tx, id)
				out = append(out, s.containerProperties(name, m))
				return err
			})
		})
		if err != nil {
			return err
		}
		return s.recordRead(ctx, "", 0)
	})
	slices.SortFunc(out, func(a, b ContainerProperties) int { return cmp.Compare(a.Name, b.Name) })
	return out, err
}
