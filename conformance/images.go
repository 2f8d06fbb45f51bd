package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// imported makes an image of a few files and returns its name and id.
func (t *T) imported(name string, fs tree, changes ...string) (ref, id string, err error) {
	q := url.Values{"fromSrc": {"-"}, "repo": {t.prefix + name}, "tag": {"1"}, "changes": changes, "message": {"made by a case"}}
	a, err := t.Do("POST", "/images/create?"+q.Encode(), io.Reader(bytes.NewReader(contextTar(fs))))
	if err != nil {
		return "", "", err
	}
	id = regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(string(a.Body))
	if a.Status != 200 || id == "" {
		return "", "", fmt.Errorf("import: %d %s", a.Status, a.Body)
	}
	return t.prefix + name + ":1", id, nil
}

// imageStory is a case that begins with an image of its own.
func imageStory(name string, ops []string, f func(t *T, ref, id string) error) Case {
	return story("images: "+name, ops, func(t *T) error {
		ref, id, err := t.imported("i", tree{"f": "of " + t.prefix, "d/": ""}, `CMD ["x","y"]`, "LABEL made=here", "ENV A=1", "EXPOSE 80", "USER 5", "WORKDIR /d", "VOLUME /v")
		if err != nil {
			return err
		}
		return f(t, ref, id)
	})
}

func filters(f string) string { return url.QueryEscape(f) }

// lists checks whether a list with filters has the image.
func (t *T) lists(filter, id string, want bool) func() error {
	return func() error {
		a, err := t.expect("GET", "/images/json?filters="+filters(filter), nil, 200, "")
		if err == nil && strings.Contains(string(a.Body), id) != want {
			err = fmt.Errorf("with %s the image is listed: %v, want %v", filter, !want, want)
		}
		return err
	}
}

