//! What went wrong, as the admin API says it: problem details (RFC 9457).

use crate::{control_plane::change::Refusal, manifest::Problem};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// An answer that is none.
#[derive(Debug)]
pub struct Trouble {
    status: StatusCode,
    detail: String,
    problems: Vec<Problem>,
}

impl Trouble {
    /// With one sentence that says what is wrong.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Trouble {
        Trouble { status, detail: detail.into(), problems: Vec::new() }
    }

    /// With all that is wrong with what was sent.
    pub fn with(status: StatusCode, problems: Vec<Problem>) -> Trouble {
        let detail = Refusal::Problems(problems.clone()).to_string();
        Trouble { status, detail, problems }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        let status = match &refusal {
            Refusal::Problems(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Precondition(_) => StatusCode::PRECONDITION_FAILED,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::NotKept(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        match refusal {
            Refusal::Problems(problems) => Trouble::with(status, problems),
            refusal => Trouble::new(status, refusal.to_string()),
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if !self.problems.is_empty() {
            body["problems"] = self.problems.iter().map(problem).collect();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A problem of a resource, as data.
pub fn problem(problem: &Problem) -> Value {
    let mut told = json!({"severity": problem.severity.to_string(), "message": problem.message});
    if let Some((kind, id)) = &problem.resource {
        told["kind"] = json!(kind);
        told["id"] = json!(id);
        told["field"] = json!(problem.field);
    }
    if let Some(place) = &problem.location {
        told["line"] = json!(place.line);
        told["column"] = json!(place.column);
    }
    if let Some(help) = &problem.help {
        told["help"] = json!(help);
    }
    told
}
