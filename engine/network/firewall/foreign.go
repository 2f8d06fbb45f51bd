package firewall

import (
	"bytes"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// userChain is the hook for an administrator's own rules in the tables of iptables.
const userChain = "DOCKER-USER"

// foreign keeps our rules in the FORWARD chains of iptables' tables, where they exist: another chain's drop, its policy
// included, would undo what our own table accepts. Nothing is made where iptables is not used.
func foreign(name string, bridges []string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("nftables: chains: %w", err)
	}
	for _, ch := range chains {
		if !isForward(ch) {
			continue
		}
		if err := forwardChain(c, ch, chains, name, bridges); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: FORWARD of iptables: %w", err)
	}
	return nil
}

// forwardChain exchanges our rules in one chain: whatever carries our comment goes, and the new ones come first, behind
// the jump to the administrator's chain.
func forwardChain(c *nftables.Conn, ch *nftables.Chain, all []*nftables.Chain, name string, bridges []string) error {
	old, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return fmt.Errorf("nftables: rules of FORWARD: %w", err)
	}
	mark := userdata.AppendString(nil, userdata.TypeComment, name)
	for _, r := range old {
		if bytes.Equal(r.UserData, mark) {
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	// Each is inserted at the head, so the last one comes first.
	for _, b := range bridges {
		for _, r := range []rule{oif(b, true), iif(b, true)} {
			c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, UserData: mark, Exprs: append(r.exprs, accept().exprs...)})
		}
	}
	if hasUserChain(all, ch.Table) && len(bridges) > 0 {
		c.InsertRule(&nftables.Rule{Table: ch.Table, Chain: ch, UserData: mark, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: userChain}}})
	}
	return nil
}

// foreignWhole reports whether our rules stand where they must, right behind each other and first.
func foreignWhole(c *nftables.Conn, chains []*nftables.Chain, name string, bridges []string) bool {
	mark := userdata.AppendString(nil, userdata.TypeComment, name)
	for _, ch := range chains {
		if !isForward(ch) {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return false
		}
		want := 2 * len(bridges)
		if hasUserChain(chains, ch.Table) && want > 0 {
			want++
		}
		n := 0
		for _, r := range rules {
			if bytes.Equal(r.UserData, mark) {
				n++
			}
		}
		if n != want {
			return false
		}
	}
	return true
}

// isForward picks the FORWARD chains of iptables and ip6tables.
func isForward(ch *nftables.Chain) bool {
	return ch.Name == "FORWARD" && ch.Table.Name == "filter" && ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward &&
		(ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyIPv6)
}

func hasUserChain(chains []*nftables.Chain, t *nftables.Table) bool {
	for _, o := range chains {
		if o.Table.Name == t.Name && o.Table.Family == t.Family && o.Name == userChain {
			return true
		}
	}
	return false
}
