package own

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/kluis-io/kluis/posture"
)

// Answers of a control on one thing.
const (
	Pass          = "pass"
	Fail          = "fail"
	Unknown       = "unknown"
	NotApplicable = "not-applicable"
)

// chunk is how many things a worker takes at a time.
const chunk = 512

// Check judges by all controls. It implements [posture.Checker].
func (s *Set) Check(in *posture.Judged) []posture.Result {
	root := &view{in: in}
	about := map[string][]*Control{}
	for _, c := range s.all {
		about[c.About] = append(about[c.About], c)
	}
	out := judge(about[AboutResource], len(in.Resources), func(i int) (*view, posture.Result) {
		r := &in.Resources[i]
		v := root.sub(resourceKind)
		v.resource = r
		return v, posture.Result{ID: r.ID, Type: r.Type, About: r.Resource}
	})
	out = append(out, judge(about[AboutKey], len(in.Inventory.Keys), func(i int) (*view, posture.Result) {
		k := in.Inventory.Keys[i]
		return root.keyView(k.Ref), posture.Result{ID: k.Ref.URL(), Type: "Microsoft.KeyVault/vaults/keys", About: k}
	})...)
	return append(out, judge(about[AboutVault], len(in.Inventory.Vaults), func(i int) (*view, posture.Result) {
		v := in.Inventory.Vaults[i]
		return root.vaultView(v), posture.Result{ID: v.ID, Type: v.Kind(), About: v}
	})...)
}

// judge asks controls about n things, on all processors, and returns what does not
// hold in the order of the things.
func judge(controls []*Control, n int, thing func(int) (*view, posture.Result)) []posture.Result {
	if len(controls) == 0 {
		return nil
	}
	parts := make([][]posture.Result, (n+chunk-1)/chunk)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(parts)) {
		wg.Go(func() {
			for p := range next {
				for i := p * chunk; i < min(n, (p+1)*chunk); i++ {
					v, r := thing(i)
					for _, c := range controls {
						answer, detail := c.ask(v)
						if answer == Pass || answer == NotApplicable {
							continue
						}
						r.Control, r.Unknown, r.Detail = &c.Control, answer == Unknown, detail
						parts[p] = append(parts[p], r)
					}
				}
			}
		})
	}
	for p := range parts {
		next <- p
	}
	close(next)
	wg.Wait()
	return slices.Concat(parts...)
}

// ask returns what c says of v, and why.
func (c *Control) ask(v *view) (answer, detail string) {
	vars := map[string]any{c.About: v, "now": types.Timestamp{Time: v.in.Now}}
	applies := Pass
	if c.applies != nil {
		if applies, detail = eval(c.applies, vars); applies == Fail {
			return NotApplicable, ""
		}
	}
	answer, why := eval(c.assert, vars)
	switch {
	case answer == Pass:
		return Pass, "" // it holds, whether it applies or not
	case applies == Unknown:
		return Unknown, "whether it applies is not known: " + detail
	case answer == Fail:
		return Fail, "does not hold: " + c.says
	}
	return Unknown, why
}

// eval evaluates one expression: Pass if it is true, Fail if it is false.
func eval(p cel.Program, vars map[string]any) (answer, why string) {
	val, _, err := p.Eval(vars)
	switch {
	case err != nil:
		return Unknown, "it could not be evaluated: " + err.Error()
	case types.IsUnknown(val):
		return Unknown, "not read, or known after apply: " + strings.Join(trails(val), ", ")
	case val == types.True:
		return Pass, ""
	case val == types.False:
		return Fail, ""
	}
	return Unknown, fmt.Sprintf("it is neither true nor false, but a %s", val.Type().TypeName())
}

// trails returns what makes a value unknown.
func trails(v ref.Val) (out []string) {
	all, _ := v.(*types.Unknown).GetAttributeTrails(1)
	for _, t := range all {
		out = append(out, t.Variable())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
