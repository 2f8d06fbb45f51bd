package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// nets is a case about networks.
type nets struct{ *T }

func netCase(name string, ops []string, run func(n *nets) error) Case {
	return story(name, ops, func(t *T) error { return run(&nets{t}) })
}

// name is one that this run alone uses.
func (n *nets) name(s string) string { return n.prefix + s }

// make creates a network and returns its id. Options may be nil.
func (n *nets) make(name string, o obj) (string, error) {
	body := obj{"Name": n.name(name), "CheckDuplicate": true}
	for k, v := range o {
		body[k] = v
	}
	a, err := n.expect("POST", "/networks/create", body, 201, `"Warning":""`)
	if err != nil {
		return "", err
	}
	id, _ := a.JSON()["Id"].(string)
	return id, nil
}

// run starts a container that sleeps, with endpoints by network name, and returns its id.
func (n *nets) run(mode string, endpoints obj, config obj) (string, error) {
	c := obj{"Cmd": []string{"sleep", "600"}, "StopSignal": "KILL"}
	for k, v := range config {
		c[k] = v
	}
	if endpoints != nil {
		c["NetworkingConfig"] = obj{"EndpointsConfig": endpoints}
	}
	host, _ := c["HostConfig"].(obj)
	if host == nil {
		host = obj{}
	}
	host["NetworkMode"] = mode
	id, err := n.create(c, host)
	if err != nil {
		return "", err
	}
	_, err = n.expect("POST", "/containers/"+id+"/start", nil, 204, "")
	return id, err
}

// exec runs a command in a container and returns what it printed; its exit code must be 0.
func (n *nets) exec(id string, words ...string) (string, error) {
	a, err := n.expect("POST", "/containers/"+id+"/exec", obj{"Cmd": words, "AttachStdout": true, "AttachStderr": true, "Tty": true}, 201, "Id")
	if err != nil {
		return "", err
	}
	x, _ := a.JSON()["Id"].(string)
	out, err := n.expect("POST", "/exec/"+x+"/start", obj{"Tty": true}, 200, "")
	if err != nil {
		return "", err
	}
	a, err = n.expect("GET", "/exec/"+x+"/json", nil, 200, "ExitCode")
	if err != nil {
		return "", err
	}
	text := strings.ReplaceAll(string(out.Body), "\r\n", "\n")
	if code, _ := a.JSON()["ExitCode"].(float64); code != 0 {
		return text, fmt.Errorf("%v: exit code %v, output %q", words, code, text)
	}
	return text, nil
}

// endpoint is a container's settings on a network, from inspect.
func (n *nets) endpoint(id, network string) (obj, error) {
	a, err := n.expect("GET", "/containers/"+id+"/json", nil, 200, "")
	if err != nil {
		return nil, err
	}
	ns, _ := a.JSON()["NetworkSettings"].(map[string]any)
	all, _ := ns["Networks"].(map[string]any)
	e, ok := all[network].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not on network %s: %v", network, all)
	}
	return e, nil
}

func want(what string, got, want any) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}

