//! The snippets, in the language of each server.

use super::{Forwarding, Software, empty_zone};
use anyhow::bail;
use std::{collections::BTreeSet, net::IpAddr};

/// Names on one line at most, where a line has several.
const PER_LINE: usize = 4;

/// What the negative trust anchors are for.
const WHY_ANCHORS: &str = "Negative trust anchors. A private name is in no public zone: where its public parent is signed, the \
                           parent proves that the name does not exist. These names are not validated.";

/// The trust anchors that systemd-resolved has built in, which a file of one's own replaces.
const BUILT_IN: &str = "home.arpa 10.in-addr.arpa 16.172.in-addr.arpa 17.172.in-addr.arpa 18.172.in-addr.arpa \
    19.172.in-addr.arpa 20.172.in-addr.arpa 21.172.in-addr.arpa 22.172.in-addr.arpa 23.172.in-addr.arpa 24.172.in-addr.arpa \
    25.172.in-addr.arpa 26.172.in-addr.arpa 27.172.in-addr.arpa 28.172.in-addr.arpa 29.172.in-addr.arpa 30.172.in-addr.arpa \
    31.172.in-addr.arpa 168.192.in-addr.arpa d.f.ip6.arpa corp home internal intranet lan local private test";

/// The snippet for a server; or its negative trust anchors, where they are for another file.
pub fn text(software: Software, trust_anchors: bool, all: &[Forwarding]) -> anyhow::Result<String> {
    if trust_anchors {
        return match software {
            Software::Bind => Ok(bind_options(all)),
            Software::SystemdResolved => Ok(resolved_anchors(all)),
            _ => bail!(
                "`--trust-anchors` is for bind and systemd-resolved: the others have them with the rest, or have none"
            ),
        };
    }
    Ok(match software {
        Software::Bind => bind(all),
        Software::Unbound => unbound(all),
        Software::Dnsmasq => dnsmasq(all),
        Software::KnotResolver => knot_resolver(all),
        Software::Dnsdist => dnsdist(all),
        Software::SystemdResolved => resolved(all)?,
        Software::Coredns => coredns(all),
        Software::Windows => windows(all),
    })
}

/// A comment of so many characters a line.
fn comment(sign: &str, sentences: &str) -> String {
    let (mut text, mut line) = (String::new(), String::new());
    for word in sentences.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() > 110 {
            text += &format!("{sign} {line}\n");
            line.clear();
        }
        line += if line.is_empty() { "" } else { " " };
        line += word;
    }
    if line.is_empty() { text } else { text + &format!("{sign} {line}\n") }
}

/// The first comment: for whom it is, and how to use it.
fn head(sign: &str, server: &str, usage: &str, all: &[Forwarding]) -> String {
    let endpoints: Vec<&str> = all.iter().flat_map(|one| &one.endpoints).map(String::as_str).collect();
    let (s, text) = (
        if endpoints.len() == 1 { "" } else { "s" },
        format!("{sign} {server}: forward the names of the VPCs.\n{sign}\n"),
    );
    let made = format!(
        "Made by `zonal forwarders` from the manifest, for the inbound endpoint{s} {}. Make it anew when services, zones or VPCs are added.",
        endpoints.join(", ")
    );
    text + &comment(sign, usage) + &comment(sign, &made)
}

fn joined(addresses: &[IpAddr], separator: &str) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(separator)
}

fn quoted(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!("'{address}'")).collect::<Vec<_>>().join(", ")
}

fn bind(all: &[Forwarding]) -> String {
    let usage = "Include this at the top level of named.conf. `zonal forwarders bind --trust-anchors` prints what goes inside \
                 options { }. Each zone is `forward only`: without it BIND asks the public servers when the forwarders do not \
                 answer, and then hands out public addresses.";
    let mut text = head("//", "BIND", usage, all);
    for one in all {
        let addresses: String = one.addresses.iter().map(|address| format!("{address}; ")).collect();
        for (reason, names) in &one.names {
            text += &format!("\n{}", comment("//", reason.sentence()));
            for name in names {
                text += &format!("zone \"{name}\" {{ type forward; forward only; forwarders {{ {addresses}}}; }};\n");
            }
        }
    }
    text
}

