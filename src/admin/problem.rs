//! Errors of the admin API, as problem details (RFC 9457).

use crate::{control_plane::change::ChangeError, manifest::Problem};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// An error response.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    problems: Vec<Problem>,
}

impl ApiError {
    /// An error with one sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> ApiError {
        ApiError { status, detail: detail.into(), problems: Vec::new() }
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// An error with the problems of the sent resources.
    pub fn with(status: StatusCode, problems: Vec<Problem>) -> ApiError {
        let detail = ChangeError::Problems(problems.clone()).to_string();
        ApiError { status, detail, problems }
    }
}

impl From<ChangeError> for ApiError {
    fn from(refusal: ChangeError) -> ApiError {
        let status = match &refusal {
            ChangeError::Problems(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ChangeError::Precondition(_) => StatusCode::PRECONDITION_FAILED,
            ChangeError::Conflict(_) => StatusCode::CONFLICT,
            ChangeError::NotFound(_) => StatusCode::NOT_FOUND,
            ChangeError::Malformed(_) => StatusCode::BAD_REQUEST,
            ChangeError::NotWritten(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        match refusal {
            ChangeError::Problems(problems) => ApiError::with(status, problems),
            refusal => ApiError::new(status, refusal.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
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

/// A problem of a resource, as JSON.
pub fn problem(problem: &Problem) -> Value {
    let mut object = json!({"severity": problem.severity.to_string(), "message": problem.message});
    if let Some((kind, id)) = &problem.resource {
        object["kind"] = json!(kind);
        object["id"] = json!(id);
        object["field"] = json!(problem.field);
    }
    if let Some(place) = &problem.location {
        object["line"] = json!(place.line);
        object["column"] = json!(place.column);
    }
    if let Some(help) = &problem.help {
        object["help"] = json!(help);
    }
    object
}
