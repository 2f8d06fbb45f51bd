package conformance

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// exchange sends bytes as they are and returns all that comes back. Line ends are put right; the connection is to close.
func (c *Client) exchange(request string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(c.ctx, c.network, c.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	head, body, _ := strings.Cut(request, "\n\n")
	head = strings.ReplaceAll(head+"\n\n", "\n", "\r\n")
	if _, err := io.WriteString(conn, head+body); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}

// raw is a case of one exchange: the answer holds all of want and nothing of not.
func raw(name, op, request string, want []string, not ...string) Case {
	return story(name, []string{op}, func(t *T) error {
		got, err := t.exchange(request)
		if err != nil {
			return err
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				return fmt.Errorf("no %q in %q", w, got)
			}
		}
		for _, n := range not {
			if strings.Contains(got, n) {
				return fmt.Errorf("%q in %q", n, got)
			}
		}
		return nil
	})
}

// ask is the head of a request over a connection that closes.
func ask(line string, headers ...string) string {
	return line + " HTTP/1.1\nHost: x\nConnection: close\n" + strings.Join(append(headers, ""), "\n") + "\n"
}

const (
	ok200    = "HTTP/1.1 200 OK\r\n"
	bad400   = "HTTP/1.1 400 Bad Request\r\n"
	moved301 = "HTTP/1.1 301 Moved Permanently\r\n"
	none404  = "HTTP/1.1 404 Not Found\r\n"
	notFound = `{"message":"page not found"}` + "\n"
	jsonType = "Content-Type: application/json\r\n"
)

