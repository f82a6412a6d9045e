//go:build cgo

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// A module is what is used of a PKCS#11 library. Tests put faults before a real
// one.
type module interface {
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	GetMechanismList(slot uint) ([]*pkcs11.Mechanism, error)
	GetMechanismInfo(slot uint, m []*pkcs11.Mechanism) (pkcs11.MechanismInfo, error)
	OpenSession(slot uint, flags uint) (pkcs11.SessionHandle, error)
	CloseSession(pkcs11.SessionHandle) error
	GetSessionInfo(pkcs11.SessionHandle) (pkcs11.SessionInfo, error)
	CloseAllSessions(slot uint) error
	Login(s pkcs11.SessionHandle, user uint, pin string) error
	FindObjectsInit(pkcs11.SessionHandle, []*pkcs11.Attribute) error
	FindObjects(s pkcs11.SessionHandle, max int) ([]pkcs11.ObjectHandle, bool, error)
	FindObjectsFinal(pkcs11.SessionHandle) error
	GetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
	CopyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	DestroyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle) error
	GenerateKey(pkcs11.SessionHandle, []*pkcs11.Mechanism, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	GenerateKeyPair(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, public, private []*pkcs11.Attribute) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error)
	EncryptInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Encrypt(pkcs11.SessionHandle, []byte) ([]byte, error)
	EncryptUpdate(pkcs11.SessionHandle, []byte) ([]byte, error)
	EncryptFinal(pkcs11.SessionHandle) ([]byte, error)
	DecryptInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Decrypt(pkcs11.SessionHandle, []byte) ([]byte, error)
	DecryptUpdate(pkcs11.SessionHandle, []byte) ([]byte, error)
	DecryptFinal(pkcs11.SessionHandle) ([]byte, error)
	SignInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Sign(pkcs11.SessionHandle, []byte) ([]byte, error)
	VerifyInit(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error
	Verify(s pkcs11.SessionHandle, data, signature []byte) error
	GenerateRandom(pkcs11.SessionHandle, int) ([]byte, error)
}

// newDevice loads the library and initialises it, once in the process's life; its
// token is opened and kept open until ctx ends.
func newDevice(ctx context.Context, c config, log *slog.Logger) (device, error) {
	m := pkcs11.New(c.module)
	if m == nil {
		return nil, fmt.Errorf("%s does not load as a PKCS#11 library", c.module)
	}
	// The binding asks for operating-system locks by default: many threads call.
	if err := m.Initialize(); err != nil {
		return nil, fmt.Errorf("C_Initialize of %s: %w", c.module, err)
	}
	t := newToken(c, m, log)
	go t.keepOpen(ctx)
	return t, nil
}

// How the token is kept open.
const (
	firstPause = 100 * time.Millisecond // before it is opened again
	lastPause  = 15 * time.Second
	grace      = 2 * time.Second // for which requests wait for a token just lost
	spoilLimit = 3               // failures in a row that no better explanation has
)

// A token is one token of the library: open, or about to be opened again.
type token struct {
	config config
	m      module
	log    *slog.Logger
	steady time.Duration // for which a token stays open before pauses begin anew

	mu      sync.Mutex
	now     *opened       // nil while the token is away
	changed chan struct{} // closed when now changes, and replaced
	since   time.Time     // when it was lost
	why     string        // it is away

	refused [sha256.Size]byte // hash of the PIN that the token refused last
	pinSalt []byte            // of that hash
}

// An opened token, between one login and the loss of it. Handles are worth
// nothing beyond.
type opened struct {
	slot       uint
	info       cryptoki.Info
	mechanisms map[uint]pkcs11.MechanismInfo
	anchor     pkcs11.SessionHandle      // keeps the login alive, as that is the token's, not a session's
	sessions   chan pkcs11.SessionHandle // idle ones; an operation has one to itself
	lost       chan struct{}             // closed when it is given up

	mu      sync.Mutex
	objects map[cryptoki.KeyID]*object
	spoiled int // failures in a row
	active  int // operations that have a session
}

