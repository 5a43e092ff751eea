#!/usr/bin/env python3
"""Measures how soon zonal answers a change at scale, from etcd or over HTTP, and how long zonal takes to start.

    changes.py target/dist/zonal [--source etcd,push] [--share 100] [--changes 1000] [--loads 2] [--keep]

The data are 1,000,000 records in 5,000 zones, and 100,000 endpoints in 10,000 VPCs; --share is the size in percent.
The script puts them into a real etcd, or pushes them. Then it changes the health of one interface of one endpoint
after another, so that the endpoint's regional name gets the address of the other interface.

Change: the script queries that name all the time. It measures the time from before the change is sent to the first
new answer, and the part of it after etcd or zonal has acknowledged the change.
Load: meanwhile clients query other names, one query at a time. No query may be lost, and the threads that answer
should need no more CPU time for a query than before.
Start: zonal is stopped, then started without its source from its saved state, and started with its source.

For files, use `scale.py --zones 5000 --endpoints 100000 --vpcs 10000 --only zonal`. Needs root, etcd and iproute2.
"""
import argparse, base64, http.client, json, multiprocessing, os, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

PORT, ADMIN, ETCD = 5391, 9153, 2391
NS = f'zonal-{os.getpid()}-changes'
SERVICES, ENDPOINTS_OF_VPC, RECORDS_OF_ZONE, GROUP = 50, 10, 200, 200


# ---------------------------------------------------------------- data

def address(vpc, last):
    return f'10.{vpc // 256}.{vpc % 256}.{last}'


def vpc_id(v):
    return f'vpc-{v:017x}'


def vpc(v):
    # The first VPC contains the script's own address.
    here = ['127.0.0.0/8'] if v == 0 else []
    return {'owner_id': f'{v // 10:012}', 'region': 'us-east-1', 'cidr_blocks': [address(v, 0) + '/24'] + here,
            'availability_zones': {'us-east-1a': 'use1-az1', 'us-east-1b': 'use1-az2'},
            'subnets': {f'subnet-{v:05}a': {'availability_zone_id': 'use1-az1', 'cidr_blocks': [address(v, 0) + '/25'] + here},
                        f'subnet-{v:05}b': {'availability_zone_id': 'use1-az2', 'cidr_blocks': [address(v, 128) + '/25']}}}


