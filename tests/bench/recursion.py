#!/usr/bin/env python3
"""Compares the costs of attacks on recursion between zonal and Unbound, and the delay of other clients meanwhile.

    target/tools/venv/bin/python tests/bench/recursion.py target/dist/zonal [--seconds 5] [--rate 10] [--rows keytrap]
                                                          [--only zonal] [--json FILE]

An Internet of one process answers as the root, `net`, and the attacker's servers, in a network namespace. One client
sends --rate attacking queries per second, each for a new name. Another client sends 50 queries per second for new names
of a harmless zone. The rows are:

    none        no attack: the costs that the other rows are compared with
    types       the answer of an unsigned zone has 64 KiB with 3,600 types
    keytrap     eight signed zones below each other, each with keys of one key tag and many wrong signatures
    nxns        a delegation to 200 name servers below the zone of a victim
    tree        name servers whose names are below delegations of the same kind
    chain       an endless chain of CNAME records
    labels      a name of 21 labels below a top-level domain that does not exist
    reverse     the reverse names of IPv6 addresses

The result is, for each attacking query: the CPU time of the server, the queries that it sends to all servers and to the
victim; and the 99th percentile of the other client's delay. The exit status is 1 if an attacking query costs zonal more
than twice the CPU time or queries that it costs Unbound (differences below 2 ms and 4 queries do not count).

Needs root, unbound, iproute2, and dnspython and cryptography, which tests/packages installs.
"""
import argparse, asyncio, ctypes, json, multiprocessing, os, random, select, shutil, socket, struct, subprocess, sys, tempfile, time
import dns.dnssec, dns.flags, dns.message, dns.name, dns.rcode, dns.rdata, dns.rdatatype, dns.rrset
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.RRSIG import RRSIG

ROWS = ['none', 'types', 'keytrap', 'nxns', 'tree', 'chain', 'labels', 'reverse']
SERVER, ATTACKER, OTHER = '127.77.0.53', '127.77.0.7', '127.77.0.8'
ROOT, NET, GOOD, EVIL, VICTIM = '198.41.0.4', '192.5.6.30', '203.0.115.1', '203.0.116.1', '203.0.117.1'
OTHER_RATE, CLIENT_WAITS = 50, 5.0
ZONES_OF_TRAP, KEYS_OF_TRAP, TYPES = 8, 40, 3600
LIFETIME = 30 * 86400
A, NS, SOA, TXT, DS, CNAME = (dns.rdatatype.from_text(text) for text in ('A', 'NS', 'SOA', 'TXT', 'DS', 'CNAME'))


def name(text):
    return dns.name.from_text(text)


def rrset(owner, rtype, *data, ttl=3600):
    return dns.rrset.from_text(owner, ttl, 'IN', rtype, *data)


# ---------------------------------------------------------------- keys

