package storagewire_test

import (
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"
)

// What a storage account's files say of owner, group, permissions and access control
// list is kept, changed and listed, a tree at a time too.
func TestAccessControl(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e, ctx := all[0], t.Context()
	fs := must(filesystem.NewClientWithSharedKeyCredential(e.dfs+"/tree", must(azdatalake.NewSharedKeyCredential("acct1", key))(t), &filesystem.ClientOptions{ClientOptions: e.client}))(t)
	must(fs.Create(ctx, nil))(t)
	top := fs.NewDirectoryClient("top")
	must(top.Create(ctx, &directory.CreateOptions{Permissions: new("0777"), Umask: new("0022"), Owner: new("an-owner")}))(t)
	for _, name := range []string{"top/a", "top/sub/b", "top/sub/c"} {
		must(fs.NewFileClient(name).Create(ctx, nil))(t)
	}
	get := func(name string) (owner, permissions, list string) {
		t.Helper()
		r := must(fs.NewFileClient(name).GetAccessControl(ctx, nil))(t)
		return *r.Owner, *r.Permissions, *r.ACL
	}
	for name, want := range map[string][3]string{
		"top":       {"an-owner", "rwxr-xr-x", "user::rwx,group::r-x,other::r-x"},
		"top/sub":   {"$superuser", "rwxr-x---", "user::rwx,group::r-x,other::---"},
		"top/sub/b": {"$superuser", "rw-r-----", "user::rw-,group::r--,other::---"},
	} {
		if o, p, l := get(name); [3]string{o, p, l} != want {
			t.Errorf("%s: %q %q %q, want %q", name, o, p, l, want)
		}
	}
	before := must(fs.NewFileClient("top/a").GetProperties(ctx, nil))(t)
	must(fs.NewFileClient("top/a").SetAccessControl(ctx, &file.SetAccessControlOptions{ACL: new("user::rw-,user:x:rwx,group::r--,other::---")}))(t)
	if _, p, l := get("top/a"); p != "rw-rwx---+" || l != "user::rw-,user:x:rwx,group::r--,mask::rwx,other::---" {
		t.Errorf("%q %q", p, l)
	}
	must(fs.NewFileClient("top/a").SetAccessControl(ctx, &file.SetAccessControlOptions{Permissions: new("0640")}))(t)
	if _, p, l := get("top/a"); p != "rw-r-----+" || l != "user::rw-,user:x:rwx,group::r--,mask::r--,other::---" {
		t.Errorf("after chmod: %q %q", p, l)
	}
	if after := must(fs.NewFileClient("top/a").GetProperties(ctx, nil))(t); *after.ETag != *before.ETag {
		t.Error("a change of access is none of the content")
	}
	for _, bad := range []string{"user::rwx", "user::rw-,group::r--,other::---,default:user::rwx", "nonsense"} {
		if _, err := fs.NewFileClient("top/a").SetAccessControl(ctx, &file.SetAccessControlOptions{ACL: &bad}); code(err) != "InvalidInput" {
			t.Errorf("%q: %v", bad, err)
		}
	}

	r := must(top.UpdateAccessControlRecursive(ctx, "user:y:r-x,default:user:y:r-x,default:user::rwx,default:group::---,default:other::---",
		&directory.UpdateAccessControlRecursiveOptions{BatchSize: new(int32(2))}))(t)
	if *r.DirectoriesSuccessful != 2 || *r.FilesSuccessful != 3 || *r.FailureCount != 0 {
		t.Errorf("%d folders, %d files, %d failures", *r.DirectoriesSuccessful, *r.FilesSuccessful, *r.FailureCount)
	}
	if _, _, l := get("top/sub/c"); l != "user::rw-,user:y:r-x,group::r--,mask::r-x,other::---" {
		t.Errorf("of a file below: %q", l)
	}
	if _, _, l := get("top/sub"); l != "user::rwx,user:y:r-x,group::r-x,mask::r-x,other::---,default:user::rwx,default:user:y:r-x,default:group::---,default:mask::r-x,default:other::---" {
		t.Errorf("of a folder below: %q", l)
	}
	must(top.RemoveAccessControlRecursive(ctx, "mask,user:y,default:user:y,default:mask,default:user,default:group,default:other", nil))(t)
	if _, p, l := get("top/sub"); p != "rwxr-x---" || l != "user::rwx,group::r-x,other::---" {
		t.Errorf("after the removal: %q %q", p, l)
	}
	must(fs.NewFileClient("top/sub/c").Rename(ctx, "top/sub/d", nil))(t)
	must(fs.NewDirectoryClient("").SetAccessControl(ctx, &directory.SetAccessControlOptions{ACL: new("user::rwx,group::---,other::---")}))(t)
	if _, p, _ := get(""); p != "rwx------" {
		t.Errorf("of the root: %q", p)
	}
	var listed []string
	for p := fs.NewListPathsPager(true, &filesystem.ListPathsOptions{Prefix: new("top")}); p.More(); {
		for _, one := range must(p.NextPage(ctx))(t).Paths {
			listed = append(listed, *one.Name+" "+*one.Owner+" "+*one.Permissions)
		}
	}
	if want := []string{"top/a $superuser rw-rwx---+", "top/sub $superuser rwxr-x---", "top/sub/b $superuser rw-r-----", "top/sub/d $superuser rw-r-----"}; !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
}

// An access tier is a label, but for the one whose content is not read.
func TestTiers(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e, ctx := all[0], t.Context()
	c := must(azblob.NewClientWithSharedKeyCredential(e.blob, must(azblob.NewSharedKeyCredential("acct1", key))(t), &azblob.ClientOptions{ClientOptions: e.client}))(t)
	must(c.CreateContainer(ctx, "tiers", nil))(t)
	must(c.UploadBuffer(ctx, "tiers", "one", []byte("x"), nil))(t)
	b := c.ServiceClient().NewContainerClient("tiers").NewBlobClient("one")
	if p := must(b.GetProperties(ctx, nil))(t); *p.AccessTier != "Hot" || !*p.AccessTierInferred {
		t.Errorf("%v", p.AccessTier)
	}
	etag := must(b.GetProperties(ctx, nil))(t).ETag
	must(b.SetTier(ctx, blob.AccessTierArchive, nil))(t)
	if p := must(b.GetProperties(ctx, nil))(t); *p.AccessTier != "Archive" || p.AccessTierInferred != nil || *p.ETag != *etag {
		t.Errorf("%v", *p.AccessTier)
	}
	if _, err := b.DownloadStream(ctx, nil); !bloberror.HasCode(err, bloberror.BlobArchived) {
		t.Errorf("reading what is archived: %v", err)
	}
	must(b.SetTier(ctx, blob.AccessTierCool, nil))(t)
	must(b.DownloadStream(ctx, nil))(t).Body.Close()
	past := time.Now().Add(-time.Hour)
	if _, err := b.Delete(ctx, &blob.DeleteOptions{AccessTierConditions: &blob.AccessTierConditions{IfUnmodifiedSince: &past}}); code(err) != "AccessTierChangeTimeConditionNotMet" {
		t.Errorf("a condition on the tier that does not hold: %v", err)
	}
	if _, err := b.SetTier(ctx, "Warm", nil); !bloberror.HasCode(err, bloberror.InvalidHeaderValue) {
		t.Errorf("no tier: %v", err)
	}
	soon := time.Now().Add(time.Hour)
	if _, err := b.Delete(ctx, &blob.DeleteOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfModifiedSince: &soon}}}); !bloberror.HasCode(err, bloberror.ConditionNotMet) {
		t.Errorf("a condition that does not hold: %v", err)
	}
}