def service_of(e):
    return (e % ENDPOINTS_OF_VPC + e // ENDPOINTS_OF_VPC * ENDPOINTS_OF_VPC) % SERVICES


def endpoint_id(e):
    return f'vpce-{e:017x}'


def endpoint_name(e):
    return f'vpce-{e:017x}-{e:08x}.svc-{service_of(e)}.us-east-1.vpce.amazonaws.com'


def endpoint(e, healthy=True):
    v, turn = divmod(e, ENDPOINTS_OF_VPC)
    return {'vpc_endpoint_type': 'Interface', 'service_name': f'com.amazonaws.us-east-1.svc-{service_of(e)}', 'vpc_id': vpc_id(v),
            'state': 'Available', 'private_dns_enabled': True, 'dns_name_suffix': f'{e:08x}',
            'private_dns_scope': 'connected' if v % GROUP == 0 else 'vpc',
            'network_interfaces': [
                {'availability_zone_id': 'use1-az1', 'ipv4': address(v, 10 + turn), 'health': 'healthy' if healthy else 'unhealthy'},
                {'availability_zone_id': 'use1-az2', 'ipv4': address(v, 138 + turn)}]}


def expected(e, healthy):
    """The address that a client in use1-az1 gets for the regional name."""
    v, turn = divmod(e, ENDPOINTS_OF_VPC)
    return address(v, (10 if healthy else 138) + turn)


def zone_name(z):
    return f'z{z:04}.example.com'


def resources(vpcs, zones):
    """All resources: kind, identifier and resource. A master file is a string."""
    for s in range(SERVICES):
        yield 'vpc_endpoint_services', f'com.amazonaws.us-east-1.svc-{s}', {
            'owner_id': 'amazon', 'region': 'us-east-1', 'dns_name': f'svc-{s}.us-east-1.vpce.amazonaws.com',
            'private_dns_names': [f'svc-{s}.us-east-1.amazonaws.com']}
    for v in range(vpcs):
        yield 'vpcs', vpc_id(v), vpc(v)
    for g in range((vpcs + 4999) // 5000):
        shared = lambda v: {'vpc_id': vpc_id(v), 'route_table': 'shared', 'propagates_to': ['shared', 'spokes']}
        spoke = lambda v: {'vpc_id': vpc_id(v), 'route_table': 'spokes', 'propagates_to': ['shared']}
        of = range(g * 5000, min(vpcs, g * 5000 + 5000))
        yield 'transit_gateways', f'tgw-{g}', {'region': 'us-east-1', 'attachments': [shared(v) if v % GROUP == 0 else spoke(v) for v in of]}
    for e in range(vpcs * ENDPOINTS_OF_VPC):
        yield 'vpc_endpoints', endpoint_id(e), endpoint(e)
    for z in range(zones):
        resource = {'name': zone_name(z), 'vpc_ids': sorted({vpc_id(0), vpc_id(z * 2 % vpcs)})}
        if z % 2 == 0:
            lines = [f'$ORIGIN {zone_name(z)}.', '$TTL 300', '@ SOA ns hostmaster 1 7200 900 1209600 60', '@ NS ns', 'ns A 10.0.0.53']
            lines += [f'host-{r:04} A 10.{z % 256}.{r // 256}.{r % 256}' for r in range(3, RECORDS_OF_ZONE)]
            yield 'master_files', zone_name(z), '\n'.join(lines) + '\n'
            resource['file'] = zone_name(z)
        else:
            resource['records'] = [{'name': f'host-{r:04}', 'type': 'A', 'records': [f'10.{z % 256}.{r // 256}.{r % 256}']}
                                   for r in range(3, RECORDS_OF_ZONE)]
        yield 'private_hosted_zones', f'Z{z:020}', resource


# ---------------------------------------------------------------- sources

class Http:
    """One connection. Sending a request and waiting for its response are separate calls."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def send(self, method, path, body):
        if self.connection is None:
            self.connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=600)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.request(method, path, body, {'content-type': 'application/json'})

    def is_answered(self):
        sock = self.connection.sock
        sock.setblocking(False)
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            sock.settimeout(600)

    def receive(self):
        response = self.connection.getresponse()
        body = response.read()
        if response.status >= 300:
            sys.exit(f'{response.status}: {body[:500].decode()}')
        return body


class Etcd:
    def __init__(self, dir):
        self.process = subprocess.Popen(
            ['etcd', '--data-dir', f'{dir}/etcd', '--listen-client-urls', f'http://127.0.0.1:{ETCD}', '--advertise-client-urls',
             f'http://127.0.0.1:{ETCD}', '--listen-peer-urls', 'http://127.0.0.1:2392', '--max-txn-ops', '2000',
             '--max-request-bytes', '20000000'], stdout=open(f'{dir}/etcd.log', 'w'), stderr=subprocess.STDOUT)
        self.http = Http(ETCD)
        self.configuration = f'control_plane: {{etcd: {{endpoints: ["http://127.0.0.1:{ETCD}"]}}}}'
        wait_for(ETCD)

    def put_operation(self, kind, id, value):
        text = value if isinstance(value, str) else json.dumps(value)
        b64 = lambda text: base64.b64encode(text.encode()).decode()
        return {'key': b64(f'/zonal/v1/{kind}/{id}'), 'value': b64(text)}

    def fill(self, all):
        pending, size = [], 0
        for kind, id, value in all:
            operation = self.put_operation(kind, id, value)
            pending.append({'requestPut': operation})
            size += len(operation['value'])
            if len(pending) == 1000 or size > 1_000_000:
                self.transact(pending)
                pending, size = [], 0
        self.transact(pending)

    def transact(self, operations):
        if operations:
            self.http.send('POST', '/v3/kv/txn', json.dumps({'success': operations}))
            self.http.receive()

    def change(self, e, healthy):
        self.http.send('POST', '/v3/kv/put', json.dumps(self.put_operation('vpc_endpoints', endpoint_id(e), endpoint(e, healthy))))

    def stop(self):
        stop(self.process)


class Push:
    configuration = 'control_plane: {push: {}}'

    def __init__(self, dir):
        self.http = Http(ADMIN)

    def fill(self, all):
        whole = {'generation': 1}
        for kind, id, value in all:
            whole.setdefault(kind, {})[id] = value
        self.http.send('PUT', '/v1/manifest', json.dumps(whole))
        self.http.receive()

    def change(self, e, healthy):
        self.http.send('PUT', f'/v1/vpc_endpoints/{endpoint_id(e)}', json.dumps(endpoint(e, healthy)))

    def stop(self):
        pass


# ---------------------------------------------------------------- asking

def query(id, name):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    return struct.pack('>HHHHHH', id, 0x100, 1, 0, 0, 0) + labels + b'\0\0\1\0\1'


def ask(s, id, name, timeout):
    """The address in the first answer record, or None."""
    s.settimeout(timeout)
    try:
        s.send(query(id, name))
        while True:
            reply = s.recv(4096)
            if reply[:2] == struct.pack('>H', id):
                at = 12 + len(name) + 2 + 4
                return socket.inet_ntoa(reply[at + 12:at + 16]) if reply[3] & 15 == 0 and reply[6:8] != b'\0\0' else None
    except (TimeoutError, ConnectionRefusedError):
        return None


def client():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('127.0.0.1', PORT))
    return s


def load(number, going, result, zones, pause):
    """Sends one query at a time until `going` is cleared. Runs in its own process, because of Python's global lock."""
    s, i, lost = client(), number, 0
    while going.is_set():
        i += 1
        lost += ask(s, i & 0xffff, f'host-{3 + i % 190:04}.{zone_name(i * 7 % zones)}', 5) is None
        if pause:
            time.sleep(pause / 1e6)
    result.put((i - number, lost))


# ---------------------------------------------------------------- processes

def wait_for(port):
    began = time.monotonic()
    while socket.socket().connect_ex(('127.0.0.1', port)):
        if time.monotonic() - began > 60:
            sys.exit(f'nothing listens on port {port}')
        time.sleep(0.02)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def memory(pid):
    values = dict(line.split(':', 1) for line in open(f'/proc/{pid}/smaps_rollup') if ':' in line.split()[0])
    return ', '.join(f'{key.upper()} {int(values[key].split()[0]) / 1024:.0f} MB' for key in ('Pss', 'Rss'))


def hit_path(pid):
    """The CPU time of the threads that answer, in nanoseconds, and the number of their packets."""
    on_cpu = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        if open(f'/proc/{pid}/task/{task}/comm').read().startswith('udp-'):
            on_cpu += int(open(f'/proc/{pid}/task/{task}/schedstat').read().split()[0])
    connection = http.client.HTTPConnection('127.0.0.1', ADMIN)
    connection.request('GET', '/metrics')
    lines = connection.getresponse().read().decode().splitlines()
    return on_cpu, sum(float(line.rsplit(' ', 1)[1]) for line in lines if line.startswith('zonal_udp_packets_total'))


def per_packet(before, after):
    return f'{(after[0] - before[0]) / max(1, after[1] - before[1]) / 1000:.2f} us'


def start(zonal, dir, ready):
    """Starts zonal and waits until it is `ready`. Returns the process, and the seconds since its start."""
    began = time.monotonic()
    process = subprocess.Popen([zonal, 'serve', '--config', f'{dir}/zonal.yaml'], stdout=open(f'{dir}/zonal.log', 'a'), stderr=subprocess.STDOUT)
    s = client()
    while not ready(s):
        if process.poll() is not None or time.monotonic() - began > 600:
            sys.exit(f'zonal does not serve: see {dir}/zonal.log\n' + open(f'{dir}/zonal.log').read()[-2000:])
        time.sleep(0.005)
    return process, time.monotonic() - began


def change_all(source, endpoints, a):
    """For each change: milliseconds to the first new answer, in total and since the source's acknowledgement."""
    s, times, left = client(), [], []
    for n in range(a.changes):
        e, healthy = n // 2 * 48_271 % endpoints, n % 2 == 1
        name, want = endpoint_name(e), expected(e, healthy)
        began, answered = time.monotonic(), None
        source.change(e, healthy)
        while True:
            got = ask(s, n & 0xffff, name, 2)
            now = time.monotonic()
            if answered is None and source.http.is_answered():
                answered = now
            if got == want:
                break
            if now - began > 30:
                sys.exit(f'{name} still is {got}, not {want}')
            time.sleep(0.0002)
        times.append((now - began) * 1000)
        left.append(max(0, now - (answered or now)) * 1000)
        source.http.receive()
        time.sleep(a.gap / 1000)
    return times, left


def told(times):
    times = sorted(times)
    at = lambda share: times[round((len(times) - 1) * share)]
    return f'median {at(0.5):6.2f} ms, p99 {at(0.99):6.2f} ms, max {at(1):6.2f} ms'


def measure(name, zonal, dir, a):
    os.mkdir(dir)
    vpcs, zones = 100 * a.share, 50 * a.share
    endpoints = vpcs * ENDPOINTS_OF_VPC
    source = {'etcd': Etcd, 'push': Push}[name](dir)
    with open(f'{dir}/zonal.yaml', 'w') as f:
        f.write(f'listen: [{{address: "127.0.0.1:{PORT}"}}]\n{source.configuration}\nstate_directory: {dir}/state\nadmin: {{address: "127.0.0.1:{ADMIN}"}}\n')
    last = f'host-0005.{zone_name(zones - 1)}'
    is_there = lambda s: ask(s, 1, last, 0.2) is not None and ask(s, 2, endpoint_name(endpoints - 1), 0.2) is not None
    process = None
    try:
        began = time.monotonic()
        if name == 'etcd':
            source.fill(resources(vpcs, zones))
            print(f'{name}: filled in {time.monotonic() - began:.1f} s', flush=True)
            process, seconds = start(zonal, dir, is_there)
        else:
            process, _ = start(zonal, dir, lambda s: socket.socket().connect_ex(('127.0.0.1', ADMIN)) == 0)
            began = time.monotonic()
            source.fill(resources(vpcs, zones))
            seconds = time.monotonic() - began
        time.sleep(2)
        print(f'{name}: all of it is served after {seconds:.2f} s; {memory(process.pid)}', flush=True)
        going, result = multiprocessing.Event(), multiprocessing.Queue()
        going.set()
        loads = [multiprocessing.Process(target=load, args=(n << 12, going, result, zones, a.pause), daemon=True) for n in range(a.loads)]
        [loader.start() for loader in loads]
        time.sleep(1)
        quiet = hit_path(process.pid)
        time.sleep(10)
        before = hit_path(process.pid)
        began = time.monotonic()
        times, left = change_all(source, endpoints, a)
        elapsed = time.monotonic() - began
        after = hit_path(process.pid)
        going.clear()
        counts = [result.get(timeout=30) for _ in loads]
        asked, lost = (sum(column) for column in zip(*counts)) if counts else (0, 0)
        print(f'{name}: {len(times)} changes, from the sending to the first new answer:   {told(times)}')
        print(f'{name}: of it after {name} has said that it is done:              {told(left)}')
        print(f'{name}: meanwhile {asked} queries ({asked / elapsed:.0f} a second) of {a.loads} loads, lost: {lost}; {memory(process.pid)}', flush=True)
        print(f'{name}: processor time of a query at the threads that answer: {per_packet(quiet, before)} before the changes, '
              f'{per_packet(before, after)} while they were made', flush=True)
        time.sleep(3)
        stop(process)
        if name == 'etcd':
            source.stop()
        process, seconds = start(zonal, dir, is_there)
        time.sleep(2)
        print(f'{name}: started from what it kept, without its source, in {seconds:.2f} s; {memory(process.pid)}', flush=True)
        return lost
    finally:
        if process:
            stop(process)
        source.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('zonal')
    p.add_argument('--source', default='etcd,push')
    p.add_argument('--share', type=int, default=100, help='hundredths of the whole size')
    p.add_argument('--changes', type=int, default=1000)
    p.add_argument('--gap', type=float, default=10, help='milliseconds between changes')
    p.add_argument('--loads', type=int, default=2)
    p.add_argument('--pause', type=int, default=100, help='microseconds between queries of a load (0: none)')
    p.add_argument('--keep', action='store_true', help='keep the data, and say where')
    a = p.parse_args()
    zonal = os.path.abspath(a.zonal)
    if os.environ.get('ZONAL_CHANGES_NS') != 'in':
        # The script runs itself in a network namespace that has only a loopback device.
        subprocess.run(['ip', 'netns', 'add', NS], check=True)
        try:
            subprocess.run(['ip', '-n', NS, 'link', 'set', 'lo', 'up'], check=True)
            again = ['ip', 'netns', 'exec', NS, sys.executable] + sys.argv
            sys.exit(subprocess.run(again, env=dict(os.environ, ZONAL_CHANGES_NS='in')).returncode)
        finally:
            subprocess.run(['ip', 'netns', 'del', NS])
    dir = tempfile.mkdtemp(prefix='zonal-changes-')
    try:
        vpcs, zones = 100 * a.share, 50 * a.share
        print(f'{zones * RECORDS_OF_ZONE} records in {zones} zones, {vpcs * ENDPOINTS_OF_VPC} endpoints in {vpcs} VPCs')
        lost = sum(measure(name, zonal, f'{dir}/{name}', a) for name in a.source.split(','))
        sys.exit(1 if lost else 0)
    finally:
        if a.keep:
            print(f'data: {dir}')
        else:
            shutil.rmtree(dir, ignore_errors=True)


if __name__ == '__main__':
    main()