class Zone:
    """The key of a signed zone, and its signatures."""

    def __init__(self, apex, trap=0):
        self.apex = name(apex)
        if trap:
            self.private, algorithm = rsa.generate_private_key(65537, 2048), 'RSASHA256'
        else:
            self.private, algorithm = ec.generate_private_key(ec.SECP256R1()), 'ECDSAP256SHA256'
        self.key = dns.dnssec.make_dnskey(self.private.public_key(), algorithm, flags=257)
        self.keys = [self.key] + [self.colliding() for _ in range(trap)]
        self.trap, self.signed = trap, {}

    def colliding(self):
        """Another key with the same tag: any odd number is the modulus of an RSA key that can be computed with."""
        while True:
            octets = bytearray(self.key.key)
            octets[-250:-4] = os.urandom(246)
            for low in range(0, 65536):
                octets[-4:-2] = struct.pack('!H', low)
                other = DNSKEY(self.key.rdclass, self.key.rdtype, 257, 3, self.key.algorithm, bytes(octets))
                missing = (dns.dnssec.key_id(self.key) - dns.dnssec.key_id(other)) % 65535
                octets[-4:-2] = struct.pack('!H', (low + missing) % 65536)
                other = DNSKEY(self.key.rdclass, self.key.rdtype, 257, 3, self.key.algorithm, bytes(octets))
                if dns.dnssec.key_id(other) == dns.dnssec.key_id(self.key):
                    return other

    def signatures(self, records):
        """The signatures of a record set. A trap has wrong ones before the right one."""
        cached = (records.name, records.rdtype, tuple(records))
        if cached not in self.signed:
            right = dns.dnssec.sign(records, self.private, self.apex, self.key, lifetime=LIFETIME)
            wrong = [RRSIG(right.rdclass, right.rdtype, right.type_covered, right.algorithm, right.labels, right.original_ttl,
                           right.expiration, right.inception, right.key_tag, right.signer,
                           b'\x01' + os.urandom(len(right.signature) - 1)) for _ in range(self.trap)]
            self.signed[cached] = dns.rrset.from_rdata_list(records.name, records.ttl, wrong + [right])
            if len(self.signed) > 1000:
                self.signed.pop(next(iter(self.signed)))
        return self.signed[cached]

    def dnskeys(self):
        return dns.rrset.from_rdata_list(self.apex, 3600, self.keys)

    def ds(self):
        return dns.rrset.from_rdata_list(self.apex, 3600, [dns.dnssec.make_ds(self.apex, self.key, 'SHA256')])


# ---------------------------------------------------------------- the Internet

