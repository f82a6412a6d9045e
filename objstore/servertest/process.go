package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/kluis-io/kluis/internal/porttest"
)

const (
	// gatewayVariable names a binary of versitygw.
	gatewayVariable = "KLUIS_TEST_VERSITYGW"
	gatewayModule   = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

	// azuriteVariable names the folder into which Azurite was installed by npm.
	azuriteVariable = "KLUIS_TEST_AZURITE"
	azuritePackage  = "azurite@3.37.0"
)

// The kinds of stores, as KLUIS_TEST_OBJECTS names them.
const (
	S3    = "s3"
	Azure = "azurite"
)

// installTime bounds an installation, startTime a start.
const (
	installTime = 10 * time.Minute
	startTime   = 3 * time.Minute
)

// The one account of Azurite, whose key is public:
// https://learn.microsoft.com/azure/storage/common/storage-use-azurite.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// The one access key of versitygw.
const (
	gatewayAccount = "AKIDKLUISTEST"
	gatewayKey     = "a secret of the tests, and of nothing else"
)

// A Process is an object store without a proxy before it.
type Process struct {
	// Place is the bucket or container, which is empty at first.
	Place string
	// Dir holds a folder of objects for each bucket, under their names; "" if the store
	// keeps them otherwise.
	Dir string
	// Account and Key are Azurite's account and its key, or the S3 access key's id and
	// secret.
	Account, Key string

	kind, port string
	ended      chan struct{}
	cmd        *exec.Cmd
}

// place is the bucket or container of every store.
const place = "extents"

// Start starts a store of a kind, [S3] or [Azure], that keeps all in a folder, and is
// installed there if the environment names no installed one.
func Start(ctx context.Context, kind, dir string) (*Process, error) {
	port, err := porttest.Free()
	if err != nil {
		return nil, err
	}
	p := &Process{Place: place, kind: kind, port: port, ended: make(chan struct{})}
	switch kind {
	case S3:
		err = p.versity(ctx, dir)
	case Azure:
		err = p.azurite(ctx, dir)
	default:
		err = fmt.Errorf("there is no object store %q: %s or %s", kind, S3, Azure)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Install installs the stores into a folder, and returns the variables that say so.
func Install(ctx context.Context, dir string) ([]string, error) {
	_, err := installed(ctx, dir, "", installGateway)
	_, err2 := installed(ctx, dir, "", installAzurite)
	return []string{gatewayVariable + "=" + dir, azuriteVariable + "=" + dir}, errors.Join(err, err2)
}

// Variables returns what says to [Objects] and [Variables] where the store is.
func (p *Process) Variables() []string {
	return []string{kindVariable + "=" + p.kind, portVariable + "=" + p.port}
}

// Stop ends the store.
func (p *Process) Stop() {
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *Process) versity(ctx context.Context, dir string) error {
	binary, err := installed(ctx, dir, gatewayVariable, installGateway)
	if err != nil {
		return err
	}
	if info, err := os.Stat(binary); err == nil && info.IsDir() {
		binary = filepath.Join(binary, "versitygw")
	}
	p.Account, p.Key, p.Dir = gatewayAccount, gatewayKey, filepath.Join(dir, "objects")
	// Extended attributes are not on every file system: a folder beside it serves too.
	sidecar := filepath.Join(dir, "sidecar")
	if err := errors.Join(os.MkdirAll(filepath.Join(p.Dir, place), 0o700), os.MkdirAll(sidecar, 0o700)); err != nil {
		return err
	}
	p.cmd = exec.Command(binary, "--port", "127.0.0.1:"+p.port, "--keep-alive", "--quiet", "posix", "--sidecar", sidecar, p.Dir)
	p.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+p.Account, "ROOT_SECRET_ACCESS_KEY="+p.Key)
	return p.run()
}

func (p *Process) azurite(ctx context.Context, dir string) error {
	modules, err := installed(ctx, dir, azuriteVariable, installAzurite)
	if err != nil {
		return err
	}
	p.Account, p.Key = azuriteAccount, azuriteKey
	p.cmd = exec.Command("node", filepath.Join(modules, "node_modules/azurite/dist/src/blob/main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", p.port, "--location", filepath.Join(dir, "blobs"), "--silent", "--disableTelemetry", "--skipApiVersionCheck")
	if err := p.run(); err != nil {
		return err
	}
	key, err := container.NewSharedKeyCredential(p.Account, p.Key)
	if err != nil {
		return err
	}
	c, err := container.NewClientWithSharedKeyCredential(p.endpoint()+"/"+place, key, nil)
	if err == nil {
		_, err = c.Create(ctx, nil)
	}
	if err != nil {
		p.Stop()
	}
	return err
}

// endpoint is where the store is found without a proxy.
func (p *Process) endpoint() string { return endpoint(p.kind, p.port) }

func endpoint(kind, port string) string {
	if kind == Azure {
		return "http://127.0.0.1:" + port + "/" + azuriteAccount
	}
	return "http://127.0.0.1:" + port
}

// installed returns what a variable names, or installs it into a folder.
func installed(ctx context.Context, dir, variable string, install func(ctx context.Context, dir string) *exec.Cmd) (string, error) {
	if at := os.Getenv(variable); at != "" {
		return at, nil
	}
	ctx, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	if out, err := install(ctx, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("installing an object store: %w\n%s", err, out)
	}
	return dir, nil
}

func installGateway(ctx context.Context, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", "install", gatewayModule)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
	return cmd
}

func installAzurite(ctx context.Context, dir string) *exec.Cmd {
	return exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, azuritePackage)
}

// run starts the store, and waits until it listens.
func (p *Process) run() error {
	var log bytes.Buffer
	p.cmd.Stdout, p.cmd.Stderr = &log, &log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	for deadline := time.Now().Add(startTime); ; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get("http://127.0.0.1:" + p.port)
		if err == nil {
			return res.Body.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s has ended: %s", p.cmd.Path, log.Bytes())
		default:
		}
		if time.Now().After(deadline) {
			p.Stop()
			return fmt.Errorf("%s does not answer: %w", p.cmd.Path, err)
		}
	}
}