func newToken(c config, m module, log *slog.Logger) *token {
	return &token{
		config: c, m: m, log: log, steady: lastPause,
		changed: make(chan struct{}), since: time.Now(), why: "not opened yet", pinSalt: randomSalt(),
	}
}

// keepOpen opens the token whenever it is not.
func (t *token) keepOpen(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		o, err := t.open()
		if err != nil {
			t.log.Error("the token cannot be opened", "error", err, "again", pause.String())
			t.mu.Lock()
			t.why = err.Error()
			t.mu.Unlock()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, lastPause)
			continue
		}
		opened := time.Now()
		t.log.Info("token open", "serial", o.info.Serial, "label", o.info.Label, "model", o.info.Model,
			"sessions", o.info.Sessions, "kinds", o.info.Kinds, "algorithms", o.info.Algorithms)
		t.set(o, "")
		select {
		case <-o.lost:
		case <-ctx.Done():
			return
		}
		// A token that is lost as soon as it opens is not asked without end.
		if time.Since(opened) > t.steady {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, lastPause)
		o.drain()
		if err := t.m.CloseAllSessions(o.slot); err != nil {
			t.log.Debug("C_CloseAllSessions", "error", err)
		}
	}
}

func (t *token) set(o *opened, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now, t.why = o, why
	close(t.changed)
	t.changed = make(chan struct{})
}

// lose gives o up. The first to notice does it.
func (t *token) lose(o *opened, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != o {
		return
	}
	t.log.Warn("token lost", "error", err)
	t.now, t.why, t.since = nil, err.Error(), time.Now()
	close(o.lost)
}

// ready returns the open token. It waits for one that was lost a moment ago.
func (t *token) ready(ctx context.Context) (*opened, error) {
	for {
		t.mu.Lock()
		o, changed, left, why := t.now, t.changed, time.Until(t.since.Add(grace)), t.why
		t.mu.Unlock()
		if o != nil {
			return o, nil
		}
		if left <= 0 || ctx.Err() != nil {
			return nil, errAway{why}
		}
		select {
		case <-changed:
		case <-time.After(left):
		case <-ctx.Done():
		}
	}
}

// errAway says that there is no open token.
type errAway struct{ why string }

func (e errAway) Error() string { return e.why }

// open finds the token, logs in and fills the pool.
func (t *token) open() (*opened, error) {
	slot, about, err := t.find()
	if err != nil {
		return nil, err
	}
	o := &opened{slot: slot, lost: make(chan struct{}), objects: map[cryptoki.KeyID]*object{}}
	const flags = pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION
	if o.anchor, err = t.m.OpenSession(slot, flags); err != nil {
		return nil, named("C_OpenSession", err)
	}
	fail := func(err error) (*opened, error) {
		t.m.CloseAllSessions(slot)
		return nil, err
	}
	if err := t.login(o.anchor); err != nil {
		return fail(err)
	}
	n := t.config.sessions
	if most := about.MaxRwSessionCount; most > 1 && most < 1<<30 { // CK_UNAVAILABLE_INFORMATION is all ones
		n = min(n, int(most)-1) // the anchor is one
	}
	o.sessions = make(chan pkcs11.SessionHandle, n)
	for range n {
		s, err := t.m.OpenSession(slot, flags)
		if isCode(err, pkcs11.CKR_SESSION_COUNT) && len(o.sessions) > 0 {
			break // the others are somebody else's
		}
		if err != nil {
			return fail(named("C_OpenSession", err))
		}
		o.sessions <- s
	}
	if err := t.probe(o); err != nil {
		return fail(err)
	}
	o.info.Version = cryptoki.Version
	o.info.Serial, o.info.Label = about.SerialNumber, about.Label
	o.info.Manufacturer, o.info.Model = about.ManufacturerID, about.Model
	o.info.Firmware = fmt.Sprintf("%d.%d", about.FirmwareVersion.Major, about.FirmwareVersion.Minor)
	o.info.Sessions = len(o.sessions)
	return o, nil
}