class Internet:
    def __init__(self):
        self.root, self.net = Zone('.'), Zone('net.')
        traps = ['trap.net.']
        while len(traps) < ZONES_OF_TRAP:
            traps.append(f'z{len(traps)}.' + traps[-1])
        self.traps = [Zone(apex, KEYS_OF_TRAP) for apex in traps]
        self.types = self.answer_with_types()

    def answer_with_types(self):
        """The records of the answer with many types, after the question. Their owner points to the question."""
        records = b''.join(struct.pack('!HHHIHHH', 0xc00c, 1024 + n, 1, 3600, 4, n, n) for n in range(TYPES))
        return struct.pack('!HHHIH4s', 0xc00c, A, 1, 3600, 4, b'\xc0\0\2\1') + records

    def respond(self, address, query):
        """The response of the server at an address: a message, or octets."""
        question = query.question[0]
        qname, qtype = name(question.name.to_text().lower()), question.rdtype
        response = dns.message.make_response(query, our_payload=1232)
        response.flags |= dns.flags.AA
        response.flags &= ~dns.flags.RA
        if address == ROOT:
            self.above(response, self.root, qname, qtype, [self.net, name('arpa.')])
        elif address == NET:
            below = [name(text) for text in ('good.net.', 'types.net.', 'nxns.net.', 'tree.net.', 'chain.net.', 'victim.net.')]
            self.above(response, self.net, qname, qtype, [self.traps[0]] + below)
        elif qname.is_subdomain(self.traps[0].apex):
            self.trapped(response, qname, qtype)
        else:
            return self.unsigned(response, query, qname, qtype)
        return response

    def add(self, section, zone, records):
        section += [records, zone.signatures(records)]

    def deny(self, response, zone, owner, after, types):
        soa = rrset(zone.apex, 'SOA', f'ns.{zone.apex} host.invalid. 1 3600 600 86400 60'.replace('ns..', 'ns.'), ttl=60)
        self.add(response.authority, zone, soa)
        self.add(response.authority, zone, rrset(owner, 'NSEC', f'{after} {types}', ttl=60))

    def above(self, response, zone, qname, qtype, children):
        """The answer of the root or of `net`, with the narrowest denials."""
        for child in children:
            apex = child.apex if isinstance(child, Zone) else child
            if not qname.is_subdomain(apex):
                continue
            if qname == apex and qtype == DS:
                if isinstance(child, Zone):
                    return self.add(response.answer, zone, child.ds())
                return self.deny(response, zone, apex, dns.name.Name((b'\0',) + apex.labels), 'NS RRSIG NSEC')
            response.flags &= ~dns.flags.AA
            response.authority.append(rrset(apex, 'NS', f'ns.{apex}', ttl=86400))
            if isinstance(child, Zone):
                self.add(response.authority, zone, child.ds())
            else:
                nsec = rrset(apex, 'NSEC', f'{dns.name.Name((bytes(1),) + apex.labels)} NS RRSIG NSEC', ttl=60)
                self.add(response.authority, zone, nsec)
            ip = {'net.': NET, 'good.net.': GOOD, 'victim.net.': VICTIM}.get(apex.to_text(), EVIL)
            return response.additional.append(rrset(name(f'ns.{apex}'), 'A', ip, ttl=86400))
        if qname == zone.apex:
            if qtype == dns.rdatatype.DNSKEY:
                return self.add(response.answer, zone, zone.dnskeys())
            if qtype == NS:
                return self.add(response.answer, zone, rrset(qname, 'NS', f'ns.{qname}'.replace('ns..', 'ns.')))
            return self.deny(response, zone, qname, dns.name.Name((b'\0',) + qname.labels), 'NS SOA RRSIG NSEC DNSKEY')
        label = qname.labels[-len(zone.apex.labels) - 1]
        if label == b'ns':
            at = ROOT if zone is self.root else NET
            if qtype == A:
                return self.add(response.answer, zone, rrset(qname, 'A', at))
            return self.deny(response, zone, qname, dns.name.Name((b'\0',) + qname.labels), 'A RRSIG NSEC')
        # No such name, and no wildcard.
        response.set_rcode(dns.rcode.NXDOMAIN)
        before, after = label[:-1] + bytes([label[-1] - 1]) + b'~', label + b'\0'
        self.deny(response, zone, *(dns.name.Name((x,) + zone.apex.labels) for x in (before, after)), 'A RRSIG NSEC')
        wildcard = [dns.name.Name((x,) + zone.apex.labels) for x in (b'!', b'+')]
        self.add(response.authority, zone, rrset(wildcard[0], 'NSEC', f'{wildcard[1]} A RRSIG NSEC', ttl=60))

    def trapped(self, response, qname, qtype):
        at = max(n for n, zone in enumerate(self.traps) if qname.is_subdomain(zone.apex))
        zone = self.traps[at]
        if qname == zone.apex and qtype == DS and at > 0:
            return self.add(response.answer, self.traps[at - 1], zone.ds())
        if qname == zone.apex and qtype == dns.rdatatype.DNSKEY:
            return self.add(response.answer, zone, zone.dnskeys())
        if qname == zone.apex and qtype == NS:
            response.additional.append(rrset(name(f'ns.{qname}'), 'A', EVIL))
            return self.add(response.answer, zone, rrset(qname, 'NS', f'ns.{qname}'))
        if qtype == A:
            ip = EVIL if qname.labels[0] == b'ns' else '192.0.2.1'
            return self.add(response.answer, zone, rrset(qname, 'A', ip))
        self.deny(response, zone, qname, dns.name.Name((b'\0',) + qname.labels), 'A RRSIG NSEC')

    def unsigned(self, response, query, qname, qtype):
        labels = [label.decode() for label in qname.labels]
        zone = '.'.join(labels[-3:])
        is_below = len(labels) > 3 and labels[:-3] != ['ns']
        if zone == 'types.net.' and is_below and qtype == A:
            header = struct.pack('!HHHHHH', query.id, 0x8400, 1, TYPES + 1, 0, 0)
            return header + query.question[0].name.to_wire() + struct.pack('!HH', A, 1) + self.types
        if zone == 'nxns.net.' and is_below:
            # Made of octets, because the servers must not be slower than those that are compared.
            at = 12 + sum(len(label) + 1 for label in labels[:-4])
            names = [name(f'ns{n}.{labels[-4]}-{n}.victim.net.').to_wire() for n in range(200)]
            records = [struct.pack('!HHHIH', 0xc000 | at, NS, 1, 86400, len(server)) + server for server in names]
            header = struct.pack('!HHHHHH', query.id, 0x8000, 1, 0, len(records), 0)
            return header + query.question[0].name.to_wire() + struct.pack('!HH', qtype, 1) + b''.join(records)
        if zone == 'tree.net.' and is_below:
            # No resolver asks a server at the last one's address.
            servers = [f'ns.{labels[-4][-40:]}x{n}.tree.net.' for n in range(5)] + ['local.tree.net.']
            response.additional.append(rrset(name('local.tree.net.'), 'A', '127.0.0.1'))
            response.flags &= ~dns.flags.AA
            response.authority.append(rrset(name('.'.join(labels[-4:])), 'NS', *servers))
            return response
        if zone == 'chain.net.' and is_below:
            base, _, number = labels[0].partition('-')
            response.answer.append(rrset(qname, 'CNAME', f'{base}-{int(number) + 1}.chain.net.'))
            return response
        exists = qname.is_subdomain(name('ip6.arpa.')) or labels[0] == 'ns' or (zone == 'good.net.' and len(labels) > 3)
        ip = {'good.net.': GOOD, 'victim.net.': VICTIM}.get(zone, EVIL) if labels[0] == 'ns' else '192.0.2.1'
        if exists and qtype == A:
            response.answer.append(rrset(qname, 'A', ip))
            return response
        if len(labels) == 35 and qtype == dns.rdatatype.PTR:
            response.answer.append(rrset(qname, 'PTR', 'host.good.net.'))
            return response
        apex = name('arpa.' if labels[-2] == 'arpa' else zone)
        if qname == apex and qtype == NS:
            response.answer.append(rrset(apex, 'NS', f'ns.{apex}'))
            return response
        if zone == 'victim.net.' and qname != apex:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(rrset(apex, 'SOA', f'ns.{apex} host.invalid. 1 3600 600 86400 60', ttl=60))
        return response


