package envelope_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/envelope"
)

func TestKeyIsNeverShown(t *testing.T) {
	key := envelope.NewKey()
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		l := slog.New(h)
		l.Info("value", "key", *key)
		l.Info("pointer", "key", key)
		l.Info("within", "row", struct{ Key envelope.Key }{*key})
		l.Info("pointer within", "row", struct{ Key *envelope.Key }{key})
	}
	shown := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
		shown += fmt.Sprintf(verb+verb, *key, key)
		shown += fmt.Sprintf(verb, struct{ Key envelope.Key }{*key})
		shown += fmt.Sprintf(verb, []envelope.Key{*key})
	}
	shown += key.String()
	folded := strings.ToLower(shown)
	for _, form := range []string{
		hex.EncodeToString(key[:4]), fmt.Sprint(key[0], key[1], key[2], key[3]),
		strings.ReplaceAll(fmt.Sprint(key[0], key[1], key[2], key[3]), " ", ","),
	} {
		if strings.Contains(folded, strings.ToLower(form)) {
			t.Errorf("the key is shown: %s", shown)
		}
	}
	if strings.Contains(shown, string(key[:4])) { // as it is: folding would change what is no UTF-8
		t.Errorf("the key's bytes are shown: %q", shown)
	}
	if b, err := json.Marshal(key); err == nil {
		t.Errorf("the key was marshalled to %s", b)
	}
}

func TestKeyClear(t *testing.T) {
	key := envelope.NewKey()
	if *key == (envelope.Key{}) || *key == *envelope.NewKey() {
		t.Fatal("a new key is zero, or not new")
	}
	key.Clear()
	if *key != (envelope.Key{}) {
		t.Error("bytes are left after Clear")
	}
}
