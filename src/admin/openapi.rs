//! The OpenAPI 3.1 document of the admin API, generated from the types of the manifest.

use super::status::NodeStatus;
use crate::manifest::{KINDS, Manifest, collection::MASTER_FILES};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// All operations: path, method, summary, request body, and response.
pub const OPERATIONS: &[(&str, &str, &str, Input, Output)] = &[
    ("/v1/status", "get", "Reports what the node serves, and its state", Input::Nothing, Output::Status),
    ("/v1/cache", "get", "Reports cache statistics, or the entries of a name", Input::Nothing, Output::Object),
    ("/v1/cache", "delete", "Removes the entries of a name, or all entries", Input::Nothing, Output::Object),
    ("/v1/explain", "post", "Explains how the answer to a query is chosen", Input::Object, Output::Object),
    ("/v1/openapi.json", "get", "Returns this document", Input::Nothing, Output::Object),
    ("/v1/events", "get", "Streams new generations as server-sent events", Input::Nothing, Output::Events),
    ("/v1/health", "get", "Lists the targets of health checks with their verdicts", Input::Nothing, Output::Object),
    ("/v1/health/{id}", "get", "Returns the verdict of a target", Input::Nothing, Output::Object),
    (
        "/v1/health/{id}",
        "put",
        "Forces the verdict of a target, or reports an EXTERNAL check",
        Input::Object,
        Output::Object,
    ),
    ("/v1/health/{id}", "delete", "Ends the forced verdict of a target", Input::Nothing, Output::Object),
    ("/v1/firewall/lists/{id}/refresh", "post", "Downloads a DNS Firewall list now", Input::Nothing, Output::Object),
    (
        "/v1/firewall/observed",
        "get",
        "Lists the names that DNS Firewall blocked most often, with view, rule and last client",
        Input::Nothing,
        Output::Object,
    ),
    ("/v1/firewall/lists", "get", "Lists the DNS Firewall lists with their states", Input::Nothing, Output::Object),
    ("/v1/negative_trust_anchors", "get", "Lists the negative trust anchors", Input::Nothing, Output::Object),
    (
        "/v1/negative_trust_anchors/{id}",
        "put",
        "Makes answers at and below a name count as unsigned for some time",
        Input::Object,
        Output::Object,
    ),
    ("/v1/negative_trust_anchors/{id}", "delete", "Removes a negative trust anchor", Input::Nothing, Output::Object),
    ("/v1/journals", "get", "Lists the journals of dynamic updates", Input::Nothing, Output::Object),
    ("/v1/journals/{id}", "get", "Returns the journal of a zone", Input::Nothing, Output::Object),
    (
        "/v1/journals/{id}",
        "delete",
        "Drops the journal of a zone, and serves the zone's files",
        Input::Nothing,
        Output::Object,
    ),
    ("/v1/manifest", "get", "Returns the whole manifest", Input::Nothing, Output::Manifest),
    ("/v1/manifest", "put", "Replaces the whole manifest", Input::Manifest, Output::Change),
    ("/v1/batch", "post", "Makes several changes in one transaction", Input::Batch, Output::Change),
    ("/v1/{kind}", "get", "Lists the resources of a kind, in pages", Input::Page, Output::Object),
    ("/v1/{kind}/{id}", "get", "Returns a resource", Input::Nothing, Output::Resource),
    ("/v1/{kind}/{id}", "put", "Adds or replaces a resource", Input::Resource, Output::Change),
    ("/v1/{kind}/{id}", "patch", "Changes a resource (RFC 7396)", Input::Patch, Output::Change),
    ("/v1/{kind}/{id}", "delete", "Deletes a resource", Input::Nothing, Output::Change),
];

/// The parameters or the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// No body.
    Nothing,
    /// Parameters of a page.
    Page,
    /// An object.
    Object,
    /// A resource of the kind.
    Resource,
    /// A merge patch.
    Patch,
    /// A whole manifest.
    Manifest,
    /// A list of operations.
    Batch,
}

/// The body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// An object.
    Object,
    /// The result of a change.
    Change,
    /// A resource.
    Resource,
    /// A whole manifest.
    Manifest,
    /// The status of the node.
    Status,
    /// Server-sent events.
    Events,
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn json_content(content: &str, schema: Value) -> Value {
    json!({"required": true, "content": {content: {"schema": schema}}})
}

