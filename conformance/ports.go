package conformance

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ports are the cases about published ports. They look from containers, since the host's own view is out of reach: the
// gateway of a network is an address of the host.
func ports() []Case {
	ops := []string{"ContainerCreate", "ContainerStart", "ContainerInspect"}
	return []Case{
		netCase("published port is reached through the host", ops, publishedPort),
		netCase("port that is taken", ops, takenPort),
		netCase("one port on two addresses", ops, portOnAddresses),
		netCase("ephemeral ports and ranges", append(ops, "ContainerList"), chosenPorts),
		netCase("port goes with its container", append(ops, "ContainerStop"), portFreed),
		netCase("address that the host does not have", ops, foreignAddress),
		netCase("ports follow the way out", append(ops, "NetworkConnect", "NetworkDisconnect"), portsMove),
	}
}

// server answers "mine" to every TCP connection on port 80.
var server = []string{"sh", "-c", "while true; do nc -l -p 80 -e echo mine; done"}

// ask connects until somebody answers.
func (n *nets) ask(from, addr, port string) error {
	out, err := n.exec(from, "sh", "-c", fmt.Sprintf("for i in 1 2 3 4 5 6 7 8; do nc -w 2 %s %s </dev/null | grep mine && exit; sleep 0.25; done; exit 1", addr, port))
	if err != nil || out != "mine\n" {
		return fmt.Errorf("%s:%s: %q, %w", addr, port, out, err)
	}
	return nil
}

// hostPort is what inspect shows for a container port, on IPv4.
func (n *nets) hostPort(id, port string) (string, error) {
	a, err := n.expect("GET", "/containers/"+id+"/json", nil, 200, "")
	if err != nil {
		return "", err
	}
	ns, _ := a.JSON()["NetworkSettings"].(map[string]any)
	all, _ := ns["Ports"].(map[string]any)
	bindings, _ := all[port].([]any)
	for _, b := range bindings {
		if b, _ := b.(map[string]any); !strings.Contains(fmt.Sprint(b["HostIp"]), ":") {
			return fmt.Sprint(b["HostPort"]), nil
		}
	}
	return "", fmt.Errorf("port %s: %v", port, all)
}

// publish starts a server on a network and tells the host port of its port 80, which is any.
func (n *nets) publish(mode string) (id, port string, err error) {
	id, err = n.run(mode, nil, obj{"Cmd": server, "ExposedPorts": obj{"80/tcp": obj{}}, "HostConfig": obj{"PortBindings": obj{"80/tcp": binding("", "")}}})
	if err != nil {
		return "", "", err
	}
	port, err = n.hostPort(id, "80/tcp")
	return id, port, err
}

func binding(ip, port string) []obj { return []obj{{"HostIp": ip, "HostPort": port}} }

func publishedPort(n *nets) error {
	if _, err := n.make("net", subnets("10.253.1.0/24")); err != nil {
		return err
	}
	if _, err := n.make("other", subnets("10.253.2.0/24")); err != nil {
		return err
	}
	s, port, err := n.publish(n.name("net"))
	if err != nil {
		return err
	}
	if err := n.ask(s, "10.253.1.1", port); err != nil { // itself
		return err
	}
	for mode, gw := range map[string]string{n.name("net"): "10.253.1.1", n.name("other"): "10.253.2.1", "bridge": "10.253.1.1"} {
		c, err := n.run(mode, nil, nil)
		if err != nil {
			return err
		}
		if err := n.ask(c, gw, port); err != nil {
			return fmt.Errorf("from %s: %w", mode, err)
		}
	}
	return nil
}

func takenPort(n *nets) error {
	_, port, err := n.publish("bridge")
	if err != nil {
		return err
	}
	for _, ip := range []string{"", "127.0.0.1"} {
		c, err := n.create(obj{"Cmd": []string{"sleep", "600"}, "ExposedPorts": obj{"80/tcp": obj{}}}, obj{"PortBindings": obj{"80/tcp": binding(ip, port)}})
		if err != nil {
			return err
		}
		if _, err := n.expect("POST", "/containers/"+c+"/start", nil, 500, "driver failed programming external connectivity on endpoint"); err != nil {
			return err
		}
		a, err := n.expect("GET", "/containers/"+c+"/json", nil, 200, "already ") // allocated, or in use
		if err != nil {
			return err
		}
		st, _ := a.JSON()["State"].(map[string]any)
		if err := errors.Join(want("Status", st["Status"], "created"), want("ExitCode", st["ExitCode"], 128)); err != nil {
			return err
		}
	}
	return nil
}

