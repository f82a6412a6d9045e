package scope

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// preview shows what applying a key would meet, and changes nothing.
func (k Kind) preview(c *portal.Call) error {
	p, err := k.read(c)
	if err != nil {
		return err
	}
	p.Key, p.Resealed = strings.TrimSpace(c.R.PostFormValue("key")), c.R.PostFormValue("reseal") != ""
	p.Preview = &client.Preview{}
	if err := c.Parties.ChangeEncryption(c.Context(), p.Scope, "preview", map[string]string{"keyIdentifier": p.Key}, p.Preview); err != nil {
		p.Preview, p.Problem = nil, c.Explain(err)
	}
	if c.Partial() {
		return c.Fragment(p.Section+"/encryption", "preview", p)
	}
	return p.render(c)
}

func (k Kind) assign(c *portal.Call) error {
	p, err := k.find(c)
	if err != nil {
		return err
	}
	p.Key, p.Resealed = strings.TrimSpace(c.R.PostFormValue("key")), k.ReSeal && c.R.PostFormValue("reseal") != ""
	if err := k.Assign(c, p.Subject, p.Key, p.Resealed); err != nil {
		// The form keeps what was typed, and says why it was not taken.
		p.Problem = c.Explain(err)
		if p.ask(c.Context(), c.Parties) != nil {
			return err
		}
		return p.render(c)
	}
	return c.Done(p.At, "The key is applied. %ss are re-encrypted one after the other.", strings.ToUpper(k.Item[:1])+k.Item[1:])
}

// act makes one act of the scope that the request names, and says that it is done.
func (k Kind) act(c *portal.Call, fn func(Subject) error, done string) error {
	p, err := k.find(c)
	if err == nil {
		err = fn(p.Subject)
	}
	if err != nil {
		return err
	}
	return c.Done(p.At, "%s", done)
}

// retry has what failed tried anew.
func (k Kind) retry(c *portal.Call) error {
	return k.act(c, func(s Subject) error { return k.Retry(c, s) }, "The failed "+k.Item+"s are tried again.")
}

func (k Kind) confirmReset(c *portal.Call) error {
	p, err := k.read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("reset", portal.Crumb{Title: "Reset"}))
}

// typed fails unless the form holds the scope's name, which is asked for before what
// cannot be undone at once.
func (k Kind) typed(c *portal.Call, s Subject) error {
	if strings.TrimSpace(c.R.PostFormValue("name")) != s.Name {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was done", Detail: "What was typed is not the " + k.Noun + "’s name.",
			Mend: fmt.Sprintf("Go back and type %q to go on.", s.Name)}
	}
	return nil
}

func (k Kind) reset(c *portal.Call) error {
	return k.act(c, func(s Subject) error {
		if err := k.typed(c, s); err != nil {
			return err
		}
		return k.Reset(c, s)
	}, "The "+k.Noun+" goes back to platform-managed keys.")
}

// change makes one of the calls below the scope's encryption.
func (k Kind) change(c *portal.Call, act, done string) error {
	return k.act(c, func(s Subject) error { return c.Parties.ChangeEncryption(c.Context(), s.Scope, act, nil, nil) }, done)
}

func (k Kind) rotate(c *portal.Call) error {
	return k.change(c, "rotate", "A deep rotation has begun: everything is re-encrypted under a new scope key.")
}

func (k Kind) revalidate(c *portal.Call) error {
	return k.change(c, "revalidate", "The vault was asked again, and said yes.")
}

func (k Kind) setBound(c *portal.Call) error {
	n, err := strconv.ParseInt(strings.TrimSpace(c.R.PostFormValue("seconds")), 10, 64)
	if c.R.PostFormValue("seconds") == "" {
		n, err = 0, nil
	}
	if err != nil {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was changed", Detail: "The bound is a whole number of seconds."}
	}
	return k.act(c, func(s Subject) error {
		return c.Parties.PutEncryption(c.Context(), s.Scope, "killSwitchBound", map[string]int64{"seconds": n})
	}, "The kill-switch bound is set.")
}

func (k Kind) confirmLost(c *portal.Call) error {
	p, err := k.read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("lost", portal.Crumb{Title: "Key lost"}))
}

func (k Kind) declareLost(c *portal.Call) error {
	lost := c.R.PostFormValue("lost") == "true"
	done := "The key is no longer declared lost."
	if lost {
		done = "The key is declared lost. " + strings.ToUpper(k.Item[:1]) + k.Item[1:] + "s can be deleted without it."
	}
	return k.act(c, func(s Subject) error {
		if lost {
			if err := k.typed(c, s); err != nil {
				return err
			}
		}
		return c.Parties.PutEncryption(c.Context(), s.Scope, "keyLost", map[string]bool{"lost": lost})
	}, done)
}

// impact shows what goes dark with the scope's key.
func (k Kind) impact(c *portal.Call) error {
	p, err := k.read(c)
	if err != nil {
		return err
	}
	if p.E.Detail.KeyIdentifier != "" {
		if p.Impact, err = c.Parties.Impact(c.Context(), p.E.Detail.KeyIdentifier); err != nil {
			return err
		}
	}
	return c.Render(p.view("impact", portal.Crumb{Title: "Impact"}))
}
