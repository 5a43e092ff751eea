use super::*;
use crate::listen::tests::{HERE, core, limits, padded, page, query, read};
use std::net::UdpSocket;

struct Server {
    core: Arc<Core>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(address: &str) -> Server {
        let core = core(&limits());
        let sockets = bind(address.parse().unwrap(), Vec::new()).unwrap();
        let address = sockets[0].local_addr().unwrap().as_socket().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = start(&core, sockets, &stop).unwrap();
        Server { core, address, stop, threads }
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// The next packet, and the address that it comes from.
fn receive(socket: &UdpSocket) -> (Vec<u8>, IpAddr) {
    let mut buffer = [0; 2000];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from.ip())
}

#[test]
fn replies_from_the_address_that_the_query_was_sent_to() {
    let cases = [
        ("0.0.0.0:0", "127.0.0.1:0", &["127.0.0.1", "127.0.0.9", "127.8.7.6"][..]),
        ("127.0.0.3:0", "127.0.0.4:0", &["127.0.0.3"]),
        ("[::]:0", "[::1]:0", &["::1"]),
        ("[::1]:0", "[::1]:0", &["::1"]),
    ];
    for (listen, from, addresses) in cases {
        let server = Server::start(listen);
        let client = client(from);
        for address in addresses {
            let address: IpAddr = address.parse().unwrap();
            client.send_to(&query(1, HERE), (address, server.address.port())).unwrap();
            let (reply, from) = receive(&client);
            assert_eq!((read(&reply), from), ((1, address.to_string()), address), "{listen}");
        }
        server.stop();
    }
}

#[test]
fn ignores_packets_that_are_no_queries_and_rejects_long_ones() {
    let server = Server::start("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let mut response = query(1, HERE);
    response[2] |= 0x80;
    for packet in [b"", &b"short"[..], &response, &query(2, HERE)] {
        client.send_to(packet, server.address).unwrap();
    }
    assert_eq!(read(&receive(&client).0), (2, "127.0.0.1".into()));
    client.send_to(&padded(query(3, HERE), MAX_QUERY_OCTETS), server.address).unwrap();
    assert_eq!(read(&receive(&client).0), (3, "127.0.0.1".into()));
    client.send_to(&padded(query(4, HERE), MAX_QUERY_OCTETS + 1), server.address).unwrap();
    assert_eq!(read(&receive(&client).0), (4, "RCODE 1".into()), "FORMERR: the packet is cut off");
    let metrics = page(&server.core);
    assert!(metrics.contains(r#"zonal_dropped_total{reason="silent",transport="udp"} 3"#), "{metrics}");
    server.stop();
}

#[test]
fn answers_received_packets_before_the_end() {
    let core = core(&limits());
    let sockets = bind("127.0.0.1:0".parse().unwrap(), Vec::new()).unwrap();
    let address = sockets[0].local_addr().unwrap().as_socket().unwrap();
    let client = client("127.0.0.1:0");
    for _ in 0..100 {
        client.send_to(&query(1, HERE), address).unwrap();
    }
    for thread in start(&core, sockets, &Arc::new(AtomicBool::new(true))).unwrap() {
        thread.join().unwrap();
    }
    for _ in 0..100 {
        assert_eq!(read(&receive(&client).0), (1, "127.0.0.1".into()));
    }
}

#[test]
fn an_unsendable_reply_does_not_stop_the_others() {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), Vec::new()).unwrap();
    let address = sockets[0].local_addr().unwrap().as_socket().unwrap();
    let mut batches: Vec<Batch> = sockets.into_iter().map(Batch::new).collect();
    let client = client("127.0.0.1:0");
    for number in 0..10u8 {
        client.send_to(&[b'0' + number], address).unwrap();
    }
    let (received, batch) = batches
        .iter_mut()
        .find_map(|batch| batch.receive(libc::MSG_DONTWAIT).ok().map(|received| (received, batch)))
        .unwrap();
    assert_eq!(received, 10, "one flow goes to one socket");
    for index in 0..received {
        let (query, reply) = batch.packet(index);
        reply[..1].copy_from_slice(query);
        batch.reply(index, 1);
    }
    for bad in [0, 4, 9] {
        batch.replies_out[bad].msg_hdr.msg_namelen = 1;
    }
    assert_eq!(batch.send(), 3);
    let replies: Vec<u8> = (0..7).flat_map(|_| receive(&client).0).collect();
    assert_eq!(replies, b"1235678");
}

#[test]
fn counts_packets_that_the_kernel_discards() {
    let socket = open("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.set_recv_buffer_size(1).unwrap(); // the kernel raises it to its minimum
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(overflows(&socket), Some(0));
    let client = client("127.0.0.1:0");
    for _ in 0..1000 {
        client.send_to(&[0; 1000], address).unwrap();
    }
    let lost = overflows(&socket).unwrap();
    assert!((900..1000).contains(&lost), "{lost}");
}
