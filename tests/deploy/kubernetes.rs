//! The Kubernetes manifests: kubectl renders them, Kubernetes' schemas validate them, and their
//! pods run.

use super::{PYTHON, bash, python};
use crate::harness::{ZONAL, can_run, lab::Lab, tree, wait_until};
use serde_json::Value;
use std::path::Path;

/// Debian's kubectl, and the installed one if there is another.
fn kubectls() -> Vec<String> {
    let debian = tree("target/tools/kubernetes-client/usr/bin/kubectl").display().to_string();
    let other = Path::new("/usr/bin/kubectl");
    [debian].into_iter().chain(other.exists().then(|| other.display().to_string())).collect()
}

/// The resources of an overlay, rendered and validated.
fn render(kubectl: &str, overlay: &str, lab: &Lab) -> Vec<Value> {
    let directory = tree("deploy/kubernetes/overlays").join(overlay);
    let text = bash("\"$1\" kustomize \"$2\"", &[kubectl, directory.to_str().unwrap()]);
    let file = lab.scratch.write(&format!("{overlay}.yaml"), text).display().to_string();
    bash(
        "\"$1\" --strict --quiet \"$2\"",
        &[tree("target/tools/venv/bin/kubernetes-validate").to_str().unwrap(), &file],
    );
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    serde_json::from_str(&python(script, &[&file])).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

/// Mounts the files of a pod below a directory, as the kubelet does. Returns the container's
/// command line.
fn mount(pod: &Value, resources: &[Value], lab: &Lab, directory: &str) -> Vec<String> {
    let base = lab.scratch.path().join(directory).display().to_string();
    let container = &pod["containers"][0];
    for mounted in list(container, "volumeMounts") {
        let volume = list(pod, "volumes").iter().find(|volume| volume["name"] == mounted["name"]).expect("its volume");
        let path = text(mounted, "mountPath");
        let Some(name) = volume["configMap"]["name"].as_str() else {
            assert!(volume["emptyDir"].is_object(), "{volume}");
            continue;
        };
        let map = resources.iter().find(|r| r["kind"] == "ConfigMap" && r["metadata"]["name"] == name);
        let map = map.unwrap_or_else(|| panic!("no ConfigMap {name}"));
        for (key, data) in map["data"].as_object().unwrap() {
            // State goes into a directory that the test may write.
            let data = data.as_str().unwrap().replace("/var/lib/zonal", &format!("{base}/state"));
            let path = match mounted["subPath"].as_str() {
                Some(sub) if sub == key => path.to_string(),
                Some(_) => continue,
                None => format!("{path}/{key}"),
            };
            lab.scratch.write(&format!("{directory}{path}"), data);
        }
    }
    std::fs::create_dir_all(format!("{base}/state")).unwrap();
    list(container, "args")
        .iter()
        .map(|word| word.as_str().unwrap().replace("/etc/zonal", &format!("{base}/etc/zonal")))
        .collect()
}

/// Runs a pod of the overlay on a node of the lab. The pod becomes ready by its own probes, and
/// answers clients by their AZ.
fn serves(pod: &Value, resources: &[Value], name: &str) {
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(
        (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    let port = |named: &Value| match named.as_u64() {
        Some(port) => port,
        None => list(container, "ports").iter().find(|port| port["name"] == *named).expect("a port")["containerPort"]
            .as_u64()
            .unwrap(),
    };

    let mut lab = Lab::new();
    lab.router("vpc");
    lab.host("node", "vpc", &["10.2.0.20"]);
    lab.host("client-a", "vpc", &["10.2.0.7"]);
    lab.host("client-b", "vpc", &["10.2.16.7"]);
    let arguments = mount(pod, resources, &lab, name);
    let command: Vec<&str> = [ZONAL].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    let mut server = lab.start("node", &command);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        let host = get["host"].as_str().unwrap_or("10.2.0.20");
        let url = format!("http://{host}:{}{}", port(&get["port"]), text(get, "path"));
        wait_until(probe, || {
            server.assert_alive();
            lab.run("node", &["curl", "-fs", "-o", "/dev/null", &url]).status.success().then_some(())
        });
    }
    let dns = port(&"dns".into());
    assert_eq!(port(&"dns-tcp".into()), dns);
    for (client, own) in [("client-a", "10.2.0.10"), ("client-b", "10.2.16.10")] {
        for transport in ["+notcp", "+tcp"] {
            let reply = lab.dig(client, &format!("@10.2.0.20 -p {dns} sqs.us-east-1.amazonaws.com A {transport}"));
            assert_eq!(reply.data("A"), [own], "{name} {client}\n{reply}");
        }
    }
}

/// The labels of the Namespace resource.
fn namespace(resources: &[Value]) -> &Value {
    let found: Vec<&Value> = resources.iter().filter(|r| r["kind"] == "Namespace").collect();
    let [one] = found[..] else { panic!("one Namespace: {found:#?}") };
    &one["metadata"]["labels"]
}

fn pods(resources: &[Value]) -> Vec<&Value> {
    let workloads = resources.iter().filter(|r| ["DaemonSet", "Deployment"].contains(&text(r, "kind")));
    workloads.map(|workload| &workload["spec"]["template"]).collect()
}

#[test]
fn node_local() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "curl", PYTHON]) {
        return;
    }
    for kubectl in kubectls() {
        let lab = Lab::new();
        let resources = render(&kubectl, "node-local", &lab);
        let pods = pods(&resources);
        let [pod] = pods[..] else { panic!("one DaemonSet: {resources:#?}") };
        assert_eq!(pod["spec"]["hostNetwork"], true);
        assert_eq!(namespace(&resources)["pod-security.kubernetes.io/enforce"], "privileged");
        serves(&pod["spec"], &resources, "node-local");
    }
}