func portOnAddresses(n *nets) error {
	port := ""
	for _, ip := range []string{"127.0.0.5", "127.0.0.6"} {
		c, err := n.run("bridge", nil, obj{"ExposedPorts": obj{"80/tcp": obj{}}, "HostConfig": obj{"PortBindings": obj{"80/tcp": binding(ip, port)}}})
		if err != nil {
			return err
		}
		if port, err = n.hostPort(c, "80/tcp"); err != nil {
			return err
		}
	}
	return nil
}

func chosenPorts(n *nets) error {
	c, err := n.run("bridge", nil, obj{"ExposedPorts": obj{"80/tcp": obj{}, "81/tcp": obj{}, "82/udp": obj{}, "83/tcp": obj{}}, "HostConfig": obj{"PublishAllPorts": true, "PortBindings": obj{"80/tcp": binding("", "28310-28320"), "83/tcp": binding("", "0")}}})
	if err != nil {
		return err
	}
	for port, within := range map[string][2]int{"80/tcp": {28310, 28320}, "81/tcp": {32768, 65535}, "82/udp": {32768, 65535}, "83/tcp": {32768, 65535}} {
		text, err := n.hostPort(c, port)
		if err != nil {
			return err
		}
		if p, err := strconv.Atoi(text); err != nil || p < within[0] || p > within[1] {
			return fmt.Errorf("%s is published as %s, want %v", port, text, within)
		}
	}
	again, err := n.run("bridge", nil, obj{"ExposedPorts": obj{"80/tcp": obj{}}, "HostConfig": obj{"PortBindings": obj{"80/tcp": binding("", "28310-28320")}}})
	if err != nil {
		return err
	}
	one, err := n.hostPort(c, "80/tcp")
	if err != nil {
		return err
	}
	two, err := n.hostPort(again, "80/tcp")
	if err != nil || one == two {
		return fmt.Errorf("two containers have port %s, %w", one, err)
	}
	a, err := n.expect("GET", `/containers/json?filters={"id":["`+again+`"]}`, nil, 200, "")
	if err != nil {
		return err
	}
	if !strings.Contains(string(a.Body), `"PublicPort":`+two) {
		return fmt.Errorf("the list does not show port %s: %s", two, a.Body)
	}
	return nil
}

func portFreed(n *nets) error {
	first, port, err := n.publish("bridge")
	if err != nil {
		return err
	}
	if _, err := n.expect("POST", "/containers/"+first+"/stop?t=0", nil, 204, ""); err != nil {
		return err
	}
	a, err := n.expect("GET", "/containers/"+first+"/json", nil, 200, "")
	if err != nil {
		return err
	}
	ns, _ := a.JSON()["NetworkSettings"].(map[string]any)
	if err := want("Ports of a stopped container", ns["Ports"], obj{}); err != nil {
		return err
	}
	_, err = n.run("bridge", nil, obj{"ExposedPorts": obj{"80/tcp": obj{}}, "HostConfig": obj{"PortBindings": obj{"80/tcp": binding("", port)}}})
	return err
}

func foreignAddress(n *nets) error {
	c, err := n.create(obj{"Cmd": []string{"sleep", "600"}, "ExposedPorts": obj{"80/tcp": obj{}}}, obj{"PortBindings": obj{"80/tcp": binding("10.99.99.99", "28330")}})
	if err != nil {
		return err
	}
	_, err = n.expect("POST", "/containers/"+c+"/start", nil, 500, "cannot assign requested address")
	return err
}

func portsMove(n *nets) error {
	for i, name := range []string{"one", "two"} {
		if _, err := n.make(name, subnets(fmt.Sprintf("10.253.%d.0/24", 10+i))); err != nil {
			return err
		}
	}
	s, port, err := n.publish(n.name("one"))
	if err != nil {
		return err
	}
	if _, err := n.expect("POST", "/networks/"+n.name("two")+"/connect", obj{"Container": s}, 200, ""); err != nil {
		return err
	}
	c, err := n.run("bridge", nil, nil)
	if err != nil {
		return err
	}
	return n.ask(c, "10.253.10.1", port)
}
