package root_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/root"
)

const instance = "0b9d1c5e-6a56-4c7e-9c3b-2f4f4d6c8a11"

var (
	passphrase = root.Passphrase([]byte("correct horse battery"))
	other      = root.Passphrase([]byte("incorrect horse battery"))
)

func create(t *testing.T, seal root.Seal) (string, *root.Root, root.Shares) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.json")
	r, shares, err := root.Create(path, instance, seal)
	if err != nil {
		t.Fatal(err)
	}
	return path, r, shares
}

func wantReason(t *testing.T, what string, err error, want fault.Reason) {
	t.Helper()
	if fault.ReasonOf(err) != want {
		t.Errorf("%s: %v; want %s", what, err, want)
	}
}

func same(t *testing.T, a, b *root.Root) {
	t.Helper()
	if a.ID() != b.ID() || a.Instance() != b.Instance() || a.Generation() != b.Generation() || *a.Derive("p") != *b.Derive("p") {
		t.Errorf("another root: %s of %s, want %s of %s", a.ID(), a.Instance(), b.ID(), b.Instance())
	}
}

func TestCreateAndOpen(t *testing.T) {
	for _, seal := range []root.Seal{passphrase, root.DevUnsealed()} {
		path, r, _ := create(t, seal)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %o, %v", info.Mode().Perm(), err)
		}
		opened, err := root.Open(path, seal)
		if err != nil {
			t.Fatal(err)
		}
		same(t, opened, r)
		if opened.SealType() != r.SealType() {
			t.Errorf("seal %s, want %s", opened.SealType(), r.SealType())
		}
		_, _, err = root.Create(path, instance, seal)
		wantReason(t, "create over a root", err, fault.Conflict)
	}
}

func TestDerive(t *testing.T) {
	_, r, _ := create(t, root.DevUnsealed())
	_, r2, _ := create(t, root.DevUnsealed())
	first, again := r.Derive("a"), r.Derive("a")
	if *first != *again || *first == *r.Derive("b") || *first == *r2.Derive("a") {
		t.Error("keys do not follow from root and purpose alone")
	}
	r.Close()
	defer func() {
		if recover() == nil {
			t.Error("a closed root gave a key")
		}
	}()
	r.Derive("a")
}

func TestRefusals(t *testing.T) {
	sealed, _, _ := create(t, passphrase)
	dev, _, _ := create(t, root.DevUnsealed())
	_, err := root.Open(sealed, other)
	wantReason(t, "another passphrase", err, fault.Denied)
	_, err = root.Open(sealed, root.DevUnsealed())
	wantReason(t, "no passphrase", err, fault.InvalidArgument)
	_, err = root.Open(dev, passphrase)
	wantReason(t, "a passphrase for a root that has none", err, fault.InvalidArgument)
	if err := os.Chmod(dev, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = root.Open(dev, root.DevUnsealed())
	wantReason(t, "an unsealed root that the group can read", err, fault.Denied)
	_, _, err = root.Create(filepath.Join(t.TempDir(), "r"), instance, root.Passphrase([]byte("short")))
	wantReason(t, "a short passphrase", err, fault.InvalidArgument)
	_, _, err = root.Create(filepath.Join(t.TempDir(), "r"), "", passphrase)
	wantReason(t, "no instance", err, fault.InvalidArgument)
	if _, err := root.Open(filepath.Join(t.TempDir(), "none"), passphrase); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// Whatever is changed in the file, it does not open as another root.
func TestEveryFieldIsBound(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("it is about Argon2id; TestFIPSPassphrase is about what FIPS mode seals with")
	}
	path, _, _ := create(t, passphrase)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(f, argon map[string]any){
		"generation": func(f, _ map[string]any) { f["generation"] = 2 },
		"root id":    func(f, _ map[string]any) { f["rootId"] = strings.Repeat("ab", 16) },
		"instance":   func(f, _ map[string]any) { f["instance"] = "another" },
		"time":       func(_, a map[string]any) { a["time"] = 2 },
		"salt":       func(_, a map[string]any) { a["salt"] = "AAAAAAAAAAAAAAAAAAAAAA==" },
		"memory":     func(_, a map[string]any) { a["memory"] = 1 << 10 },
	} {
		var f map[string]any
		if err := json.Unmarshal(good, &f); err != nil {
			t.Fatal(err)
		}
		change(f, f["seal"].(map[string]any)["argon2id"].(map[string]any))
		b, _ := json.Marshal(f)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := root.Open(path, passphrase)
		wantReason(t, name, err, fault.Denied)
	}
	for name, bad := range map[string]string{
		"memory without bound": strings.Replace(string(good), `"memory": 65536`, `"memory": 4294967295`, 1),
		"unknown field":        strings.Replace(string(good), `"version"`, `"x": 1, "version"`, 1),
		"newer version":        strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"cut":                  string(good[:len(good)/2]),
		"trailing value":       string(good) + "{}",
		"empty":                "",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := root.Open(path, passphrase)
		wantReason(t, name, err, fault.Integrity)
	}
}

func TestReseal(t *testing.T) {
	path, r, _ := create(t, passphrase)
	if err := r.Reseal(path, other); err != nil {
		t.Fatal(err)
	}
	_, err := root.Open(path, passphrase)
	wantReason(t, "the old passphrase", err, fault.Denied)
	again, err := root.Open(path, other)
	if err != nil {
		t.Fatal(err)
	}
	same(t, again, r)
}

func TestRecover(t *testing.T) {
	path, r, shares := create(t, root.DevUnsealed())
	if len(shares) != root.DefaultShares || shares[0].Threshold() != root.DefaultThreshold || shares[0].RootID() != r.ID() {
		t.Fatalf("shares: %v", shares)
	}
	// Each share goes through paper.
	for i, s := range shares {
		copied, err := root.ParseShare(" " + strings.ToLower(strings.ReplaceAll(s.Text(), "-", " ")) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		shares[i] = copied
	}
	for name, given := range map[string]root.Shares{"the last three": shares[2:], "all": shares} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		got, err := root.Recover(path, instance, given, root.DevUnsealed())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, got, r)
		opened, err := root.Open(path, root.DevUnsealed())
		if err != nil {
			t.Fatal(err)
		}
		same(t, opened, r)
	}

	_, _, foreign := create(t, root.DevUnsealed())
	again, err := r.Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Split(5, 3)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	for name, test := range map[string]struct {
		shares   root.Shares
		instance string
		want     fault.Reason
	}{
		"none":                   {nil, instance, fault.InvalidArgument},
		"too few":                {shares[:2], instance, fault.InvalidArgument},
		"one twice":              {root.Shares{shares[0], shares[1], shares[1]}, instance, fault.InvalidArgument},
		"of two roots":           {root.Shares{shares[0], shares[1], foreign[2]}, instance, fault.InvalidArgument},
		"of two sets":            {root.Shares{shares[0], shares[1], again[2]}, instance, fault.InvalidArgument},
		"of two sets, alike":     {root.Shares{shares[0], shares[1], second[2]}, instance, fault.Denied},
		"for another instance":   {shares, "another", fault.Denied},
		"over another's file":    {foreign, instance, fault.Conflict},
		"zero values of a share": {root.Shares{{}}, instance, fault.InvalidArgument},
	} {
		_, err := root.Recover(path, test.instance, test.shares, root.DevUnsealed())
		wantReason(t, name, err, test.want)
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Fatalf("%s: the file was touched", name)
		}
	}
	for _, nm := range [][2]int{{3, 1}, {2, 3}, {256, 2}} {
		if _, err := r.Split(nm[0], nm[1]); err == nil {
			t.Errorf("%d of %d shares", nm[1], nm[0])
		}
	}
}