#[test]
fn az_fleet() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "curl", PYTHON]) {
        return;
    }
    for kubectl in kubectls() {
        let lab = Lab::new();
        let resources = render(&kubectl, "az-fleet", &lab);
        let pods = pods(&resources);
        assert_eq!(pods.len(), 2, "one Deployment for each AZ");
        assert_eq!(namespace(&resources)["elbv2.k8s.aws/pod-readiness-gate-inject"], "enabled");
        for (pod, az) in pods.iter().zip(["use1-az1", "use1-az2"]) {
            assert_eq!(pod["spec"]["nodeSelector"]["topology.k8s.aws/zone-id"], az);
            assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
            let selects = |kind: &str, selector: fn(&Value) -> &Value| {
                let found: Vec<&Value> = resources
                    .iter()
                    .filter(|r| r["kind"] == kind && *selector(&r["spec"]) == pod["metadata"]["labels"])
                    .collect();
                let [one] = found[..] else { panic!("one {kind} for {az}: {found:#?}") };
                one
            };
            // The old pod answers until the load balancer has removed it and uses the new pod.
            let sleep = &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"];
            let grace = &pod["spec"]["terminationGracePeriodSeconds"];
            assert!(sleep.as_u64().unwrap() + 10 <= grace.as_u64().unwrap(), "{sleep} of {grace} seconds");
            let service = selects("Service", |spec| &spec["selector"]);
            // Without the annotation, the load balancer creates a listener for only one of UDP and
            // TCP.
            let both = "service.beta.kubernetes.io/aws-load-balancer-enable-tcp-udp-listener";
            assert_eq!(service["metadata"]["annotations"][both], "true");
            selects("PodDisruptionBudget", |spec| &spec["selector"]["matchLabels"]);
            for port in list(&service["spec"], "ports") {
                let to =
                    list(&pod["spec"]["containers"][0], "ports").iter().find(|own| own["name"] == port["targetPort"]);
                assert_eq!(to.expect("its port")["protocol"], port["protocol"]);
            }
        }
        serves(&pods[0]["spec"], &resources, "az-fleet");
    }
}