class Counts:
    """Counters that the process of the servers shares with the process that measures."""

    def __init__(self):
        self.other, self.attack, self.victim = (multiprocessing.Value('Q', 0) for _ in range(3))

    def note(self, address, qname):
        counts = [self.other if qname.lower().endswith('good.net.') else self.attack]
        for count in counts + ([self.victim] if address == VICTIM else []):
            count.value += 1


def serve(counts, internet, is_ready):
    """Serves all addresses of the Internet, until the process is killed."""
    ctypes.CDLL(None).prctl(1, 9)
    loop = asyncio.new_event_loop()

    def answer(address, octets):
        query = dns.message.from_wire(octets)
        counts.note(address, query.question[0].name.to_text())
        return query, internet.respond(address, query)

    class Udp(asyncio.DatagramProtocol):
        def __init__(self, address):
            self.address = address

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, octets, peer):
            query, response = answer(self.address, octets)
            size = 512 if query.edns < 0 else query.payload
            if not isinstance(response, bytes):
                response = response.to_wire(max_size=65535)
            if len(response) > size:
                short = dns.message.make_response(query, our_payload=1232)
                short.flags |= dns.flags.TC | dns.flags.AA
                response = short.to_wire()
            self.transport.sendto(response, peer)

    async def stream(address, reader, writer):
        try:
            while True:
                size, = struct.unpack('!H', await reader.readexactly(2))
                _, response = answer(address, await reader.readexactly(size))
                if not isinstance(response, bytes):
                    response = response.to_wire(max_size=65535)
                writer.write(struct.pack('!H', len(response)) + response)
        except (OSError, EOFError):
            writer.close()

    async def start():
        for address in (ROOT, NET, GOOD, EVIL, VICTIM):
            await loop.create_datagram_endpoint(lambda address=address: Udp(address), (address, 53))
            await asyncio.start_server(lambda r, w, address=address: stream(address, r, w), address, 53)
        is_ready.set()

    loop.run_until_complete(start())
    loop.run_forever()


# ---------------------------------------------------------------- the servers that are compared

