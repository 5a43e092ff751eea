//! Names, tags and data of AWS's API: a change of them alone changes no answer, and the cache keeps its entries.

use crate::harness::{
    Server, can_run,
    fake::{Fake, Say},
    http_get, http_send,
};
use serde_json::{Value, json};

fn answer(server: &Server, name: &str) -> Vec<String> {
    server.dig(name, "A").answer
}

#[test]
fn a_change_of_tags_keeps_the_entries_of_the_cache() {
    if !can_run(&["dig"]) {
        return;
    }
    let target = Fake::start("127.0.0.1:0", |asked| vec![Say::Now(asked.address("192.0.2.7"))]);
    let server = Server::start_from("{push: {}}", "");
    let (ip, port) = (target.address.ip(), target.address.port());
    let mut manifest = json!({
        "vpcs": {"vpc": {"region": "us-east-1", "cidr_blocks": ["127.0.0.0/8"]}},
        "resolver_rules": {"rule": {"domain_name": "onprem.example", "rule_type": "FORWARD", "vpc_ids": ["vpc"],
            "target_ips": [{"ip": ip, "port": port}]}},
        "private_hosted_zones": {
            "ZPRIVATE": {"name": "private.example", "vpc_ids": ["vpc"], "records": [
                {"name": "www", "type": "A", "records": ["10.1.0.1"]}]},
            "ZPUBLIC": {"name": "public.example", "public": true, "records": [
                {"name": "www", "type": "A", "records": ["192.0.2.1"]}]},
        },
        "security_groups": {"sg": {"vpc_id": "vpc"}},
    });
    let mut whole = manifest.clone();
    whole["generation"] = json!(1);
    assert_eq!(http_send(server.admin, "PUT", "/v1/manifest", &whole.to_string()), Some(200));
    let names = ["host.onprem.example", "www.private.example", "www.public.example"];
    let first: Vec<_> = names.iter().map(|name| answer(&server, name).len()).collect();
    assert_eq!(first, [1, 1, 1]);
    assert_eq!(target.count_below("onprem.example"), 1);
    let generation = |server: &Server| server.status()["generation"].as_u64().unwrap();
    let start = generation(&server);
    let mut changes = 0;
    for (kind, resources) in manifest.as_object_mut().unwrap() {
        for (id, resource) in resources.as_object_mut().unwrap() {
            resource["tags"] = json!({"team": "network", "of": kind});
            resource["aws"] = json!({"created": 7, "nested": {"list": [1, true, null]}});
            let path = format!("/v1/{kind}/{id}");
            assert_eq!(http_send(server.admin, "PUT", &path, &resource.to_string()), Some(200), "{path}");
            changes += 1;
            let (_, body) = http_get(server.admin, &path).unwrap();
            let found: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((&found["tags"], &found["aws"]), (&resource["tags"], &resource["aws"]), "{path}");
            for name in names {
                assert_eq!(answer(&server, name).len(), 1, "{name} after {path}");
            }
        }
    }
    assert_eq!(generation(&server), start + changes, "each change is a generation");
    assert_eq!(target.count_below("onprem.example"), 1, "the answer comes from the cache");
    assert!(server.metric(&["zonal_cache_hits_total"]) >= changes as f64);
}
