package compat

import (
	"strings"

	"github.com/berthd/berth/compat/wire"
)

// notYet lists the operations that are not there yet: they say so with 501.
var notYet = []string{
	"GET /plugins/privileges",
	"POST /plugins/pull",
	"POST /plugins/create",
}

// noPlugin lists what is asked about one managed plugin: there is none, since none can be installed yet.
var noPlugin = []string{
	"GET /plugins/{name...}/json",
	"DELETE /plugins/{name...}",
	"POST /plugins/{name...}/enable",
	"POST /plugins/{name...}/disable",
	"POST /plugins/{name...}/upgrade",
	"POST /plugins/{name...}/push",
	"POST /plugins/{name...}/set",
}

// noSwarm lists what answers as a daemon that is in no swarm.
var noSwarm = []string{
	"GET /swarm",
	"POST /swarm/init",
	"POST /swarm/join",
	"POST /swarm/leave",
	"POST /swarm/update",
	"GET /swarm/unlockkey",
	"POST /swarm/unlock",
	"GET /nodes",
	"GET /nodes/{id}",
	"DELETE /nodes/{id}",
	"POST /nodes/{id}/update",
	"GET /services",
	"POST /services/create",
	"GET /services/{id}",
	"DELETE /services/{id}",
	"POST /services/{id}/update",
	"GET /services/{id}/logs",
	"GET /tasks",
	"GET /tasks/{id}",
	"GET /tasks/{id}/logs",
	"GET /secrets",
	"POST /secrets/create",
	"GET /secrets/{id}",
	"DELETE /secrets/{id}",
	"POST /secrets/{id}/update",
	"GET /configs",
	"POST /configs/create",
	"GET /configs/{id}",
	"DELETE /configs/{id}",
	"POST /configs/{id}/update",
}

func pending() []route {
	var out []route
	add := func(op string, h handler) {
		m, p, _ := strings.Cut(op, " ")
		out = append(out, route{method: m, pattern: p, success: 200, handler: h, min: floors[op]})
	}
	for _, op := range notYet {
		add(op, func(*Server, *Ctx) (any, error) { return nil, wire.NotYet(op) })
	}
	for _, op := range noPlugin {
		add(op, func(_ *Server, c *Ctx) (any, error) { return nil, wire.Missing("plugin %q not found", c.Param("name")) })
	}
	for _, op := range noSwarm {
		add(op, func(*Server, *Ctx) (any, error) {
			switch op {
			case "POST /swarm/leave":
				return nil, wire.Unavailable("This node is not part of a swarm")
			case "POST /swarm/init", "POST /swarm/join":
				return nil, wire.NotYet(op)
			}
			return nil, noManager()
		})
	}
	return out
}

func noManager() error {
	return wire.Unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}
