//! `zonal cache`: shows or flushes the cache of a running server through its admin API.

use super::{CacheArguments, CacheCommand, Format, client, health::segment, print_error, print_result};
use crate::{manifest::problem::printable, wire::Name};
use hyper::Method;
use serde_json::Value;
use std::{
    fmt::{self, Write},
    process::ExitCode,
};

/// Runs the command. Exit status 2 if the name is malformed, 1 if the request fails.
pub(super) fn run(command: &CacheCommand) -> ExitCode {
    let (method, arguments, limit) = match command {
        CacheCommand::Show { arguments, limit } => (Method::GET, arguments, Some(*limit)),
        CacheCommand::Flush(arguments) => (Method::DELETE, arguments, None),
    };
    let server = match client::find(&arguments.server) {
        Ok((server, _)) => server,
        Err(status) => return status,
    };
    let path = match path(arguments, limit) {
        Ok(path) => path,
        Err(error) => {
            print_error(error);
            return ExitCode::from(2);
        }
    };
    let response = client::ask(&server, method, &path, None).and_then(|response| {
        let is_known = ["entries", "flushed"].iter().any(|member| response[member].is_u64());
        if is_known { Ok(response) } else { Err(client::not_the_admin_api(&server)) }
    });
    print_result(response.map(|response| render(&response, arguments)).map_err(anyhow::Error::from))
}

fn path(arguments: &CacheArguments, limit: Option<u32>) -> Result<String, String> {
    let mut parts = Vec::new();
    if let Some(text) = &arguments.name {
        let name = Name::absolute(text).map_err(|error| format!("`{}`: {error}", printable(text)))?;
        parts.push(format!("name={}", segment(&name.to_string())));
    }
    parts.extend(arguments.subtree.then(|| "subtree=true".into()));
    parts.extend(limit.map(|limit| format!("limit={limit}")));
    Ok(format!("/v1/cache?{}", parts.join("&")))
}

fn render(response: &Value, arguments: &CacheArguments) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match arguments.server.format {
        Format::Json => writeln!(text, "{response:#}"),
        Format::Human => write(&mut text, response, arguments.name.is_some()),
    };
    text
}

/// Writes the response for people; with the records if it is about one name.
fn write(text: &mut String, response: &Value, is_one_name: bool) -> fmt::Result {
    let number = |field: &str| response[field].as_u64().unwrap_or(0);
    if let Some(flushed) = response["flushed"].as_u64() {
        return writeln!(text, "{flushed} {} removed", if flushed == 1 { "entry" } else { "entries" });
    }
    let kinds = response["kinds"].as_object().into_iter().flatten().map(|(kind, count)| format!("{count} {kind}"));
    let kinds: Vec<String> = kinds.collect();
    let list = response["list"].as_array().map_or(&[][..], |list| list);
    if is_one_name {
        let kinds = if kinds.is_empty() { "none".into() } else { kinds.join(", ") };
        writeln!(text, "entries: {} ({})", number("found"), printable(&kinds))?;
    } else {
        let asked = number("hits") + number("misses");
        let share = number("hits") as f64 * 100.0 / asked.max(1) as f64;
        let mebibytes = |field| number(field) as f64 / f64::from(1 << 20);
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        writeln!(text, "entries: {}{}", number("entries"), printable(&kinds))?;
        writeln!(text, "memory: {:.1} of {:.1} MiB", mebibytes("octets"), mebibytes("budget_octets"))?;
        writeln!(text, "hits: {} of {asked} ({share:.1} %)", number("hits"))?;
        let counts = ["stale_answers", "prefetches", "evictions"].map(number);
        writeln!(text, "stale answers: {}; prefetches: {}; evictions: {}", counts[0], counts[1], counts[2])?;
    }
    for entry in list {
        write_entry(text, entry, is_one_name)?;
    }
    let total = if is_one_name { number("found") } else { number("entries") };
    match total.saturating_sub(list.len() as u64) {
        more if more > 0 && is_one_name => writeln!(text, "… and {more} more: raise `--limit` to see them"),
        _ => Ok(()),
    }
}

