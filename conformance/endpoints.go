package conformance

import (
	"errors"
	"fmt"
	"strings"
)

// endpoints are the cases about containers on networks.
func endpoints() []Case {
	start := []string{"ContainerCreate", "ContainerStart", "ContainerInspect"}
	connect := []string{"NetworkConnect", "NetworkDisconnect", "ContainerInspect", "NetworkInspect"}
	return []Case{
		netCase("connect and disconnect a running container", connect, connectRunning),
		netCase("connect a stopped container", connect, connectStopped),
		netCase("connect refuses what cannot be", []string{"NetworkConnect", "NetworkDisconnect"}, connectRefused),
		netCase("network in use is not removed", []string{"NetworkDelete", "ContainerStart"}, removeInUse),
		netCase("static address and MAC address", start, staticAddress),
		netCase("static IPv6 address", start, staticSix),
		netCase("addresses of an ip-range", start, rangedAddress),
		netCase("several networks at create", start, severalAtCreate).since("1.48"),
		netCase("default bridge refuses aliases and addresses", []string{"ContainerCreate", "NetworkConnect"}, bridgeRefuses),
		netCase("networks are apart", start, apart),
		netCase("names on a network", start, names),
		netCase("names are those of a container's own networks", start, namesApart),
		netCase("links on a network", start, linked),
		netCase("a container may listen on port 53 itself", start, ownPort53),
		netCase("resolv.conf and hosts on a network", start, netFiles),
		netCase("renamed container is found by its new name", []string{"ContainerRename"}, renamed),
	}
}

func subnets(list ...string) obj {
	var config []obj
	for _, s := range list {
		config = append(config, obj{"Subnet": s})
	}
	return obj{"IPAM": obj{"Config": config}}
}

func connectRunning(n *nets) error {
	one, err := n.make("one", subnets("10.252.1.0/24"))
	if err != nil {
		return err
	}
	two, err := n.make("two", subnets("10.252.2.0/24"))
	if err != nil {
		return err
	}
	c, err := n.run(n.name("one"), nil, nil)
	if err != nil {
		return err
	}
	body := obj{"Container": c, "EndpointConfig": obj{"Aliases": []string{"al"}, "DriverOpts": obj{"x": "y"}, "IPAMConfig": obj{"IPv4Address": "10.252.2.77"}}}
	if _, err := n.expect("POST", "/networks/"+two+"/connect", body, 200, ""); err != nil {
		return err
	}
	e, err := n.endpoint(c, n.name("two"))
	if err != nil {
		return err
	}
	err = errors.Join(
		want("IPAddress", e["IPAddress"], "10.252.2.77"), want("IPPrefixLen", e["IPPrefixLen"], 24), want("Gateway", e["Gateway"], "10.252.2.1"), want("NetworkID", e["NetworkID"], two),
		want("DriverOpts", e["DriverOpts"], obj{"x": "y"}), want("IPAMConfig", e["IPAMConfig"], obj{"IPv4Address": "10.252.2.77"}),
	)
	if aliases := fmt.Sprint(e["Aliases"]); err == nil && !strings.HasPrefix(aliases, "[al") {
		err = fmt.Errorf("Aliases: %s", aliases)
	}
	if err != nil {
		return err
	}
	a, err := n.expect("GET", "/networks/"+two, nil, 200, "")
	if err != nil {
		return err
	}
	on, _ := a.JSON()["Containers"].(map[string]any)
	r, _ := on[c].(map[string]any)
	if err := errors.Join(want("IPv4Address", r["IPv4Address"], "10.252.2.77/24"), want("IPv6Address", r["IPv6Address"], ""), want("EndpointID", r["EndpointID"], e["EndpointID"]), want("MacAddress", r["MacAddress"], e["MacAddress"])); err != nil {
		return err
	}
	out, err := n.exec(c, "sh", "-c", "ip -o -4 addr show dev eth1; ip route | grep default; grep -c 10.252 /etc/hosts")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "10.252.2.77/24") || !strings.Contains(out, "default via 10.252.1.1 dev eth0") || !strings.HasSuffix(out, "2\n") {
		return fmt.Errorf("inside: %q", out)
	}
	if _, err := n.expect("POST", "/networks/"+two+"/connect", obj{"Container": c}, 403, "already exists in network "+n.name("two")); err != nil {
		return err
	}
	// The way out moves to what is left.
	if _, err := n.expect("POST", "/networks/"+one+"/disconnect", obj{"Container": c}, 200, ""); err != nil {
		return err
	}
	if out, err = n.exec(c, "sh", "-c", "ip -o link | grep -c eth; ip route | grep default"); err != nil || out != "1\ndefault via 10.252.2.1 dev eth1 \n" {
		return fmt.Errorf("inside, after the first network was left: %q, %w", out, err)
	}
	if _, err := n.expect("POST", "/networks/"+one+"/disconnect", obj{"Container": c}, 500, "is not connected to"); err != nil {
		return err
	}
	_, err = n.expect("POST", "/networks/"+one+"/connect", obj{"Container": c[:12]}, 200, "")
	return err
}

