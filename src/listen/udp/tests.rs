use super::*;
use crate::listen::tests::{core, limits, page};
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

fn receive(socket: &UdpSocket) -> (String, IpAddr) {
    let mut buffer = [0; 2000];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..len]).into_owned(), from.ip())
}

#[test]
fn wildcard_sockets_reply_from_the_address_that_was_asked() {
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
            client.send_to(b"query", (address, server.address.port())).unwrap();
            assert_eq!(receive(&client), (format!("query at {address}"), address), "{listen}");
        }
        server.stop();
    }
}

#[test]
fn packets_of_all_sizes_and_no_reply() {
    let server = Server::start("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    for query in ["", "drop it", "x"] {
        client.send_to(query.as_bytes(), server.address).unwrap();
    }
    let replies = [receive(&client).0, receive(&client).0];
    assert_eq!(replies, [" at 127.0.0.1", "x at 127.0.0.1"]);
    let long = [&b"size"[..], &[4, 208], &[b'.'; 5000]].concat();
    client.send_to(&long, server.address).unwrap();
    assert_eq!(receive(&client).0.chars().count(), 1232);
    let metrics = page(&server.core);
    assert!(metrics.contains(r#"zonal_dropped_total{reason="silent",transport="udp"} 1"#), "{metrics}");
    server.stop();
}

#[test]
fn what_has_arrived_is_answered_before_the_end() {
    let core = core(&limits());
    let sockets = bind("127.0.0.1:0".parse().unwrap(), Vec::new()).unwrap();
    let address = sockets[0].local_addr().unwrap().as_socket().unwrap();
    let client = client("127.0.0.1:0");
    for _ in 0..100 {
        client.send_to(b"query", address).unwrap();
    }
    for thread in start(&core, sockets, &Arc::new(AtomicBool::new(true))).unwrap() {
        thread.join().unwrap();
    }
    for _ in 0..100 {
        assert_eq!(receive(&client).0, "query at 127.0.0.1");
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
        let packet = batch.packet(index).unwrap();
        packet.reply[..1].copy_from_slice(packet.query);
        batch.reply(index, 1);
    }
    for bad in [0, 4, 9] {
        batch.replies_out[bad].msg_hdr.msg_namelen = 1;
    }
    assert_eq!(batch.send(), 3);
    let replies: String = (0..7).map(|_| receive(&client).0).collect();
    assert_eq!(replies, "1235678");
}

#[test]
fn what_the_kernel_throws_away_is_told() {
    let socket = open("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.set_recv_buffer_size(1).unwrap(); // it takes the least that there is
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(overflows(&socket), Some(0));
    let client = client("127.0.0.1:0");
    for _ in 0..1000 {
        client.send_to(&[0; 1000], address).unwrap();
    }
    let lost = overflows(&socket).unwrap();
    assert!((900..1000).contains(&lost), "{lost}");
}
