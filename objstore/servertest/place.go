package servertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/azblob"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/s3"
)

const (
	kindVariable = "KLUIS_TEST_OBJECTS"
	portVariable = "KLUIS_TEST_OBJECTS_PORT"
)

// region is any, of a store that is not Amazon's.
const region = "us-east-1"

// Elsewhere reports whether tests keep extents in a store that is no folder.
func Elsewhere() bool { return os.Getenv(kindVariable) != "" }

// running returns the store that tests are to use, "" if it is folders.
func running() (kind, port string, err error) {
	kind, port = os.Getenv(kindVariable), os.Getenv(portVariable)
	if kind != "" && port == "" {
		err = errors.New(kindVariable + " names an object store that does not run: 'make suite OBJECTS=" + kind + "' starts one")
	}
	return kind, port, err
}

// placeOf returns the address, without how it is reached, that stands for a folder.
func placeOf(kind, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(path))
	account := ""
	if kind == Azure {
		account = azuriteAccount + "/"
	}
	return schemes[kind] + account + place + "/" + hex.EncodeToString(sum[:12]), nil
}

var schemes = map[string]string{S3: "s3://", Azure: "azblob://"}

// Objects opens the folder of objects at path, or what stands for it in the store that
// is tested: opened again, it is the same.
func Objects(ctx context.Context, path string) (lake.Objects, error) {
	kind, port, err := running()
	if err != nil {
		return nil, err
	}
	if kind == "" {
		return local.Open(path)
	}
	address, err := placeOf(kind, path)
	if err != nil {
		return nil, err
	}
	return open(ctx, kind, port, address)
}

func open(ctx context.Context, kind, port, address string) (lake.Objects, error) {
	prefix := address[strings.LastIndexByte(address, '/')+1:]
	if kind == Azure {
		return azblob.Open(azblob.Config{
			Account: azuriteAccount, Container: place, Prefix: prefix, Endpoint: endpoint(kind, port), Key: azuriteKey, HTTP: remote.HTTPClient(nil),
		})
	}
	credential, err := os.CreateTemp("", "s3")
	if err != nil {
		return nil, err
	}
	defer os.Remove(credential.Name())
	if _, err := credential.WriteString("[default]\naws_access_key_id = " + gatewayAccount + "\naws_secret_access_key = " + gatewayKey + "\n"); err != nil {
		return nil, errors.Join(err, credential.Close())
	}
	if err := credential.Close(); err != nil {
		return nil, err
	}
	return s3.Open(ctx, s3.Config{
		Bucket: place, Prefix: prefix, Endpoint: endpoint(kind, port), Region: region, Credentials: credential.Name(), HTTP: remote.HTTPClient(nil),
	})
}

// recorded returns where the extents of a data directory lie, as its platform's folder
// says.
func recorded(data string) (string, error) {
	text, err := os.ReadFile(filepath.Join(data, "platform", objectsFile))
	return strings.TrimSpace(string(text)), err
}

// objectsFile is kluis's.
const objectsFile = "objects"

// Copied gives the copy of a data directory, which nobody serves, a place of its own in
// the store that is tested, with what lies in that of the original.
func Copied(ctx context.Context, from, to string) error {
	kind, port, err := running()
	if err != nil || kind == "" {
		return err
	}
	address, err := recorded(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was kept yet
	}
	if err != nil {
		return err
	}
	source, err := open(ctx, kind, port, address)
	if err != nil {
		return err
	}
	target, err := placeOf(kind, to)
	if err != nil {
		return err
	}
	copied, err := open(ctx, kind, port, target)
	if err != nil {
		return err
	}
	err = source.List(ctx, func(id string, _ time.Time) error {
		o, err := source.Open(ctx, id)
		if err != nil {
			return err
		}
		defer o.Close()
		w, err := copied.Create(ctx, id)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(o, 0, o.Size())); err != nil {
			w.Abort()
			return err
		}
		return w.Commit()
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "platform", objectsFile), []byte(target+"\n"), 0o600)
}

// Variables returns the variables that have kluis keep the extents of a data directory in
// the store that is tested: none where that is its folder, or where it has some there.
func Variables(data string) ([]string, error) {
	kind, port, err := running()
	if err != nil || kind == "" {
		return nil, err
	}
	address, err := recorded(data)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(data, "platform", "extents")); err == nil {
			return nil, nil
		}
		address, err = placeOf(kind, data)
	}
	if err != nil {
		return nil, err
	}
	at := url.QueryEscape(endpoint(kind, port))
	if kind == Azure {
		return []string{"KLUIS_OBJECTS=" + address + "?endpoint=" + at, "AZURE_STORAGE_KEY=" + azuriteKey}, nil
	}
	return []string{
		"KLUIS_OBJECTS=" + address + "?region=" + region + "&endpoint=" + at,
		"AWS_ACCESS_KEY_ID=" + gatewayAccount, "AWS_SECRET_ACCESS_KEY=" + gatewayKey,
	}, nil
}