func connectStopped(n *nets) error {
	net, err := n.make("net", nil)
	if err != nil {
		return err
	}
	c, err := n.create(cmd("sleep", "600"), nil)
	if err != nil {
		return err
	}
	for range 2 { // it only edits the configuration
		if _, err := n.expect("POST", "/networks/"+net+"/connect", obj{"Container": c, "EndpointConfig": obj{"Aliases": []string{"al"}}}, 200, ""); err != nil {
			return err
		}
	}
	e, err := n.endpoint(c, n.name("net"))
	if err != nil {
		return err
	}
	if err := errors.Join(want("IPAddress", e["IPAddress"], ""), want("EndpointID", e["EndpointID"], "")); err != nil {
		return err
	}
	if _, err := n.expect("POST", "/containers/"+c+"/start", nil, 204, ""); err != nil {
		return err
	}
	for _, name := range []string{"bridge", n.name("net")} {
		if e, err = n.endpoint(c, name); err != nil {
			return err
		}
		if e["IPAddress"] == "" || e["EndpointID"] == "" {
			return fmt.Errorf("on %s: %v", name, e)
		}
	}
	if _, err := n.expect("POST", "/containers/"+c+"/kill", nil, 204, ""); err != nil {
		return err
	}
	if _, err := n.expect("POST", "/containers/"+c+"/wait", nil, 200, ""); err != nil {
		return err
	}
	if _, err := n.expect("POST", "/networks/"+net+"/disconnect", obj{"Container": c}, 200, ""); err != nil {
		return err
	}
	if e, err = n.endpoint(c, n.name("net")); err == nil {
		return fmt.Errorf("still on the network: %v", e)
	}
	_, err = n.expect("POST", "/networks/"+net+"/disconnect", obj{"Container": c}, 500, "is not connected to")
	return err
}