// connection is about what the router itself answers: paths, methods, versions, heads, bodies and filters.
func connection() []Case {
	post := func(name, path, ct, body string, want ...string) Case {
		h := []string{fmt.Sprintf("Content-Length: %d", len(body))}
		if ct != "" {
			h = append(h, "Content-Type: "+ct)
		}
		return raw(name, "ContainerCreate", ask("POST "+path, h...)+body, want)
	}
	list := func(name, filters, part string) Case {
		return story(name, []string{"ContainerList"}, func(t *T) error {
			_, err := t.expect("GET", "/containers/json?all=1&filters="+filters, nil, 400, part)
			return err
		})
	}
	return []Case{
		raw("ping has all its headers", "SystemPing", ask("GET /_ping"), []string{ok200, "Api-Version: 1.", "Cache-Control: no-cache, no-store, must-revalidate\r\n", "Docker-Experimental: false\r\n", "Ostype: linux\r\n", "Pragma: no-cache\r\n", "Server: Docker/", "Content-Length: 2\r\n", "Content-Type: text/plain; charset=utf-8\r\n", "\r\n\r\nOK"}),
		raw("ping by HEAD has a length of nothing", "SystemPingHead", ask("HEAD /v1.41/_ping"), []string{ok200, "Content-Length: 0\r\n", "Api-Version: 1."}),
		raw("ping by POST", "SystemPing", ask("POST /v1.41/_ping"), []string{none404, notFound}),
		raw("ping over HTTP/1.0", "SystemPing", "GET /_ping HTTP/1.0\n\n", []string{"HTTP/1.0 200 OK", "OK"}, "chunked"),
		raw("ping with an empty host", "SystemPing", "GET /_ping HTTP/1.1\nHost:\nConnection: close\n\n", []string{ok200}),
		raw("ping without a host", "SystemPing", "GET /_ping HTTP/1.1\nConnection: close\n\n", []string{"HTTP/1.1 400 Bad Request"}),
		raw("ping in absolute form", "SystemPing", ask("GET http://elsewhere/_ping"), []string{ok200}),
		raw("ping of a host with an escaped path", "SystemPing", "GET /_ping HTTP/1.1\nHost: %2Fvar%2Frun%2Fdocker.sock\nConnection: close\n\n", []string{ok200}),
		raw("unknown path has no general headers", "SystemInfo", ask("GET /v1.41/nope"), []string{none404, notFound, jsonType}, "Api-Version", "Server:", "Ostype"),
		raw("unknown path, bare", "SystemInfo", ask("GET /nope"), []string{none404, notFound}),
		raw("root", "SystemInfo", ask("GET /"), []string{none404, notFound}),
		raw("a version alone", "SystemInfo", ask("GET /v1.41"), []string{none404, notFound}),
		raw("a word as version", "SystemInfo", ask("GET /vfoo/info"), []string{none404, notFound}),
		raw("a version with a dot behind", "SystemInfo", ask("GET /v1.41./_ping"), []string{ok200}),
		raw("a method that nobody knows", "SystemInfo", ask("BREW /v1.41/info"), []string{none404, notFound}),
		raw("HEAD of a route that has none", "SystemInfo", ask("HEAD /v1.41/info"), []string{none404}, "page not found"),
		raw("a slash behind", "ContainerList", ask("GET /v1.41/containers/json/"), []string{none404, notFound}),
		raw("OPTIONS of anything", "SystemInfo", ask("OPTIONS /v1.41/nope"), []string{ok200, "Content-Length: 0\r\n", "Api-Version: 1."}),
		raw("OPTIONS looks at the version", "SystemInfo", ask("OPTIONS /v1.99/info"), []string{bad400, "client version 1.99 is too new"}),
		raw("a version that is too new has most headers", "SystemInfo", ask("GET /v1.99/info"), []string{bad400, jsonType, "Api-Version: 1.", "Ostype: linux\r\n", "Server: Docker/", "client version 1.99 is too new. Maximum supported API version is 1."}, "Docker-Experimental"),
		raw("a whole number as version", "SystemInfo", ask("GET /v2/info"), []string{bad400, "client version 2 is too new. Maximum supported API version is 1."}),
		raw("an unknown path at a version that is too new", "SystemInfo", ask("GET /v1.99/nope"), []string{none404, notFound}),
		raw("a doubled slash", "SystemInfo", ask("GET //info?a=b"), []string{moved301, "Location: /info?a=b\r\n", "Content-Length: 0\r\n"}, "Api-Version"),
		raw("a doubled slash behind the version", "ContainerList", ask("GET /v1.41//containers/json"), []string{moved301, "Location: /v1.41/containers/json\r\n"}),
		raw("a doubled slash in a POST", "ContainerStart", ask("POST /v1.41/containers//x/start"), []string{moved301, "Location: /v1.41/containers/x/start\r\n"}),
		raw("dots in a path", "SystemInfo", ask("GET /v1.41/images/.././info"), []string{moved301, "Location: /v1.41/info\r\n"}),
		raw("an escaped slash before a name", "ContainerInspect", ask("GET /v1.41/containers/%2Fc1/json"), []string{moved301, "Location: /v1.41/containers/c1/json\r\n"}),
		raw("a name with slashes", "ContainerInspect", ask("GET /v1.41/containers/a/b/json"), []string{none404, `{"message":"No such container: a/b"}`}),
		raw("a malformed query", "ContainerList", ask("GET /v1.41/containers/json?a;b"), []string{bad400, "invalid semicolon separator in query"}),
		raw("a malformed query where none is read", "SystemPing", ask("GET /_ping?a;b"), []string{ok200}),
		raw("networks with a slash behind", "NetworkList", ask("GET /v1.41/networks/"), []string{ok200, `"Name":"bridge"`}),
		raw("two requests on one connection", "SystemPing", "GET /_ping HTTP/1.1\nHost: x\n\n"+strings.ReplaceAll(ask("GET /v1.41/containers/nope/json"), "\n", "\r\n"), []string{ok200 + "Api", "\r\n\r\nOKHTTP/1.1 404 Not Found", `{"message":"No such container: nope"}`}),
		raw("start with a body", "ContainerStart", ask("POST /v1.41/containers/x/start", "Content-Length: 8")+`{"a": 1}`, []string{bad400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"}),
		raw("start with a body of unknown length", "ContainerStart", ask("POST /v1.41/containers/x/start", "Transfer-Encoding: chunked")+"2\r\n{}\r\n0\r\n\r\n", []string{bad400, "starting container with non-empty request body"}),
		raw("start with an empty object", "ContainerStart", ask("POST /v1.41/containers/x/start", "Content-Length: 2")+`{}`, []string{none404, "No such container: x"}),
		raw("expect a go-ahead", "VolumeCreate", ask("POST /v1.41/containers/create", "Expect: 100-continue", "Content-Type: application/json", "Content-Length: 24")+`{"Image":"no/such/thing"}`[:24], []string{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "}),

		post("a plain text body", "/v1.41/containers/create", "text/plain", `{"Image":"busybox"}`, bad400, "must be 'application/json'"),
		post("a malformed content type", "/v1.41/containers/create", "application/json/x", `{"Image":"busybox"}`, bad400, "(application/json/x)"),
		post("a vendor's content type", "/v1.41/containers/create", "application/vnd.api+json", `{"Image":"busybox"}`, bad400, "must be 'application/json'"),
		post("a body without a content type", "/v1.41/containers/create", "", `{"Image":"busybox"}`, bad400, "Content-Type"),
		post("a charset and other letter cases", "/v1.41/containers/create", "application/json; charset=utf-8", `{"image":"no/such/image","nosuchfield":[1]}`, none404, "no/such/image"),
		post("null for a body", "/v1.41/containers/create", "application/json", `null`, bad400, "onfig cannot be empty in order to create a container"),
		raw("exec start of a wrong type without a body", "ExecStart", ask("POST /v1.41/exec/nope/start", "Content-Type: text/plain"), []string{bad400, "must be 'application/json'"}),

		list("a filter that is unknown", `{"bogus":["x"]}`, "nvalid filter 'bogus'"),
		list("a filter of an unknown state", `{"status":["bogus"]}`, "nvalid filter 'status=bogus'"),
		list("a filter that is no truth", `{"is-task":["x"]}`, "nvalid filter 'is-task=[x]'"),
		simple("filters as a map", "ContainerList", "GET", `/containers/json?filters={"name":{"zz":true}}`, nil, 200, "[]"),
		simple("filters as a list", "ContainerList", "GET", `/containers/json?filters={"name":["zz"]}`, nil, 200, "[]"),
		simple("filters of nothing", "ContainerList", "GET", `/containers/json?filters=`, nil, 200, "["),
		simple("events of an unknown filter", "SystemEvents", "GET", `/events?since=1&until=2&filters={"bogus":["x"]}`, nil, 200, ""),
		simple("events that end before they begin", "SystemEvents", "GET", `/events?since=10&until=5`, nil, 400, "`since` time (10) cannot be after `until` time (5)"),
		story("booleans of every kind", []string{"ContainerList"}, func(t *T) error {
			id, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			for v, want := range map[string]bool{"": false, "0": false, "no": false, "FALSE": false, "none": false, "1": true, "yes": true, "2": true, "xyz": true, "True": true} {
				a, err := t.expect("GET", "/containers/json?all="+v, nil, 200, "[")
				if err != nil {
					return err
				}
				if strings.Contains(string(a.Body), id) != want {
					return fmt.Errorf("all=%q: %s", v, a.Body)
				}
			}
			return nil
		}),
	}
}
