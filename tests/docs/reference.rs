//! The generated reference pages: from the command line, the JSON Schemas, and the operations of
//! the HTTP API.

use crate::harness::{ZONAL, tree};
use serde_json::{Map, Value};
use std::{fmt::Write, fs, process::Command};
use zonal::{
    admin::{openapi, status::NodeStatus},
    aws::{model::Service, operations::entries},
    config::Config,
    manifest::Manifest,
};

/// The lines around the generated part of a page.
const BEGIN: &str = "<!-- generated: ZONAL_WRITE_DOCS=1 cargo test docs::reference -->\n";
const END: &str = "<!-- end of the generated part -->\n";

/// Compares the generated part of a page with the code, or rewrites it.
fn check(page: &str, generated: &str) {
    let path = tree(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{page}: {e}"));
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{page} has no line {BEGIN}"));
    let (written, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no line {END}"));
    if std::env::var("ZONAL_WRITE_DOCS").is_ok_and(|value| value == "1") {
        fs::write(&path, format!("{before}{BEGIN}{generated}{END}{after}")).unwrap();
        return;
    }
    let differs = written.lines().zip(generated.lines()).find(|(written, generated)| written != generated);
    assert!(
        written == generated,
        "{page} is not what the code says: write it anew with ZONAL_WRITE_DOCS=1 cargo test docs::reference\n{differs:#?}"
    );
}

/// The commands that a help text lists.
fn subcommands(help: &str) -> Vec<&str> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

/// The help texts of a command and of its subcommands, one section each.
fn help(words: &[&str], page: &mut String) {
    let output = Command::new(ZONAL).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "zonal {words:?} --help: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let title = ["zonal"].iter().chain(words).copied().collect::<Vec<_>>().join(" ");
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    write!(page, "## {title}\n\n```text\n{}\n```\n\n", text.join("\n").trim_end()).unwrap();
    for name in subcommands(&text.join("\n")) {
        help(&[words, &[name]].concat(), page);
    }
}

#[test]
fn the_command_line_page_has_every_command_and_option() {
    let mut page = String::from("\n");
    help(&[], &mut page);
    assert!(page.matches("\n## ").count() > 10, "{page}");
    check("docs/reference/command-line.md", &page);
}

/// A JSON Schema with its definitions.
struct Schema {
    root: Value,
    /// Whether users write these objects. If so, the tables have a column of defaults.
    is_input: bool,
}

impl Schema {
    fn definition(&self, reference: &str) -> (String, &Value) {
        let name = reference.rsplit('/').next().unwrap();
        (name.to_string(), &self.root["$defs"][name])
    }

    /// The type of a field in words. Adds the object types that it refers to to `found`.
    fn type_of(&self, field: &Value, found: &mut Vec<String>) -> String {
        if let Some(reference) = field["$ref"].as_str() {
            let (name, definition) = self.definition(reference);
            if definition["properties"].is_object() {
                found.push(name.clone());
                return format!("[{name}](#{})", name.to_lowercase());
            }
            return self.type_of(definition, found);
        }
        if let Some(words) = field["enum"].as_array() {
            let words: Vec<String> =
                words.iter().filter(|word| !word.is_null()).map(|word| format!("`{}`", plain(word))).collect();
            return words.join(", ");
        }
        if field["pattern"].is_string()
            && let Some(form) = field["title"].as_str()
        {
            return form.into();
        }
        if let Some(word) = field.get("const") {
            return format!("`{}`", plain(word));
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(several) = field[key].as_array() {
                // Enumerated words have a pattern beside them for other cases; null marks an optional field.
                let has_words = several.iter().any(|one| one["enum"].is_array());
                let is_shown = |one: &&Value| one["type"] != "null" && !(has_words && one["pattern"].is_string());
                let several: Vec<String> =
                    several.iter().filter(is_shown).map(|one| self.type_of(one, found)).collect();
                return several.join(" or ");
            }
        }
        let name = match &field["type"] {
            Value::String(name) => name.as_str(),
            Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any"),
            _ => "any",
        };
        match name {
            "array" => format!("list of {}", self.type_of(&field["items"], found)),
            "object" if field["additionalProperties"].is_object() => {
                format!("map from name to {}", self.type_of(&field["additionalProperties"], found))
            }
            "object" if field["properties"].is_object() => {
                let members = field["properties"].as_object().unwrap();
                let members: Vec<String> =
                    members.iter().map(|(name, member)| format!("{name}: {}", self.type_of(member, found))).collect();
                format!("{{{}}}", members.join(", "))
            }
            "string" => "text".into(),
            name => name.into(),
        }
    }

    /// A table of an object's fields.
    fn table(&self, object: &Value, page: &mut String, found: &mut Vec<String>) {
        page.push_str(match self.is_input {
            true => "| field | type | default | meaning |\n| --- | --- | --- | --- |\n",
            false => "| member | type | meaning |\n| --- | --- | --- |\n",
        });
        let none = Map::new();
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in object["properties"].as_object().unwrap_or(&none) {
            let kind = self.type_of(field, found);
            let default = match field.get("default") {
                _ if required.contains(&name.as_str()) => "required".to_string(),
                None | Some(Value::Null) => String::new(),
                Some(Value::Object(members)) if !members.is_empty() => "see its fields".into(),
                Some(value) => format!("`{value}`"),
            };
            let meaning = one_line(field["description"].as_str().unwrap_or_default());
            match self.is_input {
                true => writeln!(page, "| `{name}` | {kind} | {default} | {meaning} |").unwrap(),
                false => writeln!(page, "| `{name}` | {kind} | {meaning} |").unwrap(),
            }
        }
        page.push('\n');
    }

    /// The tables of these objects and of all objects that they refer to, each once.
    fn tables(&self, mut waiting: Vec<String>, page: &mut String) {
        let mut done: Vec<String> = Vec::new();
        while !waiting.is_empty() {
            let name = waiting.remove(0);
            if done.contains(&name) {
                continue;
            }
            let definition = &self.root["$defs"][&name];
            write!(page, "### {name}\n\n{}\n\n", one_line(definition["description"].as_str().unwrap_or_default()))
                .unwrap();
            let mut found = Vec::new();
            self.table(definition, page, &mut found);
            waiting.extend(found);
            done.push(name);
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// A text as a cell of a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[test]
fn the_manifest_page_has_every_kind_and_field() {
    let schema = Schema { root: schemars::schema_for!(Manifest).to_value(), is_input: true };
    let (mut page, mut found) =
        (String::from("\n## Kinds\n\n| kind | resource | meaning |\n| --- | --- | --- |\n"), Vec::new());
    for (kind, field) in schema.root["properties"].as_object().unwrap() {
        let resource = schema.type_of(&field["additionalProperties"], &mut found);
        writeln!(page, "| `{kind}` | {resource} | {} |", one_line(field["description"].as_str().unwrap_or_default()))
            .unwrap();
    }
    page.push_str("\n## Resources and their parts\n\n");
    schema.tables(found, &mut page);
    check("docs/reference/manifest.md", &page);
}

#[test]
fn the_configuration_page_has_every_field() {
    let schema = Schema { root: schemars::schema_for!(Config).to_value(), is_input: true };
    let (mut page, mut found) = (String::from("\n"), Vec::new());
    schema.table(&schema.root, &mut page, &mut found);
    schema.tables(found, &mut page);
    check("docs/reference/zonal-yaml.md", &page);
}

#[test]
fn the_http_api_page_has_every_operation() {
    let mut page = String::from("\n| method | path | what it does |\n| --- | --- | --- |\n");
    for (path, method, meaning, ..) in openapi::OPERATIONS {
        writeln!(page, "| `{}` | `{path}` | {meaning} |", method.to_uppercase()).unwrap();
    }
    page.push('\n');
    check("docs/reference/http-api.md", &page);
}

#[test]
fn the_status_page_has_every_member() {
    let schema = Schema { root: schemars::schema_for!(NodeStatus).to_value(), is_input: false };
    let (mut page, mut found) = (String::from("\n"), Vec::new());
    schema.table(&schema.root, &mut page, &mut found);
    schema.tables(found, &mut page);
    check("docs/reference/status.md", &page);
}

/// The alerts of the rules file: name, severity, summary and description.
#[test]
fn the_metrics_page_has_every_alert() {
    let rules = fs::read_to_string(tree("deploy/prometheus/zonal.rules.yml")).unwrap();
    let mut page = String::from("\n| alert | severity | when | what it means |\n| --- | --- | --- | --- |\n");
    let mut count = 0;
    for alert in rules.split("- alert: ").skip(1) {
        let field = |name: &str| {
            let value = alert.split(&format!("{name}: ")).nth(1).unwrap_or_else(|| panic!("no {name}: {alert}"));
            one_line(value.lines().next().unwrap().trim_matches(['"', '}', '{'])).replace("{{ ", "").replace(" }}", "")
        };
        let name = alert.lines().next().unwrap();
        let (severity, summary, meaning) = (field("severity"), field("summary"), field("description"));
        writeln!(
            page,
            "| `{name}` | {severity} | {} | {meaning} |",
            summary.replace("$labels.", "").replace("$value", "N")
        )
        .unwrap();
        count += 1;
    }
    assert!(count > 20, "only {count} alerts were found");
    page.push('\n');
    check("docs/reference/metrics.md", &page);
}

#[test]
fn the_page_of_awss_apis_has_every_operation_and_parameter() {
    let parameters = |names: &str| {
        let names: Vec<String> = names.split_whitespace().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    let mut page = String::new();
    let mut count = 0;
    for service in Service::ALL {
        let mut entries: Vec<_> = entries().filter(|entry| entry.service == service).collect();
        entries.sort_by_key(|entry| entry.name);
        if entries.is_empty() {
            continue;
        }
        write!(page, "\n### {service}\n\n| operation | served | echoed | refused |\n| --- | --- | --- | --- |\n")
            .unwrap();
        for entry in entries {
            let [served, echoed, refused] = [entry.served, entry.echoed, entry.refused].map(parameters);
            writeln!(page, "| `{}` | {served} | {echoed} | {refused} |", entry.name).unwrap();
            count += 1;
        }
    }
    page.push('\n');
    assert_eq!(count, entries().count());
    check("docs/reference/aws-api.md", &page);
}