/// Makes the document. Operations on a kind are repeated for each kind, with its schema.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let manifest = generator.root_schema_for::<Manifest>().to_value();
    let mut schemas = Map::new();
    // The definition is under the type's own name.
    let _ = generator.subschema_for::<NodeStatus>();
    for (name, schema) in generator.take_definitions(true) {
        schemas.insert(name, schema);
    }
    let mut whole = manifest;
    if let Value::Object(members) = &mut whole {
        members.remove("components");
        members.remove("$schema");
        members.remove("$defs");
    }
    whole["properties"][MASTER_FILES] = json!({"type": "object", "additionalProperties": {"type": "string"}});
    whole["properties"]["generation"] = json!({"type": "integer", "minimum": 0});
    schemas.insert("Whole".into(), whole.clone());
    schemas.insert("Change".into(), change());
    schemas.insert("Problem".into(), problem());
    schemas.insert("Batch".into(), batch());

    let mut paths = Map::new();
    for (path, method, summary, takes, gives) in OPERATIONS {
        for kind in KINDS.iter().chain([&MASTER_FILES]).take(if path.contains("{kind}") { usize::MAX } else { 1 }) {
            if *kind == MASTER_FILES && *takes == Input::Patch {
                continue;
            }
            let resource = &whole["properties"][*kind]["additionalProperties"];
            let operation = operation(path, method, summary, *takes, *gives, kind, resource);
            let entry = paths.entry(path.replace("{kind}", kind)).or_insert_with(|| json!({}));
            entry[*method] = operation;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "zonal's admin API", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "certificate": {"type": "mutualTLS"}},
        },
        "security": [{}, {"token": []}, {"certificate": []}],
    })
}

fn operation(
    path: &str,
    method: &str,
    summary: &str,
    takes: Input,
    gives: Output,
    kind: &str,
    resource: &Value,
) -> Value {
    let parameter = |name: &str, place: &str, schema: Value| json!({"name": name, "in": place, "required": place == "path", "schema": schema});
    let mut parameters = Vec::new();
    if path.contains("{id}") {
        parameters.push(parameter("id", "path", json!({"type": "string", "minLength": 1})));
    }
    if gives == Output::Change {
        parameters.push(parameter("dry_run", "query", json!({"type": "boolean"})));
        if path.contains("{id}") {
            parameters.push(parameter("If-Match", "header", json!({"type": "string"})));
            parameters.push(parameter("If-None-Match", "header", json!({"const": "*"})));
        }
    }
    if takes == Input::Page {
        parameters.push(parameter("limit", "query", json!({"type": "integer", "minimum": 1, "maximum": 1000})));
        parameters.push(parameter("page_token", "query", json!({"type": "string"})));
    }
    if path == "/v1/cache" {
        parameters.push(parameter("name", "query", json!({"type": "string"})));
        parameters.push(parameter("subtree", "query", json!({"type": "boolean"})));
        parameters.push(parameter("limit", "query", json!({"type": "integer", "minimum": 0})));
    }
    let text = json!({"type": "string"});
    let is_file = kind == MASTER_FILES && path.contains("{kind}");
    let (content, schema) = match gives {
        Output::Object => ("application/json", json!({"type": "object"})),
        Output::Change => ("application/json", reference("Change")),
        Output::Resource if is_file => ("text/dns", text.clone()),
        Output::Resource => ("application/json", resource.clone()),
        Output::Manifest => ("application/json", reference("Whole")),
        Output::Status => ("application/json", reference("NodeStatus")),
        Output::Events => ("text/event-stream", text.clone()),
    };
    let trouble = json!({
        "description": "The request failed",
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    });
    let mut operation = json!({
        "summary": summary,
        "operationId": format!("{method} {}", path.replace("{kind}", kind)).replace(['/', '{', '}', ' ', '.'], "_"),
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {content: {"schema": schema}}},
            "4XX": trouble.clone(),
            "5XX": trouble,
        },
    });
    let body = match takes {
        Input::Nothing | Input::Page => return operation,
        Input::Object => json_content("application/json", json!({"type": "object"})),
        Input::Resource if is_file => json_content("text/dns", text),
        Input::Resource => json_content("application/json", resource.clone()),
        Input::Patch => json_content("application/merge-patch+json", json!({"type": "object"})),
        Input::Manifest => json_content("application/json", reference("Whole")),
        Input::Batch => json_content("application/json", reference("Batch")),
    };
    operation["requestBody"] = body;
    operation
}

fn change() -> Value {
    json!({
        "type": "object",
        "required": ["generation", "revision", "changes", "problems"],
        "properties": {
            "generation": {"type": "integer", "description": "The generation that serves the change"},
            "revision": {"type": "integer", "description": "The revision: the number of changes so far"},
            "changes": {"type": "array", "items": {"type": "object", "required": ["kind", "id", "change"], "properties": {
                "kind": {"type": "string"},
                "id": {"type": "string"},
                "change": {"enum": ["added", "changed", "removed"]},
            }}},
            "problems": {"type": "array", "items": {"type": "object"}},
            "dry_run": {"type": "boolean"},
            "answers": {"type": "object", "description": "The answers that the change would affect; in a dry run only"},
        },
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "object", "required": ["severity", "message"]}},
        },
    })
}

fn batch() -> Value {
    json!({
        "type": "object",
        "required": ["operations"],
        "additionalProperties": false,
        "properties": {"if_revision": {"type": "integer"}, "operations": {"type": "array", "items": {
            "type": "object",
            "required": ["method", "kind", "id"],
            "additionalProperties": false,
            "properties": {
                "method": {"enum": ["PUT", "PATCH", "DELETE"]},
                "kind": {"type": "string"},
                "id": {"type": "string"},
                "resource": {"type": "object"},
                "text": {"type": "string", "description": "The content of a master file"},
                "if_match": {"type": "string"},
                "if_none_match": {"const": "*"},
            },
        }}},
    })
}
