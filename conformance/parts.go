package conformance

// parts holds mounts of a part of a volume and of images, which came with newer API versions.
func parts() []Case {
	volume := func(t *T) string { return t.prefix + "vol" }
	part := func(name, sub, script, want string) Case {
		return story(name, []string{"ContainerCreate", "ContainerStart"}, func(t *T) error {
			if _, _, err := t.output(sh("mkdir -p /v/a/b; echo deep >/v/a/b/f; echo top >/v/top; ln -s /etc /v/out"), obj{"Binds": []string{volume(t) + ":/v"}}); err != nil {
				return err
			}
			id, err := t.create(sh(script), obj{"Mounts": []obj{{"Type": "volume", "Source": volume(t), "Target": "/x", "VolumeOptions": obj{"Subpath": sub}}}})
			if err != nil {
				return err
			}
			if want == "" {
				return t.want("POST", "/containers/"+id+"/start", nil, 404, "cannot access path")()
			}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("POST", "/containers/"+id+"/wait", nil, 200, ""), t.want("GET", "/containers/"+id+"/logs?stdout=1", nil, 200, want))
		}).since("1.45")
	}
	img := func(name string, m obj, script, want string) Case {
		m["Type"], m["Target"] = "image", "/i"
		return prints(name, sh(script), obj{"Mounts": []obj{m}}, 0, want).since("1.48")
	}
	return []Case{
		part("a directory of a volume", "a/b", "cat /x/f; echo new >/x/g", "deep\n"),
		part("a file of a volume", "top", "cat /x", "top\n"),
		part("a part that is not there", "nope", "true", ""),
		part("a link out of a volume leads nowhere", "out", "true", ""),
		refused("a part above the volume", obj{"Mounts": []obj{{"Type": "volume", "Source": "vv", "Target": "/x", "VolumeOptions": obj{"Subpath": "../x"}}}}, 400, "subpath must be a relative path within the volume").since("1.45"),
		refused("a part of an anonymous volume", obj{"Mounts": []obj{{"Type": "volume", "Target": "/x", "VolumeOptions": obj{"Subpath": "x"}}}}, 400, "must not set Subpath when using anonymous volumes").since("1.45"),
		img("an image as a mount", obj{"Source": "busybox"}, "test -x /i/bin/busybox && touch /i/x 2>&1 | grep -o 'Read-only file system'", "Read-only file system"),
		img("a directory of an image", obj{"Source": "busybox", "ImageOptions": obj{"Subpath": "etc"}}, "cat /i/passwd", "root:x:0:0"),
		refused("a mount of an image that is not there", obj{"Mounts": []obj{{"Type": "image", "Source": "nosuch", "Target": "/i"}}}, 404, "No such image: nosuch:latest").since("1.48"),
	}
}