func images() []Case {
	list := []Case{
		imageStory("import, inspect, history", []string{"ImageCreate", "ImageInspect", "ImageHistory"}, func(t *T, ref, id string) error {
			a, err := t.expect("GET", "/images/"+ref+"/json", nil, 200, id)
			if err != nil {
				return err
			}
			c, _ := a.JSON()["Config"].(map[string]any)
			if got := fmt.Sprintf("%v %v %v %v %v %v %v", c["Cmd"], c["Labels"], c["Env"], c["ExposedPorts"], c["User"], c["WorkingDir"], c["Volumes"]); got != "[x y] map[made:here] [A=1] map[80/tcp:map[]] 5 /d map[/v:map[]]" {
				return fmt.Errorf("config %s", got)
			}
			return steps(
				t.want("GET", "/images/"+ref+"/json", nil, 200, `"Comment":"made by a case"`), t.want("GET", "/images/"+ref+"/json", nil, 200, `"RepoTags":["`+ref+`"]`),
				t.want("GET", "/images/"+id+"/json", nil, 200, ref), t.want("GET", "/images/"+id[7:19]+"/json", nil, 200, id), t.want("GET", "/images/docker.io/library/"+ref+"/json", nil, 200, id),
				t.want("GET", "/images/"+ref+"/history", nil, 200, `"Comment":"made by a case"`), t.want("GET", "/images/"+ref+"/history", nil, 200, `"Tags":["`+ref+`"]`),
				t.want("GET", "/images/nosuch/history", nil, 404, "no such image: nosuch"),
			)
		}),
		imageStory("tag and untag", []string{"ImageTag", "ImageDelete"}, func(t *T, ref, id string) error {
			other := t.prefix + "other"
			return steps(
				t.want("POST", "/images/"+ref+"/tag?repo="+other+"&tag=x", nil, 201, ""), t.want("POST", "/images/"+ref+"/tag?repo="+other, nil, 201, ""),
				t.want("GET", "/images/"+other+":x/json", nil, 200, id), t.want("GET", "/images/"+other+"/json", nil, 200, id),
				t.want("DELETE", "/images/"+id, nil, 409, "(must be forced) - image is referenced in multiple repositories"),
				t.want("DELETE", "/images/"+other+":x", nil, 200, `[{"Untagged":"`+other+`:x"}`), t.want("GET", "/images/"+other+":x/json", nil, 404, "no such image"),
				t.want("DELETE", "/images/"+other, nil, 200, `"Untagged":"`+other+`:latest"`),
				t.want("POST", "/images/nosuch/tag?repo=q", nil, 404, "no such image"), t.want("DELETE", "/images/"+other, nil, 404, "no such image"),
				t.want("DELETE", "/images/"+ref, nil, 200, `"Deleted":"`+id+`"`), t.want("GET", "/images/"+id+"/json", nil, 404, "no such image"),
			)
		}),
		imageStory("delete with containers", []string{"ImageDelete"}, func(t *T, ref, id string) error {
			c, err := t.create(obj{"Image": ref}, nil)
			if err != nil {
				return err
			}
			short := id[7:19]
			return steps(
				t.want("DELETE", "/images/"+ref, nil, 409, "container "+c[:12]+" is using its referenced image "+short),
				t.want("DELETE", "/images/"+id, nil, 409, "conflict: unable to delete "+short+" (must be forced) - image is being used by stopped container "+c[:12]),
				t.want("DELETE", "/containers/"+c, nil, 204, ""), t.want("DELETE", "/images/"+short, nil, 200, `"Deleted":"`+id+`"`),
			)
		}),
		story("images: delete with a running container", []string{"ImageDelete"}, func(t *T) error {
			ref := t.prefix + "busy"
			// An image of its own: one that others are made from is refused for that reason by dockerd.
			base, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			if _, err := t.expect("POST", "/commit?container="+base+"&repo="+ref, nil, 201, ""); err != nil {
				return err
			}
			id, err := t.create(obj{"Image": ref, "Cmd": []string{"sleep", "100"}}, nil)
			if err != nil {
				return err
			}
			a, err := t.expect("GET", "/images/"+ref+"/json", nil, 200, "")
			if err != nil {
				return err
			}
			image, _ := a.JSON()["Id"].(string)
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("DELETE", "/images/"+ref+"?force=1", nil, 200, "Untagged"),
				t.want("DELETE", "/images/"+image+"?force=1", nil, 409, "(cannot be forced) - image is being used by running container"))
		}),
		imageStory("list", []string{"ImageList"}, func(t *T, ref, id string) error {
			repo := t.prefix + "i"
			return steps(
				t.lists(`{"reference":["`+repo+`"]}`, id, true), t.lists(`{"reference":["`+repo+`:*"]}`, id, true), t.lists(`{"reference":["`+repo+`:2"]}`, id, false),
				t.lists(`{"reference":["nosuch","`+t.prefix+`*"]}`, id, true), t.lists(`{"label":["made=here"]}`, id, true), t.lists(`{"label":["made=there"]}`, id, false),
				t.lists(`{"label":["made"]}`, id, true), t.lists(`{"dangling":["true"]}`, id, false), t.lists(`{"dangling":["false"]}`, id, true),
				t.lists(`{"since":["busybox"]}`, id, true), t.lists(`{"before":["busybox"]}`, id, false), t.lists(`{"since":["`+ref+`"]}`, id, false), t.lists(`{"dangling":{"false":true}}`, id, true),
				t.want("GET", "/images/json?filters="+filters(`{"before":["nosuch"]}`), nil, 404, "no such image: nosuch"),
				t.want("GET", "/images/json?filters="+filters(`{"bogus":["x"]}`), nil, 400, "invalid filter 'bogus'"),
				t.want("GET", "/images/json?filters="+filters(`{"dangling":["x"]}`), nil, 400, "invalid filter 'dangling=[x]'"),
				t.want("GET", "/images/json?filters="+filters(`{"reference":["nosuch"]}`), nil, 200, "[]"),
			)
		}),
		imageStory("save and load", []string{"ImageGet", "ImageLoad"}, func(t *T, ref, _ string) error {
			a, err := t.expect("GET", "/images/"+ref+"/get", nil, 200, "manifest.json")
			if err != nil {
				return err
			}
			return steps(
				t.want("DELETE", "/images/"+ref, nil, 200, "Deleted"), t.want("POST", "/images/load", io.Reader(bytes.NewReader(a.Body)), 200, `"Loaded image: `+ref+`\n"`),
				t.want("GET", "/images/"+ref+"/json", nil, 200, `"Cmd":["x","y"]`), t.want("POST", "/images/load?quiet=1", io.Reader(bytes.NewReader(a.Body)), 200, "Loaded image"),
				t.want("GET", "/images/nosuch/get", nil, 404, "no such image: nosuch"), t.want("GET", "/images/get?names=nosuch", nil, 404, "no such image: nosuch"),
			)
		}),
		imageStory("save several", []string{"ImageGetAll", "ImageLoad"}, func(t *T, ref, id string) error {
			other, _, err := t.imported("j", tree{"g": "x"})
			if err != nil {
				return err
			}
			a, err := t.expect("GET", "/images/get?names="+ref+"&names="+other, nil, 200, "manifest.json")
			if err != nil {
				return err
			}
			if err := steps(t.want("DELETE", "/images/"+ref, nil, 200, "Deleted"), t.want("DELETE", "/images/"+other, nil, 200, "Deleted")); err != nil {
				return err
			}
			return steps(t.want("POST", "/images/load", io.Reader(bytes.NewReader(a.Body)), 200, "Loaded image: "+ref), t.want("GET", "/images/"+ref+"/json", nil, 200, ref), t.want("GET", "/images/"+other+"/json", nil, 200, other))
		}),
		story("images: load what is none", []string{"ImageLoad"}, func(t *T) error {
			layer := contextTar(tree{"f": "x"})
			return steps(
				t.want("POST", "/images/load", io.Reader(strings.NewReader("not a tar")), 200, "unexpected EOF"),
				t.want("POST", "/images/load", io.Reader(bytes.NewReader(contextTar(tree{"x": "x"}))), 200, `"errorDetail"`),
				t.want("POST", "/images/load", io.Reader(bytes.NewReader(contextTar(tree{"manifest.json": `[{"Config":"c.json","Layers":["l.tar"]}]`, "l.tar": string(layer)}))), 200, `"errorDetail"`),
			)
		}),
		story("images: import what is none", []string{"ImageCreate"}, func(t *T) error {
			return steps(
				t.want("POST", "/images/create?fromSrc=-&changes=BOGUS", io.Reader(bytes.NewReader(contextTar(tree{"f": "x"}))), 400, "bogus is not a valid change command"),
				t.want("POST", "/images/create?fromSrc="+url.QueryEscape("http://127.0.0.1:9/x"), nil, 500, "connection refused"),
			)
		}),
		imageStory("prune", []string{"ImagePrune"}, func(t *T, ref, id string) error {
			mine := filters(`{"dangling":["false"],"label":["made=here"]}`)
			none := filters(`{"dangling":["false"],"label":["made=` + t.prefix + `"]}`)
			return steps(
				t.want("POST", "/images/prune?filters="+none, nil, 200, `"ImagesDeleted":null,"SpaceReclaimed":0`), t.want("POST", "/images/prune?filters="+filters(`{"label":["made=here"],"label!":["made"]}`), nil, 200, `"ImagesDeleted":null`),
				t.want("GET", "/images/"+ref+"/json", nil, 200, id), t.want("POST", "/images/prune?filters="+mine, nil, 200, `"Deleted":"`+id+`"`), t.want("GET", "/images/"+ref+"/json", nil, 404, ""),
				t.want("POST", "/images/prune?filters="+filters(`{"bogus":["x"]}`), nil, 400, "invalid filter 'bogus'"), t.want("POST", "/images/prune?filters="+filters(`{"dangling":["maybe"]}`), nil, 400, "invalid filter 'dangling=[maybe]'"),
			)
		}),
		story("images: search says what is wrong", []string{"ImageSearch"}, func(t *T) error {
			return steps(
				t.want("GET", "/images/search?term=a&limit=200", nil, 400, "limit 200 is outside the range of [1, 100]"), t.want("GET", "/images/search?term=a&filters="+filters(`{"bogus":["x"]}`), nil, 400, "invalid filter 'bogus'"),
				t.want("GET", "/images/search?term=a&filters="+filters(`{"is-official":["x"]}`), nil, 400, "invalid filter 'is-official=[x]'"),
			)
		}),
		story("images: a registry that is not there", []string{"ImageCreate", "DistributionInspect", "SystemAuth"}, func(t *T) error {
			return steps(
				t.want("POST", "/images/create?fromImage=127.0.0.1:9/x&tag=1", nil, 500, "dial tcp 127.0.0.1:9: connect: connection refused"), t.want("GET", "/distribution/127.0.0.1:9/x/json", nil, 500, "connection refused"),
				t.want("POST", "/auth", obj{"username": "u", "password": "p", "serveraddress": "127.0.0.1:9"}, 500, "connection refused"), t.want("POST", "/images/create?fromImage=scratch&tag=latest", nil, 403, "'scratch' is a reserved name"),
				t.want("POST", "/images/create?fromImage=a&tag=b+c", nil, 400, "invalid tag format"),
			)
		}),
		story("images: a platform that is not there", []string{"ImageInspect", "ImageHistory", "ImageGet"}, func(t *T) error {
			other := "platform=" + url.QueryEscape(`{"os":"linux","architecture":"s390x"}`)
			return steps(
				t.want("GET", "/images/busybox/json?"+other, nil, 404, "image with reference busybox was found but does not provide the specified platform (linux/s390x)"),
				t.want("GET", "/images/busybox/history?"+other, nil, 404, "image with reference busybox:latest was found but does not provide the specified platform (linux/s390x)"),
				t.want("GET", "/images/busybox/json?platform=x", nil, 400, "failed to parse platform: invalid character 'x' looking for beginning of value"),
				t.want("GET", "/images/busybox:latest/get?"+other, nil, 404, "does not provide the specified platform (linux/s390x)"),
				t.want("GET", "/images/busybox/json?manifests=1", nil, 200, `"Kind":"image"`), t.want("GET", "/images/json?manifests=1&shared-size=1", nil, 200, `"SharedSize":`),
			)
		}).since("1.49"),
	}
	if r := os.Getenv("CONFORMANCE_REGISTRY"); r != "" {
		list = append(list, registryCases(r, os.Getenv("CONFORMANCE_REGISTRY_AUTH"))...)
	}
	return list
}