// One wrong character is found.
func TestShareTypo(t *testing.T) {
	_, _, shares := create(t, root.DevUnsealed())
	text := shares[0].Text()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(text)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		c := alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "to")]
		if b[at] == c || b[at] == '-' {
			t.Skip()
		}
		b[at] = c
		if _, err := root.ParseShare(string(b)); err == nil {
			t.Fatalf("a share with a typo at %d was taken", at)
		}
	})
}

// A share's secret shows only where it is asked for.
func TestShareIsQuiet(t *testing.T) {
	_, _, shares := create(t, root.DevUnsealed())
	secret := shares[0].Text()[40:60]
	for _, s := range []string{fmt.Sprint(shares[0]), fmt.Sprintf("%v", shares), shares[0].LogValue().String()} {
		if strings.Contains(s, secret) || !strings.Contains(s, "share 1") {
			t.Errorf("printed as %s", s)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	_, shares, err := root.Create(filepath.Join(f.TempDir(), "r"), instance, root.DevUnsealed())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].Text())
	f.Add("KLUIS-SHARE-1-AAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := root.ParseShare(text)
		if err != nil {
			return
		}
		again, err := root.ParseShare(s.Text())
		if err != nil || again.Text() != s.Text() || s.Index() == 0 || s.Threshold() < 2 {
			t.Errorf("%v becomes %v, %v", s, again, err)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "r")
	if _, _, err := root.Create(path, instance, root.DevUnsealed()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		f, err := root.ParseFile(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := root.ParseFile(again); err != nil || !reflect.DeepEqual(f, g) {
			t.Errorf("%+v becomes %+v, %v", f, g, err)
		}
	})
}

// In FIPS mode a passphrase seals by PBKDF2, whose parameters are bound as Argon2id's
// are; and each mode opens what the other has sealed.
func TestFIPSPassphrase(t *testing.T) {
	const file = "testdata/pbkdf2.json"
	if fips140.Enabled() {
		path, _, _ := create(t, passphrase)
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), `"iterations": 600000`) || strings.Contains(string(text), "argon2id") {
			t.Errorf("in FIPS mode the root is sealed otherwise: %v\n%s", err, text)
		}
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open := func(text []byte, by root.Unseal) error {
		path := filepath.Join(t.TempDir(), "root")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := root.Open(path, by)
		if err == nil {
			r.Close()
		}
		return err
	}
	if err := open(good, passphrase); err != nil {
		t.Errorf("a root sealed in FIPS mode: %v", err)
	}
	wantReason(t, "another passphrase", open(good, other), fault.Denied)
	for name, change := range map[string]struct {
		old, now string
		want     fault.Reason
	}{
		"iterations":      {`"iterations": 600000`, `"iterations": 599999`, fault.Denied},
		"too few":         {`"iterations": 600000`, `"iterations": 1`, fault.Integrity},
		"without bound":   {`"iterations": 600000`, `"iterations": 4294967295`, fault.Integrity},
		"salt":            {`"salt": "`, `"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "x": "`, fault.Integrity},
		"both of the two": {`"pbkdf2"`, `"argon2id": {"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "time": 1, "memory": 64, "threads": 1}, "pbkdf2"`, fault.Integrity},
	} {
		changed := strings.Replace(string(good), change.old, change.now, 1)
		if changed == string(good) {
			t.Errorf("%s: nothing is changed", name)
		}
		wantReason(t, name, open([]byte(changed), passphrase), change.want)
	}
}
