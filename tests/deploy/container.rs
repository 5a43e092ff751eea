//! The container image as it is shipped: a container runtime runs it without root and with a
//! read-only file system.

use super::bash;
use crate::harness::{Process, Scratch, can_run, lab::Lab, wait_until};
use serde_json::{Value, json};
use std::fs;

const MANIFEST: &str = "
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.2.0.0/16], resolver_addresses: [10.2.0.2]}
private_hosted_zones:
  Z1: {name: corp.example.com, vpc_ids: [vpc], records: [{name: node, type: A, ttl: 60, records: [127.0.0.1]}]}
";

const PROGRAMS: [&str; 9] = ["ip", "dig", "setpriv", "unshare", "tar", "crun", "buildah", "cargo-deb", "strip"];

/// The image's files, and its configuration.
struct Image {
    root: String,
    config: Value,
}

impl Image {
    fn unpack(scratch: &Scratch) -> Image {
        let script = "mkdir -p \"$2/image\" \"$2/root\" && tar -xf \"$1/zonal-image.tar\" -C \"$2/image\"";
        let (dist, dir) = (super::built().display().to_string(), scratch.path().display().to_string());
        bash(script, &[&dist, &dir]);
        let read = |file: &str| -> Value {
            serde_json::from_slice(&fs::read(scratch.path().join("image").join(file)).unwrap()).unwrap()
        };
        let manifest = &read("manifest.json")[0];
        for layer in manifest["Layers"].as_array().unwrap() {
            bash("tar -xf \"$1/image/$2\" -C \"$1/root\"", &[&dir, layer.as_str().unwrap()]);
        }
        let config = read(manifest["Config"].as_str().unwrap())["config"].clone();
        Image { root: format!("{dir}/root"), config }
    }

    fn words(&self, key: &str) -> Vec<String> {
        self.config[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_string()).collect()
    }

    /// Runs the image on a node of the lab, with the settings of
    /// `podman run --read-only --cap-drop ALL --cap-add NET_BIND_SERVICE`.
    fn run(&self, lab: &Lab, node: &str) -> Process {
        let (user, group) = self.config["User"].as_str().unwrap().split_once(':').expect("user and group");
        let number = |text: &str| text.parse::<u32>().expect("a number, as there is no /etc/passwd");
        let arguments = [self.words("Entrypoint"), self.words("Cmd")].concat();
        let capabilities = json!(["CAP_NET_BIND_SERVICE"]);
        let mount = |source: &str, at: &str| json!({"source": source, "destination": at, "type": "bind", "options": ["bind", "ro"]});
        let dir = lab.scratch.path().display();
        let spec = json!({
            "ociVersion": "1.0.0",
            "root": {"path": self.root, "readonly": true},
            "process": {
                "args": arguments,
                "cwd": self.config["WorkingDir"],
                "user": {"uid": number(user), "gid": number(group)},
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                    "inheritable": capabilities, "ambient": capabilities,
                },
                "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                mount(&format!("{dir}/etc"), "/etc/zonal"),
                mount(&format!("{dir}/resolv.conf"), "/etc/resolv.conf"),
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]},
        });
        lab.scratch.write("bundle/config.json", spec.to_string());
        // crun needs cgroups of version 2, whatever the machine has. crun and its processes end
        // with the test.
        let script = "mount -t proc proc /proc; mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t tmpfs tmpfs /run; \
                      crun --cgroup-manager=disabled run --bundle bundle zonal & \
                      echo running; while read -r check; do crun exec zonal $check </dev/null && echo healthy || echo unhealthy; \
                      done <>health";
        lab.start(node, &["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script])
    }
}

#[test]
fn image_runs_as_nobody() {
    if !can_run(&PROGRAMS) {
        return;
    }
    let mut lab = Lab::new();
    let image = Image::unpack(&lab.scratch);
    let files = bash("cd \"$1\" && find . ! -type d", &[&image.root]);
    assert_eq!(files, "./zonal\n", "nothing else is in the image");
    // The directories in which a runtime mounts its files.
    bash("cd \"$1\" && mkdir -p proc dev etc/zonal && touch etc/resolv.conf", &[&image.root]);
    lab.scratch.write("etc/zones/manifest.yaml", MANIFEST);
    lab.scratch.write(
        "etc/zonal.yaml",
        "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\ninternet_resolver: none\n\
         admin: {address: \"0.0.0.0:9153\"}\n",
    );
    lab.scratch.write("resolv.conf", "nameserver 10.2.0.2\n");
    bash("mkfifo -m 600 \"$1/health\"; chmod -R a+rX \"$1\"", &[lab.scratch.path().to_str().unwrap()]);
    lab.router("vpc");
    lab.host("node", "vpc", &["10.2.0.2"]);
    lab.host("client", "vpc", &["10.2.0.7"]);
    let mut container = image.run(&lab, "node");
    wait_until("the container answers", || {
        container.assert_alive();
        let reply = lab.dig("client", "@10.2.0.2 node.corp.example.com A +time=1");
        (reply.data("A") == ["127.0.0.1"]).then_some(())
    });

    // User and capabilities of the process, as the kernel reports them.
    let processes = lab.run("node", &["sh", "-c", "ip netns pids \"$(ip netns identify)\""]);
    let process = String::from_utf8(processes.stdout).unwrap();
    let process = process
        .lines()
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "zonal"));
    let process = process.expect("zonal among the node's processes");
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().next().unwrap().to_string()
    };
    assert_eq!((field("Uid:"), field("Gid:"), field("NoNewPrivs:")), ("65534".into(), "65534".into(), "1".into()));
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 1 << 10, "{set} CAP_NET_BIND_SERVICE");
    }
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("its root");
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");

    // The image's health check, and name lookups by the program itself: the image has no system
    // library for them.
    let check = image.config["Healthcheck"]["Test"].as_array().unwrap();
    let check: Vec<&str> = check.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(check[0], "CMD");
    let mut said = String::new();
    for (command, expected) in [
        (check[1..].join(" "), "\nhealthy"),
        ("/zonal status --all 127.0.0.1:9154".into(), "\nunhealthy"),
        // The node's outside address requires a token.
        ("/zonal status --all 10.2.0.2:9153".into(), "says 403 Forbidden"),
        // The name resolves, but zonal refuses it, because a DNS name may mislead a browser (DNS
        // rebinding).
        ("/zonal status --all node.corp.example.com:9153".into(), "says 403 Forbidden"),
        ("/zonal status --all missing.corp.example.com:9153".into(), "\nunhealthy"),
    ] {
        fs::write(lab.scratch.path().join("health"), format!("{command}\n")).unwrap();
        let before = said.len();
        wait_until("the check has ended", || {
            container.assert_alive();
            said = container.log();
            said[before..].lines().any(|line| line == "healthy" || line == "unhealthy").then_some(())
        });
        assert!(said[before..].contains(expected), "{command}:\n{}", &said[before..]);
    }
}