// networks are the cases about networks as objects.
func networks() []Case {
	create := []string{"NetworkCreate"}
	refused := func(name string, body obj, status int, part string) Case {
		return netCase("network create: "+name, create, func(n *nets) error {
			if body["Name"] == nil {
				body["Name"] = n.name("refused")
			}
			_, err := n.expect("POST", "/networks/create", body, status, part)
			return err
		})
	}
	subnet := func(s string) obj { return obj{"Config": []obj{{"Subnet": s}}} }
	return []Case{
		refused("predefined name", obj{"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
		refused("second host network", obj{"Driver": "host"}, 403, `only one instance of \"host\" network is allowed`),
		refused("second null network", obj{"Driver": "null"}, 403, `only one instance of \"null\" network is allowed`),
		refused("overlap with the default bridge", obj{"IPAM": subnet("172.17.0.0/16")}, 403, "Pool overlaps with other one on this address space"),
		refused("two subnets of a bridge that overlap", obj{"IPAM": obj{"Config": []obj{{"Subnet": "10.251.9.0/24"}, {"Subnet": "10.251.9.0/25"}}}}, 403, "Pool overlaps with other one on this address space"),
		refused("unknown configuration network", obj{"ConfigFrom": obj{"Network": "nosuch"}}, 404, `configuration network \"nosuch\" does not exist`),
		refused("configuration network that is internal", obj{"ConfigOnly": true, "Internal": true}, 403, "configuration network can only contain network specific fields"),
		simple("network remove: predefined", "NetworkDelete", "DELETE", "/networks/host", nil, 403, "host is a pre-defined network and cannot be removed"),
		simple("network remove: missing", "NetworkDelete", "DELETE", "/networks/nosuch", nil, 404, "network nosuch not found"),
		simple("network connect: missing container", "NetworkConnect", "POST", "/networks/nosuch/connect", obj{"Container": "nosuch"}, 404, "No such container: nosuch"),
		simple("network disconnect: missing container", "NetworkDisconnect", "POST", "/networks/nosuch/disconnect", obj{"Container": "nosuch"}, 404, "No such container: nosuch"),
		simple("network inspect: bad verbose", "NetworkInspect", "GET", "/networks/host?verbose=x", nil, 400, "invalid value for verbose: x"),
		simple("network inspect: other scope", "NetworkInspect", "GET", "/networks/host?scope=swarm", nil, 404, "network host not found"),
		simple("network list: unknown type", "NetworkList", "GET", `/networks?filters={"type":["x"]}`, nil, 500, "invalid filter: 'type'='x'"),
		simple("network list: unknown filter", "NetworkList", "GET", `/networks?filters={"foo":["x"]}`, nil, 400, "invalid filter 'foo'"),
		simple("network prune by an unknown filter", "NetworkPrune", "POST", `/networks/prune?filters={"foo":["x"]}`, nil, 400, "invalid filter 'foo'"),
		netCase("network create and inspect", []string{"NetworkCreate", "NetworkInspect", "NetworkDelete"}, inspectNetwork),
		netCase("network create: name in use", create, func(n *nets) error {
			if _, err := n.make("dup", nil); err != nil {
				return err
			}
			_, err := n.expect("POST", "/networks/create", obj{"Name": n.name("dup"), "CheckDuplicate": true}, 409, "network with name "+n.name("dup")+" already exists")
			return err
		}),
		netCase("network create: bridge name in use", create, func(n *nets) error {
			named := obj{"Options": obj{"com.docker.network.bridge.name": "brconf0"}}
			if _, err := n.make("bridge", named); err != nil {
				return err
			}
			_, err := n.expect("POST", "/networks/create", obj{"Name": n.name("again"), "Options": named["Options"]}, 403, "networks have same bridge name")
			return err
		}),
		netCase("network create: configuration network", []string{"NetworkCreate", "NetworkDelete"}, configNetwork),
		netCase("network list by filters", []string{"NetworkList"}, listNetworks),
		netCase("network prune by label", []string{"NetworkPrune"}, pruneNetworks),
		netCase("network events", []string{"SystemEvents", "NetworkCreate", "NetworkConnect", "NetworkDisconnect", "NetworkDelete"}, networkEvents),
	}
}

func inspectNetwork(n *nets) error {
	id, err := n.make("full", obj{
		"Internal": true, "Attachable": true, "Labels": obj{"a": "b"}, "Options": obj{"com.docker.network.driver.mtu": "1400"},
		"IPAM": obj{"Config": []obj{{"Subnet": "10.251.7.0/24", "IPRange": "10.251.7.128/25", "Gateway": "10.251.7.254", "AuxiliaryAddresses": obj{"h": "10.251.7.5"}}}, "Options": obj{"foo": "bar"}},
	})
	if err != nil {
		return err
	}
	for _, ref := range []string{id, id[:12], n.name("full")} {
		a, err := n.expect("GET", "/networks/"+ref, nil, 200, "")
		if err != nil {
			return err
		}
		j := a.JSON()
		err = errors.Join(
			want("Id", j["Id"], id), want("Name", j["Name"], n.name("full")), want("Driver", j["Driver"], "bridge"), want("Scope", j["Scope"], "local"),
			want("Internal", j["Internal"], true), want("Attachable", j["Attachable"], true), want("Labels", j["Labels"], obj{"a": "b"}), want("EnableIPv6", j["EnableIPv6"], false),
			want("Options", j["Options"], obj{"com.docker.network.driver.mtu": "1400"}), want("Containers", j["Containers"], obj{}), want("ConfigFrom", j["ConfigFrom"], obj{"Network": ""}),
			want("IPAM", j["IPAM"], obj{"Driver": "default", "Options": obj{"foo": "bar"}, "Config": []any{obj{"Subnet": "10.251.7.0/24", "IPRange": "10.251.7.128/25", "Gateway": "10.251.7.254", "AuxiliaryAddresses": obj{"h": "10.251.7.5"}}}}),
		)
		if err != nil {
			return err
		}
	}
	if _, err = n.expect("DELETE", "/networks/"+id, nil, 204, ""); err != nil {
		return err
	}
	_, err = n.expect("GET", "/networks/"+id, nil, 404, "network "+id+" not found")
	return err
}

func configNetwork(n *nets) error {
	cfg, err := n.make("cfg", obj{"ConfigOnly": true, "IPAM": obj{"Config": []obj{{"Subnet": "10.251.10.0/24"}}}})
	if err != nil {
		return err
	}
	a, err := n.expect("GET", "/networks/"+cfg, nil, 200, "")
	if err != nil {
		return err
	}
	if err := errors.Join(want("ConfigOnly", a.JSON()["ConfigOnly"], true), want("Driver", a.JSON()["Driver"], "null")); err != nil {
		return err
	}
	from, err := n.make("from", obj{"ConfigFrom": obj{"Network": n.name("cfg")}})
	if err != nil {
		return err
	}
	if a, err = n.expect("GET", "/networks/"+from, nil, 200, `"Subnet":"10.251.10.0/24"`); err != nil {
		return err
	}
	if err := want("ConfigFrom", a.JSON()["ConfigFrom"], obj{"Network": n.name("cfg")}); err != nil {
		return err
	}
	if _, err := n.expect("DELETE", "/networks/"+cfg, nil, 403, "is in use"); err != nil {
		return err
	}
	if _, err := n.expect("DELETE", "/networks/"+from, nil, 204, ""); err != nil {
		return err
	}
	_, err = n.expect("DELETE", "/networks/"+cfg, nil, 204, "")
	return err
}

func listNetworks(n *nets) error {
	id, err := n.make("listed", obj{"Labels": obj{"conf": "x"}})
	if err != nil {
		return err
	}
	for filter, hit := range map[string]bool{
		`{"name":["` + n.name("listed") + `"]}`: true, `{"name":["` + n.name("other") + `"]}`: false, `{"id":["` + id[:10] + `"]}`: true,
		`{"label":["conf=x"]}`: true, `{"label":["conf"]}`: true, `{"label":["conf=y"]}`: false, `{"driver":["bridge"]}`: true, `{"driver":["host"]}`: false,
		`{"type":["custom"]}`: true, `{"type":["builtin"]}`: false, `{"scope":["local"]}`: true, `{"scope":["swarm"]}`: false, `{"dangling":["true"]}`: true, `{"dangling":["false"]}`: false,
	} {
		a, err := n.expect("GET", "/networks?filters="+filter, nil, 200, "")
		if err != nil {
			return err
		}
		got := false
		for _, l := range a.List() {
			got = got || l["Id"] == id
		}
		if got != hit {
			return fmt.Errorf("filter %s: listed %v, want %v", filter, got, hit)
		}
	}
	return nil
}

func pruneNetworks(n *nets) error {
	label := n.name("label")
	if _, err := n.make("pruned", obj{"Labels": obj{label: "1"}}); err != nil {
		return err
	}
	used, err := n.make("used", obj{"Labels": obj{label: "1"}})
	if err != nil {
		return err
	}
	if _, err := n.run(used, nil, nil); err != nil {
		return err
	}
	a, err := n.expect("POST", `/networks/prune?filters={"label":["`+label+`"]}`, nil, 200, "")
	if err != nil {
		return err
	}
	if err := want("NetworksDeleted", a.JSON()["NetworksDeleted"], []string{n.name("pruned")}); err != nil {
		return err
	}
	a, err = n.expect("POST", `/networks/prune?filters={"label":["`+label+`"]}`, nil, 200, "")
	if err != nil {
		return err
	}
	return want("NetworksDeleted", a.JSON()["NetworksDeleted"], nil)
}

func networkEvents(n *nets) error {
	id, err := n.make("ev", nil)
	if err != nil {
		return err
	}
	c, err := n.run(n.name("ev"), nil, nil)
	if err != nil {
		return err
	}
	if _, err := n.expect("POST", "/networks/"+id+"/disconnect", obj{"Container": c}, 200, ""); err != nil {
		return err
	}
	if _, err := n.expect("DELETE", "/networks/"+id, nil, 204, ""); err != nil {
		return err
	}
	a, err := n.expect("GET", `/events?since=1&until=`+fmt.Sprintf("%.3f", float64(time.Now().UnixMilli()+1)/1000)+`&filters={"type":["network"],"network":["`+n.name("ev")+`"]}`, nil, 200, "")
	if err != nil {
		return err
	}
	var got []string
	for _, e := range jsonLines(a.Body) {
		actor, _ := e["Actor"].(map[string]any)
		attrs, _ := actor["Attributes"].(map[string]any)
		if err := errors.Join(want("event's id", actor["ID"], id), want("event's name", attrs["name"], n.name("ev")), want("event's type", attrs["type"], "bridge")); err != nil {
			return err
		}
		word := fmt.Sprint(e["Action"])
		if word == "connect" || word == "disconnect" {
			if err := want("event's container", attrs["container"], c); err != nil {
				return err
			}
		}
		got = append(got, word)
	}
	got = slices.Compact(got) // 20.10 tells a disconnection twice
	return want("events", got, []string{"create", "connect", "disconnect", "destroy"})
}

// jsonLines decodes a stream of objects.
func jsonLines(b []byte) (out []obj) {
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var o obj
		if dec.Decode(&o) != nil {
			return out
		}
		out = append(out, o)
	}
}