func connectRefused(n *nets) error {
	net, err := n.make("net", subnets("10.252.3.0/24"))
	if err != nil {
		return err
	}
	first, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	other, err := n.run("bridge", nil, nil)
	if err != nil {
		return err
	}
	host, err := n.run("host", nil, nil)
	if err != nil {
		return err
	}
	none, err := n.run("none", nil, nil)
	if err != nil {
		return err
	}
	joined, err := n.run("container:"+first, nil, nil)
	if err != nil {
		return err
	}
	ip := func(a string) obj { return obj{"IPAMConfig": obj{"IPv4Address": a}} }
	for _, tc := range []struct {
		network, container string
		endpoint           obj
		status             int
		part               string
	}{
		{net, other, ip("10.252.3.2"), 403, "Address already in use"},
		{net, "", nil, 400, ""},
		{net, host, nil, 400, "container sharing network namespace with another container or host cannot be connected to any other network"},
		{net, joined, nil, 400, "container sharing network namespace with another container or host cannot be connected to any other network"},
		{net, none, nil, 400, "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{"none", other, nil, 400, "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{"host", other, nil, 400, "host network"},
		{"nosuch", other, nil, 404, "network nosuch not found"},
	} {
		body := obj{"Container": tc.container}
		if tc.endpoint != nil {
			body["EndpointConfig"] = tc.endpoint
		}
		if _, err := n.expect("POST", "/networks/"+tc.network+"/connect", body, tc.status, tc.part); err != nil {
			return err
		}
	}
	if _, err := n.expect("POST", "/networks/host/disconnect", obj{"Container": host}, 400, "host network"); err != nil {
		return err
	}
	_, err = n.expect("POST", "/networks/"+net+"/disconnect", obj{"Container": other}, 500, "is not connected to")
	return err
}

func removeInUse(n *nets) error {
	net, err := n.make("net", nil)
	if err != nil {
		return err
	}
	c, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	if _, err := n.expect("DELETE", "/networks/"+net, nil, 403, "has active endpoints"); err != nil {
		return err
	}
	if _, err := n.expect("POST", "/containers/"+c+"/stop?t=0", nil, 204, ""); err != nil {
		return err
	}
	if _, err := n.expect("DELETE", "/networks/"+net, nil, 204, ""); err != nil {
		return err
	}
	_, err = n.expect("POST", "/containers/"+c+"/start", nil, 404, "not found")
	return err
}

func staticAddress(n *nets) error {
	if _, err := n.make("net", subnets("10.252.4.0/24")); err != nil {
		return err
	}
	e := obj{n.name("net"): obj{"IPAMConfig": obj{"IPv4Address": "10.252.4.9"}, "Aliases": []string{"al"}}}
	c, err := n.run(n.name("net"), e, obj{"MacAddress": "02:42:0a:fc:04:63"})
	if err != nil {
		return err
	}
	got, err := n.endpoint(c, n.name("net"))
	if err != nil {
		return err
	}
	if err := errors.Join(want("IPAddress", got["IPAddress"], "10.252.4.9"), want("MacAddress", got["MacAddress"], "02:42:0a:fc:04:63")); err != nil {
		return err
	}
	out, err := n.exec(c, "sh", "-c", "cat /sys/class/net/eth0/address; ip -o -4 addr show dev eth0 | grep -o '10.252.4.9/24'")
	if err != nil || out != "02:42:0a:fc:04:63\n10.252.4.9/24\n" {
		return fmt.Errorf("inside: %q, %w", out, err)
	}
	// The lowest free address comes next.
	other, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	if got, err = n.endpoint(other, n.name("net")); err != nil {
		return err
	}
	return want("IPAddress", got["IPAddress"], "10.252.4.2")
}

func staticSix(n *nets) error {
	o := subnets("10.252.5.0/24", "fd00:252:5::/64")
	o["EnableIPv6"] = true
	if _, err := n.make("net", o); err != nil {
		return err
	}
	c, err := n.run(n.name("net"), obj{n.name("net"): obj{"IPAMConfig": obj{"IPv6Address": "fd00:252:5::99"}}}, nil)
	if err != nil {
		return err
	}
	got, err := n.endpoint(c, n.name("net"))
	if err != nil {
		return err
	}
	err = errors.Join(
		want("GlobalIPv6Address", got["GlobalIPv6Address"], "fd00:252:5::99"), want("GlobalIPv6PrefixLen", got["GlobalIPv6PrefixLen"], 64), want("IPv6Gateway", got["IPv6Gateway"], "fd00:252:5::1"),
		want("IPAddress", got["IPAddress"], "10.252.5.2"),
	)
	if err != nil {
		return err
	}
	_, err = n.exec(c, "ping", "-6", "-c", "1", "-W", "5", "fd00:252:5::1")
	return err
}

func rangedAddress(n *nets) error {
	if _, err := n.make("net", obj{"IPAM": obj{"Config": []obj{{"Subnet": "10.252.6.0/24", "IPRange": "10.252.6.64/26", "Gateway": "10.252.6.1", "AuxiliaryAddresses": obj{"a": "10.252.6.64"}}}}}); err != nil {
		return err
	}
	c, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	got, err := n.endpoint(c, n.name("net"))
	if err != nil {
		return err
	}
	return errors.Join(want("IPAddress", got["IPAddress"], "10.252.6.65"), want("Gateway", got["Gateway"], "10.252.6.1"))
}

func severalAtCreate(n *nets) error {
	for _, name := range []string{"aa", "zz"} {
		if _, err := n.make(name, nil); err != nil {
			return err
		}
	}
	c, err := n.run(n.name("aa"), obj{n.name("aa"): obj{}, n.name("zz"): obj{"GwPriority": 7}}, nil)
	if err != nil {
		return err
	}
	if _, err := n.endpoint(c, n.name("aa")); err != nil {
		return err
	}
	e, err := n.endpoint(c, n.name("zz"))
	if err != nil {
		return err
	}
	out, err := n.exec(c, "sh", "-c", "ip -o link | grep -c eth; ip route | grep default | cut -d' ' -f3")
	if err != nil {
		return err
	}
	return want("interfaces and way out", out, fmt.Sprintf("2\n%s\n", e["Gateway"]))
}

func bridgeRefuses(n *nets) error {
	for _, tc := range []struct {
		e    obj
		part string
	}{
		{obj{"Aliases": []string{"al"}}, "network-scoped alias"},
		{obj{"IPAMConfig": obj{"IPv4Address": "172.17.0.99"}}, "user specified IP address is supported on user defined networks only"},
	} {
		c, err := n.run("bridge", nil, nil)
		if err != nil {
			return err
		}
		if _, err := n.expect("POST", "/networks/bridge/disconnect", obj{"Container": c}, 200, ""); err != nil {
			return err
		}
		if _, err := n.expect("POST", "/networks/bridge/connect", obj{"Container": c, "EndpointConfig": tc.e}, 400, tc.part); err != nil {
			return err
		}
	}
	return nil
}

func apart(n *nets) error {
	for _, name := range []string{"one", "two"} {
		if _, err := n.make(name, nil); err != nil {
			return err
		}
	}
	server, err := n.run(n.name("one"), nil, obj{"Cmd": []string{"httpd", "-f", "-p", "80", "-h", "/etc"}})
	if err != nil {
		return err
	}
	e, err := n.endpoint(server, n.name("one"))
	if err != nil {
		return err
	}
	try := fmt.Sprintf("nc -w 2 %s 80 </dev/null >/dev/null 2>&1 && echo reached || echo apart", e["IPAddress"])
	for mode, want := range map[string]string{n.name("one"): "reached\n", n.name("two"): "apart\n", "bridge": "apart\n"} {
		c, err := n.run(mode, nil, nil)
		if err != nil {
			return err
		}
		if out, err := n.exec(c, "sh", "-c", try); err != nil || out != want {
			return fmt.Errorf("from network %s: %q, want %q; %w", mode, out, want, err)
		}
	}
	return nil
}

func names(n *nets) error {
	o := subnets("10.252.7.0/24", "fd00:252:7::/64")
	o["EnableIPv6"] = true
	if _, err := n.make("net", o); err != nil {
		return err
	}
	server, err := n.run(n.name("net"), obj{n.name("net"): obj{"Aliases": []string{"web", "WWW"}, "IPAMConfig": obj{"IPv4Address": "10.252.7.77", "IPv6Address": "fd00:252:7::77"}}}, nil)
	if err != nil {
		return err
	}
	a, err := n.expect("GET", "/containers/"+server+"/json", nil, 200, "")
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(fmt.Sprint(a.JSON()["Name"]), "/")
	c, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	for _, host := range []string{name, "web", "www", server[:12], name + "." + n.name("net"), "web." + n.name("net")} {
		out, err := n.exec(c, "sh", "-c", "nslookup -type=a "+host+"; nslookup -type=aaaa "+host)
		if err != nil || !strings.Contains(out, "10.252.7.77") || !strings.Contains(out, "fd00:252:7::77") {
			return fmt.Errorf("%s: %q, %w", host, out, err)
		}
	}
	for _, addr := range []string{"10.252.7.77", "fd00:252:7::77"} {
		out, err := n.exec(c, "nslookup", addr)
		if err != nil || !strings.Contains(out, "name = "+name+"."+n.name("net")) {
			return fmt.Errorf("%s: %q, %w", addr, out, err)
		}
	}
	_, err = n.exec(c, "ping", "-c", "1", "-W", "5", "web")
	return err
}

func namesApart(n *nets) error {
	for _, name := range []string{"one", "two"} {
		if _, err := n.make(name, obj{"Internal": true}); err != nil { // nobody else is asked
			return err
		}
	}
	server, err := n.run(n.name("one"), obj{n.name("one"): obj{"Aliases": []string{"web"}}}, nil)
	if err != nil {
		return err
	}
	c, err := n.run(n.name("two"), nil, nil)
	if err != nil {
		return err
	}
	for _, host := range []string{"web", "web." + n.name("one"), server[:12]} {
		if out, err := n.exec(c, "sh", "-c", "ping -c 1 -W 1 "+host+" >/dev/null 2>&1 && echo found || echo unknown"); err != nil || out != "unknown\n" {
			return fmt.Errorf("%s: %q, %w", host, out, err)
		}
	}
	if _, err := n.expect("POST", "/networks/"+n.name("one")+"/connect", obj{"Container": c}, 200, ""); err != nil {
		return err
	}
	_, err = n.exec(c, "ping", "-c", "1", "-W", "5", "web")
	return err
}

func linked(n *nets) error {
	if _, err := n.make("net", subnets("10.252.8.0/24")); err != nil {
		return err
	}
	server, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	a, err := n.expect("GET", "/containers/"+server+"/json", nil, 200, "")
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(fmt.Sprint(a.JSON()["Name"]), "/")
	c, err := n.run(n.name("net"), obj{n.name("net"): obj{"Links": []string{name + ":other"}}}, nil)
	if err != nil {
		return err
	}
	e, err := n.endpoint(c, n.name("net"))
	if err != nil {
		return err
	}
	if err := want("Links", e["Links"], []string{name + ":other"}); err != nil {
		return err
	}
	out, err := n.exec(c, "nslookup", "-type=a", "other")
	if err != nil || !strings.Contains(out, "10.252.8.2") {
		return fmt.Errorf("the link: %q, %w", out, err)
	}
	return nil
}

func ownPort53(n *nets) error {
	if _, err := n.make("net", nil); err != nil {
		return err
	}
	server, err := n.run(n.name("net"), obj{n.name("net"): obj{"Aliases": []string{"web"}}}, obj{"Cmd": []string{"sh", "-c", "while true; do nc -l -p 53 -e echo mine; done"}})
	if err != nil {
		return err
	}
	if _, err := n.exec(server, "ping", "-c", "1", "-W", "5", "web"); err != nil { // its own resolver still answers
		return err
	}
	c, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	out, err := n.exec(c, "sh", "-c", "for i in 1 2 3 4 5; do nc -w 5 web 53 </dev/null && exit; sleep 0.2; done; exit 1")
	if err != nil || out != "mine\n" {
		return fmt.Errorf("the container's own server: %q, %w", out, err)
	}
	return nil
}

func netFiles(n *nets) error {
	if _, err := n.make("net", subnets("10.252.9.0/24")); err != nil {
		return err
	}
	c, err := n.run(n.name("net"), nil, obj{"Hostname": "foo", "Domainname": "bar.example", "HostConfig": obj{"ExtraHosts": []string{"x.y:1.2.3.4"}, "DnsSearch": []string{"bar.example"}}})
	if err != nil {
		return err
	}
	out, err := n.exec(c, "cat", "/etc/resolv.conf", "/etc/hosts")
	if err != nil {
		return err
	}
	for _, line := range []string{"nameserver 127.0.0.11\n", "search bar.example\n", "ndots:0\n", "1.2.3.4\tx.y\n", "10.252.9.2\tfoo.bar.example foo\n"} {
		if !strings.Contains(out, line) {
			return fmt.Errorf("%q is not in %q", line, out)
		}
	}
	return nil
}

func renamed(n *nets) error {
	if _, err := n.make("net", nil); err != nil {
		return err
	}
	server, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	if _, err := n.expect("POST", "/containers/"+server+"/rename?name="+n.name("fresh"), nil, 204, ""); err != nil {
		return err
	}
	c, err := n.run(n.name("net"), nil, nil)
	if err != nil {
		return err
	}
	_, err = n.exec(c, "ping", "-c", "1", "-W", "5", n.name("fresh"))
	return err
}