// find returns the slot of the one token that the configuration names.
func (t *token) find() (uint, pkcs11.TokenInfo, error) {
	slots, err := t.m.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, named("C_GetSlotList", err)
	}
	var found []uint
	var about pkcs11.TokenInfo
	for _, s := range slots {
		i, err := t.m.GetTokenInfo(s)
		if err != nil {
			continue // another token's trouble
		}
		if t.config.serial != "" && i.SerialNumber != t.config.serial || t.config.label != "" && i.Label != t.config.label {
			continue
		}
		found, about = append(found, s), i
	}
	switch {
	case len(found) == 0:
		return 0, about, fmt.Errorf("no token with that label or serial number among %d", len(slots))
	case len(found) > 1:
		return 0, about, fmt.Errorf("%d tokens have that label: name the serial number", len(found))
	case about.SerialNumber == "":
		return 0, about, errors.New("the token has no serial number")
	}
	return found[0], about, nil
}

var errPIN = errors.New("the token refused the PIN; it is not tried again until its file changes, lest the token lock")

// login logs in with the PIN as its file holds it now. A PIN that was refused is
// not given again: a token locks for good after a few.
func (t *token) login(s pkcs11.SessionHandle) error {
	pin, err := readPIN(t.config.pinFile)
	if err != nil {
		return err
	}
	defer clear(pin)
	hash := sha256.Sum256(append(bytes.Clone(t.pinSalt), pin...))
	if hash == t.refused {
		return errPIN
	}
	err = t.m.Login(s, pkcs11.CKU_USER, string(pin))
	switch {
	case err == nil, isCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		t.refused = [sha256.Size]byte{}
		return nil
	case isCode(err, pkcs11.CKR_PIN_INCORRECT), isCode(err, pkcs11.CKR_PIN_LEN_RANGE), isCode(err, pkcs11.CKR_PIN_INVALID),
		isCode(err, pkcs11.CKR_PIN_EXPIRED), isCode(err, pkcs11.CKR_PIN_LOCKED):
		t.refused = hash
		return fmt.Errorf("%w (%w)", errPIN, named("C_Login", err))
	}
	return named("C_Login", err)
}

// readPIN reads the file without the line's end. A file that every user of the
// machine may read is refused.
func readPIN(file string) ([]byte, error) {
	about, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("PIN file: %w", err)
	}
	if about.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("PIN file %s: every user of this machine may read it; take that right away (chmod o= FILE)", file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("PIN file: %w", err)
	}
	pin := bytes.TrimRight(raw, "\r\n")
	if len(pin) == 0 {
		return nil, fmt.Errorf("PIN file %s is empty", file)
	}
	return pin, nil
}

// drain waits for what still runs on o's sessions, as a library may give a closed
// session's handle to a new one; but not for a call that hangs.
func (o *opened) drain() {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		o.mu.Lock()
		n := o.active
		o.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

// take gives an idle session to an operation.
func (o *opened) take(ctx context.Context) (pkcs11.SessionHandle, error) {
	select {
	case s := <-o.sessions:
		o.mu.Lock()
		o.active++
		o.mu.Unlock()
		return s, nil
	case <-o.lost:
		return 0, pkcs11.Error(pkcs11.CKR_SESSION_CLOSED)
	case <-ctx.Done():
		return 0, errBusy
	}
}

var errBusy = errors.New("no session became idle in time")

// give takes the session back, or another in its place if the operation's error
// leaves in doubt what state it is in.
func (t *token) give(o *opened, s pkcs11.SessionHandle, err error) {
	o.mu.Lock()
	o.active--
	if spoilt(err) {
		o.spoiled++
	} else {
		o.spoiled = 0
	}
	many := o.spoiled >= spoilLimit
	o.mu.Unlock()
	switch {
	case lostToken(err), many:
		t.lose(o, err)
		return // the session with it
	case !spoilt(err):
		o.sessions <- s
		return
	}
	select {
	case <-o.lost:
		return
	default:
	}
	t.m.CloseSession(s)
	fresh, failed := t.m.OpenSession(o.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if failed != nil {
		t.lose(o, errors.Join(err, failed))
		return
	}
	o.sessions <- fresh
}