def start(kind, zonal, directory, internet):
    key = rrset('.', 'DNSKEY', internet.root.key.to_text()).to_text()
    with open(f'{directory}/hints', 'w') as f:
        f.write(f'. 3600 IN NS ns.\nns. 3600 IN A {ROOT}\n')
    with open(f'{directory}/anchor', 'w') as f:
        f.write(key + '\n')
    if kind == 'zonal':
        os.makedirs(f'{directory}/zones')
        with open(f'{directory}/zones/m.yaml', 'w') as f:
            f.write('vpcs:\n  vpc: {region: us-east-1, cidr_blocks: [127.77.0.0/16]}\n')
        with open(f'{directory}/zonal.yaml', 'w') as f:
            f.write(f'listen: [{{address: "{SERVER}:53"}}]\ncontrol_plane: {{directory: zones}}\n'
                    'internet_resolver: {recursive: true, root_hints: hints, trust_anchor: anchor, allow_servers: [203.0.113.0/24]}\n')
        command = [zonal, 'serve', '--config', f'{directory}/zonal.yaml']
    else:
        with open(f'{directory}/unbound.conf', 'w') as f:
            f.write(f'server:\n  interface: {SERVER}\n  access-control: 127.77.0.0/16 allow\n  username: ""\n  chroot: ""\n'
                    f'  pidfile: ""\n  directory: "{directory}"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 2\n'
                    f'  root-hints: hints\n  trust-anchor: "{key}"\n  local-zone: "ip6.arpa." nodefault\n  discard-timeout: 0\n'
                    '  trust-anchor-signaling: no\n  root-key-sentinel: no\nremote-control:\n  control-enable: no\n')
        command = ['unbound', '-d', '-c', f'{directory}/unbound.conf']
    log = open(f'{directory}/log', 'w')
    return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)


def cpu_of(process):
    """The CPU time of a process with its threads, in seconds."""
    with open(f'/proc/{process.pid}/stat') as f:
        fields = f.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


# ---------------------------------------------------------------- the clients

def question(row, n):
    """The name and type of the attacking query with this number."""
    run = f'{os.getpid()}x{n}'
    return {
        'types': (f'a{run}.types.net.', 'A'),
        'keytrap': (f'a{run}.{"".join(f"z{n}." for n in range(ZONES_OF_TRAP - 1, 0, -1))}trap.net.', 'A'),
        'nxns': (f'www.a{run}.nxns.net.', 'A'),
        'tree': (f'www.a{run}.tree.net.', 'A'),
        'chain': (f'a{run}-0.chain.net.', 'A'),
        'labels': ('1.' * 20 + f'a{run}.', 'A'),
        'reverse': (''.join(f'{random.randrange(16):x}.' for _ in range(24)) + '0.0.0.0.1.0.0.2.ip6.arpa.', 'PTR'),
    }[row]


