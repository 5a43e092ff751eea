//! Forwarding: real servers before and behind zonal, and servers that fail, send forged responses
//! or flood.

mod delegated;
mod failing;
mod hostile;
mod inbound;
mod laptop;
mod loops;
mod outbound;
mod proofs;
mod tenants;
mod unreachable;
mod unusable;

use crate::harness::{Scratch, Server, stub::Stub};
use std::fmt::Write;

/// zonal on loopback, with resolver rules.
struct Resolver {
    server: Server,
    _directory: Scratch,
}

/// The networks of two tenants: clients in 127.70.0.0/16 are in vpc-a, clients in 127.71.0.0/16 in
/// vpc-b.
const TENANTS: &str = "vpcs:
  vpc-a: {region: us-east-1, cidr_blocks: [127.70.0.0/16]}
  vpc-b: {region: us-east-1, cidr_blocks: [127.71.0.0/16]}
";

impl Resolver {
    /// Serves FORWARD rules for both tenants, each with a domain and its targets. `more` is another
    /// part of the manifest, without VPCs and rules.
    fn start(rules: &[(&str, &[String])], more: &str) -> Resolver {
        Resolver::serve(&Resolver::manifest(rules, more))
    }

    fn manifest(rules: &[(&str, &[String])], more: &str) -> String {
        let mut text = format!("{TENANTS}{more}resolver_rules:\n");
        for (at, (domain, targets)) in rules.iter().enumerate() {
            let targets = targets.join(", ");
            writeln!(
                text,
                "  rr-{at}: {{domain_name: {domain}, rule_type: FORWARD, vpc_ids: [vpc-a, vpc-b], target_ips: [{targets}]}}"
            )
            .unwrap();
        }
        text
    }

    /// Serves a manifest.
    fn serve(manifest: &str) -> Resolver {
        Resolver::serve_with(manifest, "")
    }

    /// Serves a manifest with additional lines of configuration. Error responses are not limited.
    fn serve_with(manifest: &str, more: &str) -> Resolver {
        let directory = Scratch::new();
        directory.write("manifest.yaml", manifest);
        let server = Server::start_with(directory.path(), &format!("limits: {{error_answers_per_second: 0}}\n{more}"));
        Resolver { server, _directory: directory }
    }

    /// A client in the first tenant's network.
    fn stub(&self) -> Stub {
        self.stub_at("127.70.0.7")
    }

    fn stub_at(&self, source: &str) -> Stub {
        Stub::new(source, ("127.0.0.1", self.server.port))
    }
}
