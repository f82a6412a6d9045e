package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/objstore/azblob"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/objstore/objtest"
	"github.com/kluis-io/kluis/objstore/remote"
)

func TestParseObjects(t *testing.T) {
	for _, c := range []struct {
		text, place string // place is "" if the text is refused
		want        objectsAddress
	}{
		{"", "the folder extents", objectsAddress{}},
		{"s3://b", "s3://b", objectsAddress{scheme: "s3", bucket: "b"}},
		{"s3://b/p/q/?region=r&endpoint=https://h:1&overwrite=true", "s3://b/p/q",
			objectsAddress{scheme: "s3", bucket: "b", prefix: "p/q", region: "r", endpoint: "https://h:1", overwrite: true}},
		{"azblob://a/c", "azblob://a/c", objectsAddress{scheme: "azblob", account: "a", bucket: "c"}},
		{"azblob://a/c/p?endpoint=http://127.0.0.1:10000/a", "azblob://a/c/p",
			objectsAddress{scheme: "azblob", account: "a", bucket: "c", prefix: "p", endpoint: "http://127.0.0.1:10000/a"}},
		{text: "folder"}, {text: "s3:///p"}, {text: "azblob://a"}, {text: "gs://b"}, {text: "s3://b?regoin=r"},
		{text: "azblob://a/c?region=r"}, {text: "s3://b?endpoint=http://store.example"}, {text: "s3://b?endpoint=store:9000"},
		{text: "s3://id:hidden@b"}, {text: "s3://b?endpoint=https://id:hidden@h"}, {text: "s3://b?secret=%zzhidden"}, {text: "s3://\x7fhidden"},
	} {
		got, err := parseObjects(c.text)
		if err != nil {
			if c.place != "" || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(objectsAddress{})); diff != "" || got.String() != c.place {
			t.Errorf("%q is %s, want %s\n%s", c.text, got, c.place, diff)
		}
	}
}

// Extents are looked for where they lay before, or not at all.
func TestObjectsStayWhereTheyAre(t *testing.T) {
	c := Config{Objects: "azblob://a/c/p?endpoint=http://127.0.0.1:9/a"}
	t.Setenv("AZURE_STORAGE_KEY", "a2V5")
	var usage usageError

	fresh := t.TempDir()
	if o, err := c.objects(t.Context(), fresh); err != nil {
		t.Error(err)
	} else if _, ok := o.(*remote.Store); !ok {
		t.Errorf("the store is a %T", o)
	}

	used := t.TempDir()
	there, err := local.Open(filepath.Join(used, extentsDir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.objects(t.Context(), used); err != nil {
		t.Errorf("over an empty folder: %v", err)
	}
	objtest.Put(t, there, objtest.ID(), []byte("x"))
	if _, err := c.objects(t.Context(), used); !errors.As(err, &usage) {
		t.Errorf("over a folder with extents: %v", err)
	}
	if _, err := (Config{}).objects(t.Context(), used); err != nil {
		t.Error(err)
	}
}

// What holds a credential is never quoted.
func TestBadStorageCredential(t *testing.T) {
	if _, err := azblob.Open(azblob.Config{Account: "a", Container: "c", Key: "hidden!"}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a key that is none: %v", err)
	}
}