// registryCases need a registry that the endpoint reaches at open, and one at closed that wants joe's password, "secret".
func registryCases(open, closed string) []Case {
	return []Case{
		imageStory("push and pull", []string{"ImagePush", "ImageCreate", "DistributionInspect"}, func(t *T, ref, _ string) error {
			there := open + "/" + t.prefix + "x/y"
			auth := map[string]string{"X-Registry-Auth": "e30="}
			push := func(want ...string) func() error {
				return func() error {
					a, err := t.DoWith("POST", "/images/"+there+"/push?tag=v1", nil, auth)
					if err != nil {
						return err
					}
					for _, w := range append(want, `"status":"The push refers to repository [`+there+`]"`, `"status":"v1: digest: sha256:`) {
						if a.Status != 200 || !strings.Contains(string(a.Body), w) {
							err = errors.Join(err, fmt.Errorf("push: %d %s, want %s", a.Status, a.Body, w))
						}
					}
					return err
				}
			}
			return steps(
				t.want("POST", "/images/"+ref+"/tag?repo="+there+"&tag=v1", nil, 201, ""), push(`"status":"Pushed"`), push(`"status":"Layer already exists"`),
				t.want("GET", "/distribution/"+there+":v1/json", nil, 200, `"digest":"sha256:`), t.want("GET", "/distribution/"+there+":nosuch/json", nil, 404, "manifest unknown"),
				t.want("DELETE", "/images/"+there+":v1", nil, 200, "Untagged"), t.want("DELETE", "/images/"+ref, nil, 200, "Deleted"),
				t.want("POST", "/images/create?fromImage="+there+"&tag=v1", nil, 200, "Status: Downloaded newer image for "+there+":v1"),
				t.want("POST", "/images/create?fromImage="+there+"&tag=v1", nil, 200, "Status: Image is up to date for "+there+":v1"),
				t.want("POST", "/images/create?fromImage="+there, nil, 200, "Digest: sha256:"),
				t.want("GET", "/images/"+there+":v1/json", nil, 200, `"Cmd":["x","y"]`), t.want("POST", "/images/create?fromImage="+there+"&tag=nosuch", nil, 404, "not found"),
				t.want("DELETE", "/images/"+there+":v1", nil, 200, "Untagged"),
			)
		}),
		imageStory("push errors", []string{"ImagePush"}, func(t *T, ref, _ string) error {
			there := open + "/" + t.prefix + "x"
			push := func(query, want string) func() error {
				return func() error {
					a, err := t.DoWith("POST", "/images/"+there+"/push"+query, nil, map[string]string{"X-Registry-Auth": "e30="})
					if err == nil && (a.Status != 200 || !strings.Contains(string(a.Body), want)) {
						err = fmt.Errorf("%d %s, want %q", a.Status, a.Body, want)
					}
					return err
				}
			}
			return steps(push("", "An image does not exist locally with the tag: "+there), t.want("POST", "/images/"+ref+"/tag?repo="+there+"&tag=v1", nil, 201, ""), push("?tag=no", "tag does not exist: "+there+":no"),
				t.want("DELETE", "/images/"+there+":v1", nil, 200, "Untagged"))
		}),
		story("images: a registry with a password", []string{"SystemAuth", "ImageCreate"}, func(t *T) error {
			return steps(
				t.want("POST", "/auth", obj{"username": "joe", "password": "secret", "serveraddress": closed}, 200, `"Status":"Login Succeeded"`),
				t.want("POST", "/images/create?fromImage="+closed+"/none&tag=1", nil, 500, "no basic auth credentials"),
			)
		}),
	}
}
