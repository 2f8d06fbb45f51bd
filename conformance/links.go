package conformance

// links holds links between containers of the default bridge.
func links() []Case {
	return []Case{
		refused("a link to nothing", obj{"Links": []string{"nosuch:x"}}, 400, "could not get container for nosuch: No such container: nosuch"),
		refused("a link of three parts", obj{"Links": []string{"a:b:c"}}, 500, "bad format for links: a:b:c"),
		story("a link gives hosts, environment and a name", []string{"ContainerCreate", "ContainerInspect", "ContainerList"}, func(t *T) error {
			c := cmd("sleep", "100")
			c["Hostname"], c["Env"], c["ExposedPorts"] = "chh", []string{"PASS=x"}, obj{"5432/tcp": obj{}}
			child, err := t.create(c, nil)
			if err != nil {
				return err
			}
			name := t.prefix + "0"
			if _, err := t.expect("POST", "/containers/"+child+"/start", nil, 204, ""); err != nil {
				return err
			}
			a, err := t.expect("GET", "/containers/"+child+"/json", nil, 200, "IPAddress")
			if err != nil {
				return err
			}
			settings, _ := a.JSON()["NetworkSettings"].(obj)
			ip, _ := settings["IPAddress"].(string)
			parent, err := t.create(sh("env; cat /etc/hosts; sleep 100"), obj{"Links": []string{name + ":al-ias"}})
			if err != nil {
				return err
			}
			shown := "/" + t.prefix + "1/al-ias"
			logs := func(part string) func() error {
				return t.until("/containers/"+parent+"/logs?stdout=1", part)
			}
			return steps(
				t.want("GET", "/containers/"+parent+"/json", nil, 200, `"Links":["/`+name+":"+shown+`"]`), t.want("POST", "/containers/"+parent+"/start", nil, 204, ""),
				logs("AL_IAS_NAME="+shown+"\n"), logs("AL_IAS_PORT=tcp://"+ip+":5432\n"), logs("AL_IAS_PORT_5432_TCP_ADDR="+ip+"\n"), logs("AL_IAS_ENV_PASS=x\n"), logs(ip+"\tal-ias chh "+name+"\n"),
				t.want("GET", `/containers/json?filters={"id":["`+child+`"]}`, nil, 200, `"`+shown+`"`),
			)
		}),
		story("a link to a stopped container", []string{"ContainerStart"}, func(t *T) error {
			if _, err := t.create(cmd("true"), nil); err != nil {
				return err
			}
			id, err := t.create(cmd("true"), obj{"Links": []string{t.prefix + "0:x"}})
			if err != nil {
				return err
			}
			_, err = t.expect("POST", "/containers/"+id+"/start", nil, 500, "Cannot link to a non running container: /"+t.prefix+"0 AS /"+t.prefix+"1/x")
			return err
		}),
		story("a link follows a container to its new address", []string{"ContainerRestart"}, func(t *T) error {
			child, err := t.create(cmd("sleep", "100"), nil)
			if err != nil {
				return err
			}
			parent, err := t.create(sh("while :; do grep db /etc/hosts; sleep 0.1; done"), obj{"Links": []string{t.prefix + "0:db"}})
			if err != nil {
				return err
			}
			other, err := t.create(cmd("sleep", "100"), nil)
			if err != nil {
				return err
			}
			// The address that the first gives back goes to another, so that it comes again with a new one.
			if err := steps(t.want("POST", "/containers/"+child+"/start", nil, 204, ""), t.want("POST", "/containers/"+parent+"/start", nil, 204, ""), t.want("POST", "/containers/"+child+"/stop?t=0", nil, 204, ""),
				t.want("POST", "/containers/"+other+"/start", nil, 204, ""), t.want("POST", "/containers/"+child+"/start", nil, 204, "")); err != nil {
				return err
			}
			a, err := t.expect("GET", "/containers/"+child+"/json", nil, 200, "")
			if err != nil {
				return err
			}
			settings, _ := a.JSON()["NetworkSettings"].(obj)
			ip, _ := settings["IPAddress"].(string)
			return t.until("/containers/"+parent+"/logs?stdout=1", ip+"\tdb ")()
		}),
	}
}
