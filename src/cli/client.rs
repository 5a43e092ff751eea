//! A client of the admin API of a server that runs.

use crate::manifest::problem::printable;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No server of ours answers there.
    Nobody(anyhow::Error),
    /// The server says that it cannot be done.
    Refused(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> anyhow::Error {
        let (Failure::Nobody(error) | Failure::Refused(error)) = failure;
        error
    }
}

/// Sends one request, and returns the JSON that comes back.
pub fn ask(address: SocketAddr, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let asked = || -> anyhow::Result<(hyper::StatusCode, Value)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Ok(answer) = timeout(PATIENCE, request(address, method, path, body)).await else {
                bail!("the server at {address} does not answer: is that the admin address of `zonal serve`?");
            };
            answer
        })
    };
    let (status, told) = asked().map_err(Failure::Nobody)?;
    match (status.is_success(), told["detail"].as_str()) {
        (true, _) => Ok(told),
        (false, error) => {
            let error = printable(error.unwrap_or("-"));
            Err(Failure::Refused(anyhow::anyhow!("the server at {address} says {status}: {error}")))
        }
    }
}

async fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(hyper::StatusCode, Value)> {
    let help = || format!("no server at {address}: is `zonal serve` running? `--config` or `--admin` say where");
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.with_context(help)?.with_context(help)?;
    let no_server = || format!("what listens on {address} is not the admin API of `zonal serve`");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(no_server)?;
    // It ends with the answer, or shows in it why there is none.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, address.to_string());
    let request = match body {
        Some(_) => request.header(header::CONTENT_TYPE, "application/json"),
        None => request,
    };
    let body = Full::new(Bytes::from(body.map_or(String::new(), Value::to_string)));
    let response = sender.send_request(request.body(body)?).await.with_context(no_server)?;
    let status = response.status();
    let body = response.into_body().collect().await.with_context(no_server)?.to_bytes();
    Ok((status, serde_json::from_slice(&body).with_context(no_server)?))
}