fn write_entry(text: &mut String, entry: &Value, with_records: bool) -> fmt::Result {
    let word = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let ttl = entry["ttl"].as_i64();
    write!(text, "{} {}", word(&entry["name"]), word(&entry["type"]))?;
    for (field, flag) in [("dnssec_ok", "+do"), ("checking_disabled", "+cd")] {
        if entry[field] == true {
            write!(text, " {flag}")?;
        }
    }
    match entry["rule"].as_str() {
        Some(rule) => write!(text, " by {}", printable(rule))?,
        None => text.push_str(" by the internet resolver"),
    }
    write!(text, ": {}, {}", word(&entry["state"]), word(&entry["status"]))?;
    match ttl {
        Some(left) if left > 0 => write!(text, ", {left} s left")?,
        Some(left) => write!(text, ", expired {} s ago", -left)?,
        None => {}
    }
    let failure = &entry["failure"];
    if failure.is_object() {
        write!(text, ", failed: {} (cached for {} s more)", word(&failure["ede"]["text"]), failure["ttl"])?;
    }
    writeln!(text, ", used {} times, {} octets", entry["uses"], entry["octets"])?;
    for section in ["answer", "authority"].into_iter().filter(|_| with_records) {
        for record in entry[section].as_array().into_iter().flatten() {
            let (name, rtype, rdata) = (word(&record["name"]), word(&record["type"]), word(&record["rdata"]));
            writeln!(text, "  {section}: {name} {} IN {rtype} {rdata}", record["ttl"])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AccessArguments, ConfigArgument, ServerArguments};
    use serde_json::json;

    fn arguments(name: Option<&str>) -> CacheArguments {
        let server = ServerArguments {
            config: ConfigArgument { config: None },
            admin: None,
            access: AccessArguments::default(),
            format: Format::Human,
        };
        CacheArguments { name: name.map(String::from), subtree: name.is_some(), server }
    }

    #[test]
    fn escapes_names_in_the_path() {
        assert_eq!(path(&arguments(None), Some(3)).unwrap(), "/v1/cache?limit=3");
        let path = |name| path(&arguments(Some(name)), None);
        assert_eq!(path("www.Example").unwrap(), "/v1/cache?name=www.Example.&subtree=true");
        assert_eq!(path("a\\007&b=.example").unwrap(), "/v1/cache?name=a%5C007%26b%3D.example.&subtree=true");
        assert!(path("a..b").unwrap_err().starts_with("`a..b`: "));
    }

    #[test]
    fn renders_the_response_as_text() {
        assert_eq!(render(&json!({"flushed": 1}), &arguments(None)), "1 entry removed\n");
        let mut response = json!({
            "entries": 7, "octets": 1 << 20, "budget_octets": 64 << 20, "hits": 3, "misses": 1, "stale_answers": 0,
            "evictions": 0, "prefetches": 2, "found": 7, "kinds": {"positive": 6, "failure": 1},
            "list": [{
                "name": "www.example.", "type": "A", "dnssec_ok": true, "checking_disabled": false, "rule": "rule\u{1b}1",
                "state": "stale", "status": "NOERROR", "ttl": -5, "authentic": false, "octets": 400, "uses": 12,
                "answer": [{"name": "www.example.", "type": "A", "ttl": 0, "rdata": "192.0.2.1"}], "authority": [],
                "failure": {"ttl": 4, "ede": {"code": 22, "text": "nobody\u{1b}[31m"}},
            }],
        });
        let text = render(&response, &arguments(None));
        let expected = "entries: 7 (1 failure, 6 positive)\nmemory: 1.0 of 64.0 MiB\nhits: 3 of 4 (75.0 %)\n\
            stale answers: 0; prefetches: 2; evictions: 0\nwww.example. A +do by rule";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("192.0.2.1"), "{text}");
        let text = render(&response, &arguments(Some("www.example")));
        for line in [
            "entries: 7 (1 failure, 6 positive)\n",
            ": stale, NOERROR, expired 5 s ago, failed: nobody",
            " (cached for 4 s more), used 12 times, 400 octets\n  answer: www.example. 0 IN A 192.0.2.1\n",
            "… and 6 more: raise `--limit` to see them\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        response["list"][0]["rule"] = Value::Null;
        assert!(render(&response, &arguments(None)).contains("by the internet resolver: "));
    }

    #[test]
    fn says_what_to_do_without_a_server() {
        let listener = std::net::TcpListener::bind("127.83.7.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let server = client::Server::new(&address.to_string()).unwrap();
        let error: anyhow::Error =
            client::ask(&server, hyper::Method::GET, "/v1/cache", None).expect_err("nobody is there").into();
        assert!(format!("{error:#}").contains("is `zonal serve` running, "), "{error:#}");
    }
}