def client(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.connect((SERVER, 53))
    sock.setblocking(False)
    return sock


def load(row, rate, seconds, prefix):
    """Sends both clients' queries. Returns the delays of the other client, None for failures, and the attack's RCODEs."""
    attacker, other, started = client(ATTACKER), client(OTHER), time.monotonic()
    due = [(n / OTHER_RATE, other, n, f'{prefix}{n}.good.net.', 'A') for n in range(int(OTHER_RATE * seconds))]
    if row != 'none':
        due += [(n / rate, attacker, n, *question(row, n)) for n in range(int(rate * seconds))]
    due.sort(key=lambda entry: entry[0])
    sent, took, codes, last = {}, {}, {}, due[-1][0] + CLIENT_WAITS
    while True:
        now = time.monotonic() - started
        if due and due[0][0] <= now:
            _, sock, n, qname, qtype = due.pop(0)
            sent[sock, n] = now
            query = dns.message.make_query(qname, qtype, use_edns=True, id=n)
            try:
                sock.send(query.to_wire())
            except OSError:
                pass
            continue
        if not due and (now > last or len(took) + sum(codes.values()) == len(sent)):
            return [took.get(n) for sock, n in sent if sock is other], codes
        wait = min(0.05, max(0, due[0][0] - now)) if due else 0.05
        for sock in select.select([attacker, other], [], [], wait)[0]:
            try:
                n, flags, _, answers = struct.unpack('>HHHH', sock.recv(4096)[:8])
            except OSError:
                continue
            if sock is attacker:
                code = dns.rcode.to_text(flags & 15)
                codes[code] = codes.get(code, 0) + 1
            else:
                took[n] = time.monotonic() - started - sent[sock, n] if flags & 15 == 0 and answers else None


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else None


def measure(kind, row, args, internet, counts):
    directory = tempfile.mkdtemp(dir=args.directory)
    process = start(kind, args.zonal, directory, internet)
    try:
        for attempt in range(100):
            delays, _ = load('none', 1, 0.1, f'ready{attempt}x')
            if any(delays):
                break
        else:
            raise SystemExit(f'{kind} does not answer: {open(directory + "/log").read()}')
        before = cpu_of(process), counts.attack.value, counts.victim.value
        delays, codes = load(row, args.rate, args.seconds, 'n')
        # Work may go on behind the answers.
        time.sleep(1)
        after = cpu_of(process), counts.attack.value, counts.victim.value
        cpu, sent, to_victim = (b - a for a, b in zip(before, after))
    finally:
        process.kill()
        process.wait()
    answered = [delay for delay in delays if delay is not None]
    return {'cpu_s': cpu, 'sent': sent, 'to_victim': to_victim, 'codes': codes, 'lost': len(delays) - len(answered),
            'p99_ms': 1000 * (percentile(answered, 99) or 0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('zonal')
    parser.add_argument('--seconds', type=float, default=5)
    parser.add_argument('--rate', type=float, default=10)
    parser.add_argument('--rows', help='only these, with commas')
    parser.add_argument('--only', help='zonal or unbound')
    parser.add_argument('--json', help='a file for the numbers')
    args = parser.parse_args()
    args.zonal, args.directory = os.path.abspath(args.zonal), tempfile.mkdtemp(prefix='zonal-recursion-')
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise SystemExit('cannot make a network namespace: run this as root')
    for command in ('link set lo up', 'route add local 0.0.0.0/0 dev lo'):
        subprocess.run(['ip', *command.split()], check=True)
    internet, counts, is_ready = Internet(), Counts(), multiprocessing.Event()
    servers = multiprocessing.Process(target=serve, args=(counts, internet, is_ready))
    servers.start()
    table, worse = [], []
    try:
        is_ready.wait()
        kinds = [args.only] if args.only else ['zonal', 'unbound']
        rows = ['none'] + [row for row in ROWS[1:] if not args.rows or row in args.rows.split(',')]
        print(f'{"attack":10} {"server":8} {"CPU ms":>8} {"queries":>8} {"to victim":>9} {"p99 ms":>7} {"lost":>5}  answers', flush=True)
        idle = {}
        for row in rows:
            costs = {}
            for kind in kinds:
                found = measure(kind, row, args, internet, counts)
                if row == 'none':
                    idle[kind] = found
                number = args.rate * args.seconds
                cost = {'cpu_ms': max(0, found['cpu_s'] - idle[kind]['cpu_s']) * 1000 / number,
                        'queries': max(0, found['sent'] - idle[kind]['sent']) / number, 'to_victim': found['to_victim'] / number}
                costs[kind] = cost
                print(f'{row:10} {kind:8} {cost["cpu_ms"]:8.1f} {cost["queries"]:8.1f} {cost["to_victim"]:9.1f} '
                      f'{found["p99_ms"]:7.1f} {found["lost"]:5}  {found["codes"]}', flush=True)
                table.append({'attack': row, 'server': kind, **found, **cost})
            if len(costs) == 2:
                for what, least in (('cpu_ms', 2), ('queries', 4), ('to_victim', 4)):
                    if costs['zonal'][what] > max(2 * costs['unbound'][what], costs['unbound'][what] + least):
                        worse.append(f'{row}: {what} is more than twice that of Unbound')
    finally:
        servers.kill()
        shutil.rmtree(args.directory, ignore_errors=True)
    print('\n'.join(worse))
    if args.json:
        with open(args.json, 'w') as f:
            json.dump({'rate': args.rate, 'seconds': args.seconds, 'rows': table}, f, indent=1)
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
