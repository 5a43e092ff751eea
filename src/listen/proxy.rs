//! PROXY protocol v2 on streams. The header comes once, at the start of the connection and before TLS. It holds for every query
//! of the connection.

use super::Core;
use crate::{
    answer::Client,
    manifest::ClientIdentity,
    wire::proxy::{FIXED, MAX_HEADER, header_len},
};
use std::{borrow::Cow, io, sync::Arc};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Whether a connection of this client begins with a PROXY header.
pub fn is_expected(core: &Core, client: &Client) -> bool {
    let snapshot = core.snapshot.load();
    client.forwarder(&snapshot).is_some_and(|(forwarder, _)| forwarder.identity == ClientIdentity::ProxyProtocolV2)
}

/// Reads the PROXY header of a connection from a forwarder with `proxy_protocol_v2`. For all other clients, reads nothing, and
/// the header is empty. [`crate::answer::answer`] interprets the header: each query goes there with the header
/// [in front](prepend). The error says that the octets are not a header; the caller closes the connection. The caller limits
/// the time.
pub async fn read_header<S: AsyncRead + Unpin>(core: &Core, client: &Client, stream: &mut S) -> io::Result<Arc<[u8]>> {
    if !is_expected(core, client) {
        return Ok(Arc::default());
    }
    let mut header = [0; MAX_HEADER];
    let (fixed, rest) = header.split_first_chunk_mut::<FIXED>().ok_or(io::ErrorKind::InvalidData)?;
    stream.read_exact(fixed).await?;
    let len = header_len(fixed).ok_or(io::ErrorKind::InvalidData)?;
    stream.read_exact(&mut rest[..len - FIXED]).await?;
    Ok(header[..len].into())
}

/// A query with the header of its connection in front.
pub fn prepend<'q>(header: &[u8], query: &'q [u8]) -> Cow<'q, [u8]> {
    if header.is_empty() { Cow::Borrowed(query) } else { Cow::Owned([header, query].concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::Transport,
        listen::tests::limits,
        manifest::Loaded,
        snapshot::{Node, compile},
        wire::proxy::tests::{header, proxied, tlv},
    };
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;

    fn core() -> Arc<Core> {
        let manifest = serde_json::json!({
            "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}},
            "forwarders": {
                "p": {"vpc_id": "a", "cidr_blocks": ["10.1.0.20/32"], "client_identity": "proxy_protocol_v2"},
                "e": {"vpc_id": "a", "cidr_blocks": ["10.1.0.21/32"]},
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap();
        crate::listen::tests::core_of(snapshot, &limits())
    }

    /// Sends octets from this address. Returns the header that is read, and the octets after it.
    async fn read(source: [u8; 4], sent: &[u8]) -> (Option<Arc<[u8]>>, Vec<u8>) {
        let client = Client { source: source.into(), port: 0, local: [10, 9, 0, 1].into(), transport: Transport::Tcp };
        let (mut near, mut far) = tokio::io::duplex(7); // a few octets at a time
        let sent = sent.to_vec();
        let sender = tokio::spawn(async move {
            let _ = far.write_all(&sent).await;
        });
        let header = read_header(&core(), &client, &mut near).await.ok();
        let mut rest = Vec::new();
        if header.is_some() {
            near.read_to_end(&mut rest).await.unwrap();
        }
        drop(near);
        sender.await.unwrap();
        (header, rest)
    }

    #[tokio::test]
    async fn reads_a_header_from_forwarders_with_proxy_protocol_only() {
        let long = proxied([10, 1, 0, 7], [10, 9, 0, 1], &tlv(4, &[0; MAX_HEADER - 31]));
        for header in [proxied([10, 1, 0, 7], [10, 9, 0, 1], &[]), header(0x20, 0, &[], &[]), long] {
            let sent = [&header[..], b"queries"].concat();
            assert_eq!(read([10, 1, 0, 20], &sent).await, (Some(header.into()), b"queries".to_vec()));
            for other in [[10, 1, 0, 21], [10, 1, 0, 22], [192, 0, 2, 1]] {
                assert_eq!(read(other, &sent).await, (Some(Arc::default()), sent.clone()), "{other:?}");
            }
        }
    }

    #[tokio::test]
    async fn refuses_octets_that_are_no_header() {
        let too_long = proxied([10, 1, 0, 7], [10, 9, 0, 1], &tlv(4, &[0; MAX_HEADER - 30]));
        let cut_off = &proxied([10, 1, 0, 7], [10, 9, 0, 1], &[])[..27];
        for sent in [&b""[..], b"\0\x20a query without a header, long enough", &too_long, cut_off] {
            assert_eq!(read([10, 1, 0, 20], sent).await.0, None, "{sent:02x?}");
        }
    }
}
