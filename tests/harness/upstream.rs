//! A simple authoritative server, which answers from a master file over UDP and TCP or by a
//! function call.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use zonal::{
    manifest::{Record, master},
    wire::Name,
};

const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;

/// The records of a master file, with one zone per SOA record. Queries for names outside these
/// zones get REFUSED.
pub struct Data(Vec<Record>);

impl Data {
    /// Reads a master file in which all names are absolute.
    pub fn read(file: &Path) -> Data {
        let mut opener = |path: &Path| std::fs::read(path);
        // Each SOA record begins a zone. A file with several zones is read with the root as its
        // origin.
        let (file, problems) = master::read(&mut opener, file, &Name::root(), "upstream");
        assert!(problems.is_empty(), "{problems:#?}");
        Data(file.records)
    }

    fn zone_of(&self, name: &Name) -> Option<&Record> {
        let zones = self.0.iter().filter(|record| record.rtype == SOA && name.is_at_or_below(&record.owner));
        zones.max_by_key(|soa| soa.owner.label_count())
    }

    fn at(&self, name: &Name, rtype: u16) -> Vec<&Record> {
        self.0.iter().filter(|record| record.owner == *name && record.rtype == rtype).collect()
    }

    /// Builds the reply to a query.
    pub fn answer(&self, query: &[u8]) -> Vec<u8> {
        let end =
            query[12..].iter().scan(0u8, |skip, octet| Some(step(skip, *octet))).take_while(|go| *go).count() + 13;
        let mut name = Name::from_wire(&query[12..end].to_ascii_lowercase()).expect("a name");
        let qtype = u16::from_be_bytes([query[end], query[end + 1]]);
        let (mut answer, mut authority, mut additional) = (Vec::new(), Vec::new(), Vec::new());
        let mut flags = 0x8400 | u16::from(query[2] & 1) << 8;
        loop {
            let Some(soa) = self.zone_of(&name) else {
                flags |= if answer.is_empty() { 5 } else { 0 };
                break;
            };
            let cuts = self.0.iter().filter(|record| record.rtype == NS && record.owner != soa.owner);
            let cut: Vec<&Record> = cuts.filter(|cut| name.is_at_or_below(&cut.owner)).collect();
            if !cut.is_empty() {
                flags &= !0x0400;
                for server in &cut {
                    let target = Name::from_wire(&server.rdata).expect("a name");
                    additional.extend(self.0.iter().filter(|record| record.owner == target));
                }
                authority = cut;
                break;
            }
            let here = self.at(&name, qtype);
            if !here.is_empty() {
                answer.extend(here);
                break;
            }
            let Some(cname) = self.at(&name, CNAME).first().copied() else {
                let is_there = self.0.iter().any(|record| record.owner.is_at_or_below(&name));
                flags |= if is_there { 0 } else { 3 };
                authority.push(soa);
                break;
            };
            if answer.iter().any(|record| std::ptr::eq(*record, cname)) {
                break;
            }
            answer.push(cname);
            name = Name::from_wire(&cname.rdata).expect("a name");
        }
        let mut reply = query[..2].to_vec();
        reply.extend(flags.to_be_bytes());
        for count in [1, answer.len(), authority.len(), additional.len()] {
            reply.extend((count as u16).to_be_bytes());
        }
        reply.extend(&query[12..end + 4]);
        for record in answer.into_iter().chain(authority).chain(additional) {
            reply.extend(record.owner.as_wire());
            reply.extend(record.rtype.to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(record.ttl.to_be_bytes());
            reply.extend((record.rdata.len() as u16).to_be_bytes());
            reply.extend(&record.rdata[..]);
        }
        reply
    }
}

/// One step through the labels of a name: false at its end.
fn step(skip: &mut u8, octet: u8) -> bool {
    match skip {
        0 if octet == 0 => return false,
        0 => *skip = octet,
        _ => *skip -= 1,
    }
    true
}

/// Servers on several addresses with one port. They run until this value is dropped.
pub struct Upstreams {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Upstreams {
    pub fn start(port: u16, servers: impl IntoIterator<Item = (IpAddr, Arc<Data>)>) -> Upstreams {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (address, data) in servers {
            let address = SocketAddr::new(address, port);
            let udp = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let (of_udp, of_tcp) = (stop.clone(), stop.clone());
            let shared = data.clone();
            threads.push(thread::spawn(move || {
                let mut query = [0; 4096];
                while !of_udp.load(Relaxed) {
                    if let Ok((len, from)) = udp.recv_from(&mut query) {
                        let _ = udp.send_to(&shared.answer(&query[..len]), from);
                    }
                }
            }));
            threads.push(thread::spawn(move || {
                while !of_tcp.load(Relaxed) {
                    match tcp.accept() {
                        Ok((stream, _)) => drop(serve(stream, &data)),
                        Err(_) => thread::sleep(Duration::from_millis(20)),
                    }
                }
            }));
        }
        Upstreams { stop, threads }
    }
}

/// Serves one query of a TCP connection.
fn serve(mut stream: std::net::TcpStream, data: &Data) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut query)?;
    let reply = data.answer(&query);
    stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat())
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