fn bind_options(all: &[Forwarding]) -> String {
    let mut text =
        head("//", "BIND", "Include this inside options { } of named.conf. It goes with the forwarded zones.", all);
    text += &format!("\n{}validate-except {{\n", comment("//", WHY_ANCHORS));
    all.iter().flat_map(Forwarding::all).for_each(|name| text += &format!("\t\"{name}\";\n"));
    text += "};\n";
    let empty: BTreeSet<String> = all.iter().flat_map(Forwarding::reverse).filter_map(empty_zone).collect();
    if !empty.is_empty() {
        text += "\n// BIND has empty zones for these, which would hide what is forwarded below them.\n";
    }
    empty.iter().for_each(|zone| text += &format!("disable-empty-zone \"{zone}\";\n"));
    text
}

fn unbound(all: &[Forwarding]) -> String {
    let mut text = head("#", "Unbound", "Include this at the end of unbound.conf.", all);
    text += &format!("\nserver:\n{}", indented(&comment("#", WHY_ANCHORS)));
    all.iter().flat_map(Forwarding::all).for_each(|name| text += &format!("    domain-insecure: \"{name}\"\n"));
    text += "    # Private addresses in answers for these names are right, and no attack by rebinding.\n";
    all.iter().flat_map(Forwarding::forward).for_each(|name| text += &format!("    private-domain: \"{name}\"\n"));
    text += "    # Unbound answers for private addresses itself, with nothing, but not for these.\n";
    all.iter()
        .flat_map(Forwarding::reverse)
        .for_each(|name| text += &format!("    local-zone: \"{name}\" transparent\n"));
    text += &format!(
        "\n{}",
        comment(
            "#",
            "`forward-first: no` is the default, and meant: with `yes` Unbound asks the public servers when the forwarders do not \
             answer, and then hands out public addresses."
        )
    );
    for one in all {
        for (reason, names) in &one.names {
            text += &format!("\n{}", comment("#", reason.sentence()));
            for name in names {
                text += &format!("forward-zone:\n    name: \"{name}\"\n");
                one.addresses.iter().for_each(|address| text += &format!("    forward-addr: {address}\n"));
                text += "    forward-first: no\n";
            }
        }
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn dnsmasq(all: &[Forwarding]) -> String {
    let usage = "Put this into /etc/dnsmasq.d. Names with servers of their own never go to other servers.";
    let mut text = head("#", "dnsmasq", usage, all);
    text += &format!(
        "\n{}all-servers\n",
        comment(
            "#",
            "Ask all addresses each time, and take what comes first: without this dnsmasq stays for a while with one that is silent."
        )
    );
    for one in all {
        for (reason, names) in &one.names {
            text += &format!("\n{}", comment("#", reason.sentence()));
            for name in names {
                one.addresses.iter().for_each(|address| text += &format!("server=/{name}/{address}\n"));
            }
        }
    }
    text += "\n# Private addresses in answers for these names are right, and no attack by rebinding.\n";
    all.iter().flat_map(Forwarding::forward).for_each(|name| text += &format!("rebind-domain-ok=/{name}/\n"));
    text + &format!(
        "\n{}",
        comment(
            "#",
            "There is no need for negative trust anchors: dnsmasq does not validate names that have a server of their own."
        )
    )
}

/// A list of names in the language Lua.
fn lua(names: &[&str], dot: &str) -> String {
    let lines: Vec<String> = names
        .chunks(PER_LINE)
        .map(|some| some.iter().map(|name| format!("'{name}{dot}'")).collect::<Vec<_>>().join(", "))
        .collect();
    format!("{{\n    {}\n}}", lines.join(",\n    "))
}

fn knot_resolver(all: &[Forwarding]) -> String {
    let usage = "Load this from kresd.conf with dofile('…'), in front of what forwards other names.";
    let mut text = head("--", "Knot Resolver", usage, all);
    for one in all {
        let names: Vec<&str> = one.all().collect();
        text += &format!(
            "\ndo\n    local names = policy.todnames({})\n{}    policy.add(policy.suffix(policy.FLAGS({{ 'NO_CACHE' }}), names))\n{}    \
             policy.add(policy.suffix(policy.STUB({{ {} }}), names))\nend\n",
            lua(&names, "").replace('\n', "\n    "),
            indented(&comment(
                "--",
                "The cache may hold what signed public parents prove of these names, and that is not so here."
            )),
            indented(&comment(
                "--",
                "STUB, not FORWARD: these names are not validated, as a signed public parent would prove that they do not exist."
            )),
            quoted(&one.addresses)
        );
    }
    text
}

fn dnsdist(all: &[Forwarding]) -> String {
    let mut text = head("--", "dnsdist", "Load this from dnsdist.conf with dofile('…').", all);
    for (number, one) in all.iter().enumerate() {
        let pool = if number == 0 { "vpc".into() } else { format!("vpc{}", number + 1) };
        let names: Vec<&str> = one.all().collect();
        text += &format!(
            "\n{}for _, address in ipairs({{ {} }}) do\n    newServer({{ address = address, pool = '{pool}', checkName = 'whoami.zonal.', \
             checkType = 'TXT', mustResolve = true,\n                checkInterval = 1, maxCheckFailures = 2 }})\nend\naddAction({}, \
             PoolAction('{pool}'))\n",
            comment(
                "--",
                "The check is for a name that the endpoint answers. A server that misses two in a row is not asked until it is back."
            ),
            quoted(&one.addresses),
            lua(&names, ".")
        );
    }
    text
}

fn resolved(all: &[Forwarding]) -> anyhow::Result<String> {
    let [one] = all else {
        bail!("systemd-resolved asks the same servers for all names: choose one inbound endpoint with `--endpoint ID`")
    };
    let usage = "Put this into /etc/systemd/resolved.conf.d/zonal.conf. Where DNSSEC is on, `zonal forwarders systemd-resolved \
                 --trust-anchors` prints what goes with it. `~`: these names belong to the servers here, and are never asked of a \
                 link's servers.";
    let names: Vec<String> = one.all().map(|name| format!("~{name}")).collect();
    let lines: Vec<String> = names.chunks(PER_LINE).map(|some| format!("Domains={}\n", some.join(" "))).collect();
    let text = head("#", "systemd-resolved", usage, all);
    Ok(format!("{text}[Resolve]\nDNS={}\n{}", joined(&one.addresses, " "), lines.concat()))
}

fn resolved_anchors(all: &[Forwarding]) -> String {
    let usage = "Put this into /etc/dnssec-trust-anchors.d/zonal.negative.";
    let mut text = head(";", "systemd-resolved", usage, all);
    text += &format!("\n{}", comment(";", WHY_ANCHORS));
    all.iter().flat_map(Forwarding::all).for_each(|name| text += &format!("{name}\n"));
    text +=
        "\n; Where there is a file like this, those that systemd-resolved has built in do not count: these are they.\n";
    BUILT_IN.split_whitespace().for_each(|name| text += &format!("{name}\n"));
    text
}

fn coredns(all: &[Forwarding]) -> String {
    let usage = "Add this to the Corefile, or `import` it there. There is no need for negative trust anchors: CoreDNS does not validate.";
    let mut text = head("#", "CoreDNS", usage, all);
    for one in all {
        let names: Vec<&str> = one.all().collect();
        text += &format!(
            "\n{} {{\n    errors\n    forward . {} {{\n        max_fails 2\n    }}\n    cache 60\n}}\n",
            names.join(" "),
            joined(&one.addresses, " ")
        );
    }
    text
}

fn windows(all: &[Forwarding]) -> String {
    let usage = "Run this as an administrator on a domain controller that serves DNS. On a server that is none, leave out \
                 -ReplicationScope, and run it on each. -UseRecursion is left out, and meant to be: with it the server asks the public \
                 servers when the forwarders do not answer, and then hands out public addresses.";
    let mut text = head("#", "Windows DNS Server", usage, all);
    for one in all {
        let names: Vec<String> = one.all().map(|name| format!("    '{name}'")).collect();
        text += &format!(
            "\n$zones = @(\n{}\n)\nforeach ($zone in $zones) {{\n    Add-DnsServerConditionalForwarderZone -Name $zone -MasterServers {} \
             -ForwarderTimeout 2 -ReplicationScope Forest\n}}\n",
            names.join("\n"),
            joined(&one.addresses, ", ")
        );
    }
    let points = "Windows DNS Server has no negative trust anchors, and validates below the trust points that it was given: this lists \
                  them. Where the root (`.`) is listed, let another forwarder validate.";
    text + &format!("\n{}Get-DnsServerTrustPoint\n", comment("#", points))
}
