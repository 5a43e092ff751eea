#!/usr/bin/env python3
"""Compares the start of zonal, NSD and Knot with 1,000,000 records, and measures how soon zonal answers a change.

    scale.py target/dist/zonal [--records 1000000] [--zones 1000] [--endpoints 10000] [--vpcs 500] [--changes 20] [--keep]

The data are 1,000 zones of 1,000 records as master files, and for zonal also 500 VPCs and 10,000 endpoints, in files of
at most 100 resources. Each server starts alone, in its own network namespace. Needs root, nsd, knot and iproute2.

Start: the time from exec until the server has answered for each zone.
Memory: PSS and RSS of all processes of the server after that.
Change: the script changes an endpoint's address by renaming a new file of at most 100 endpoints into place, and
queries that endpoint's name every millisecond. It measures the time from the rename to the first new answer. Meanwhile
a load queries other names, one query at a time, and no query may be lost.
"""
import argparse, collections, json, multiprocessing, os, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

PORT = 5390
NS = f'zonal-{os.getpid()}-scale'
SERVICES = 50
PER_FILE = 100


def pieces(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.draft', 'w') as f:
        f.write(text)
    os.rename(path + '.draft', path)


# ---------------------------------------------------------------- data

def zone_name(i):
    return f'z{i:04d}.example.com'


def master_file(i, records):
    lines = [f'$ORIGIN {zone_name(i)}.', '$TTL 300', '@ SOA ns hostmaster 1 7200 900 1209600 60', '@ NS ns', 'ns A 10.0.0.53']
    for j in range(records - 3):
        if j % 10 == 9:
            lines.append(f'h{j} CNAME h{j - 1}')
        elif j % 10 == 8:
            lines.append(f'h{j} AAAA fd00::{i:x}:{j:x}')
        else:
            lines.append(f'h{j} A 10.{i % 256}.{j // 256}.{j % 256}')
    return '\n'.join(lines) + '\n'


def vpc_address(vpc, last):
    """An address of a VPC: VPC number v has the block 10.{100 + v // 256}.{v % 256}.0/24, in two subnets."""
    return f'10.{100 + vpc // 256}.{vpc % 256}.{last}'


def endpoint(e, vpcs, change=0):
    vpc, turn = e % vpcs, e // vpcs
    return f'vpce-{e:05d}', {
        'vpc_endpoint_type': 'Interface', 'service_name': f'svc-{turn % SERVICES}', 'vpc_id': f'vpc-{vpc}', 'state': 'Available',
        'private_dns_enabled': turn < SERVICES,
        'network_interfaces': [
            {'availability_zone_id': 'use1-az1', 'ipv4': vpc_address(vpc, 10 + turn if not change else 100 - change % 20)},
            {'availability_zone_id': 'use1-az2', 'ipv4': vpc_address(vpc, 138 + turn)}]}


def endpoint_file(dir, number, a, changed=None, change=0):
    ids = pieces(list(range(a.endpoints)), PER_FILE)[number]
    resources = dict(endpoint(e, a.vpcs, change if e == changed else 0) for e in ids)
    write(f'{dir}/endpoints-{number:04d}.json', json.dumps({'vpc_endpoints': resources}, indent=1))


def make_data(dir, a):
    for i in range(a.zones):
        write(f'{dir}/master/{zone_name(i)}.zone', master_file(i, a.records // a.zones))
    m = f'{dir}/manifest'
    service = lambda s: {'owner_id': 'amazon', 'region': 'us-east-1', 'dns_name': f'svc-{s}.us-east-1.vpce.example',
                         'private_dns_names': [f'svc-{s}.us-east-1.example']}
    write(f'{m}/services.json', json.dumps({'vpc_endpoint_services': {f'svc-{s}': service(s) for s in range(SERVICES)}}))
    vpc = lambda v: {'region': 'us-east-1', 'cidr_blocks': [vpc_address(v, 0) + '/24'] + (['127.0.0.0/8'] if v == 0 else []),
                     'availability_zones': {'us-east-1a': 'use1-az1', 'us-east-1b': 'use1-az2'},
                     'subnets': {f'a-{v}': {'availability_zone_id': 'use1-az1', 'cidr_blocks': [vpc_address(v, 0) + '/25'] + (['127.0.0.0/8'] if v == 0 else [])},
                                 f'b-{v}': {'availability_zone_id': 'use1-az2', 'cidr_blocks': [vpc_address(v, 128) + '/25']}}}
    for n, ids in enumerate(pieces(list(range(a.vpcs)), PER_FILE)):
        write(f'{m}/vpcs-{n:04d}.json', json.dumps({'vpcs': {f'vpc-{v}': vpc(v) for v in ids}}))
    for n in range(len(pieces(list(range(a.endpoints)), PER_FILE))):
        endpoint_file(m, n, a)
    # Two VPCs see each zone: vpc-0, where the script's queries come from, and another one.
    zone = lambda i: {'name': zone_name(i), 'vpc_ids': sorted({'vpc-0', f'vpc-{i % a.vpcs}'}), 'file': f'../master/{zone_name(i)}.zone'}
    for n, ids in enumerate(pieces(list(range(a.zones)), PER_FILE)):
        write(f'{m}/zones-{n:04d}.json', json.dumps({'private_hosted_zones': {f'Z{i:04d}': zone(i) for i in ids}}))
    write(f'{dir}/zonal.yaml', f'listen: [{{address: "127.0.0.1:{PORT}"}}]\ncontrol_plane: {{directory: {m}}}\nadmin: {{address: "127.0.0.1:9153"}}\n')
    zones = ''.join(f'zone:\n  name: "{zone_name(i)}"\n  zonefile: "{zone_name(i)}.zone"\n' for i in range(a.zones))
    write(f'{dir}/nsd.conf', f'server:\n  ip-address: 127.0.0.1@{PORT}\n  username: ""\n  zonesdir: "{dir}/master"\n  database: ""\n  pidfile: "{dir}/nsd.pid"\n'
          f'  xfrdfile: "{dir}/xfrd.state"\n  zonelistfile: "{dir}/zone.list"\n  server-count: 2\nremote-control:\n  control-enable: no\n{zones}')
    zones = ''.join(f'  - domain: {zone_name(i)}\n' for i in range(a.zones))
    write(f'{dir}/knot.conf', f'server:\n  listen: 127.0.0.1@{PORT}\n  rundir: "{dir}"\n  udp-workers: 2\ndatabase:\n  storage: "{dir}/knot-db"\n'
          f'template:\n  - id: default\n    storage: "{dir}/master"\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\nzone:\n{zones}')


# ---------------------------------------------------------------- asking

def query(id, name):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    return struct.pack('>HHHHHH', id, 0x100, 1, 0, 0, 0) + labels + b'\0\0\1\0\1'


def address(reply, name):
    """The address in the first answer record, or None."""
    if len(reply) < 12 or reply[3] & 15 or reply[6:8] == b'\0\0':
        return None
    at = 12 + len(name) + 2 + 4
    return socket.inet_ntoa(reply[at + 12:at + 16]) if reply[at + 2:at + 4] == b'\0\1' else None


def client():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('127.0.0.1', PORT))
    return s


def ask(s, id, name, timeout):
    s.settimeout(timeout)
    try:
        s.send(query(id, name))
        while True:
            reply = s.recv(4096)
            if reply[:2] == struct.pack('>H', id):
                return address(reply, name)
    except (TimeoutError, ConnectionRefusedError):
        return None


# ---------------------------------------------------------------- servers

def processes(pid):
    """The process and all its descendants."""
    below = collections.defaultdict(list)
    for p in filter(str.isdigit, os.listdir('/proc')):
        try:
            below[int(open(f'/proc/{p}/stat').read().rsplit(')', 1)[1].split()[1])].append(int(p))
        except OSError:
            pass
    found, rest = [], [pid]
    while rest:
        found.append(rest.pop())
        rest += below[found[-1]]
    return found


def memory_mb(pid):
    total = collections.Counter()
    for p in processes(pid):
        for line in open(f'/proc/{p}/smaps_rollup'):
            key, _, value = line.partition(':')
            if key in ('Rss', 'Pss'):
                total[key] += int(value.split()[0]) / 1024
    return total['Pss'], total['Rss']


def start(command, dir, a):
    log = open(f'{dir}/{os.path.basename(command[0])}.log', 'w')
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=dir, stdout=log, stderr=log)
    s = client()
    right = 0
    while right < a.zones:
        if ask(s, right, f'h0.{zone_name(right)}', 0.05) is not None:
            right += 1
            continue
        if process.poll() is not None:
            sys.exit(f'{command[0]} ended: see {log.name}')
        if time.monotonic() - began > 600:
            process.kill()
            sys.exit(f'{command[0]} does not answer: see {log.name}')
        time.sleep(0.005)
    return process, time.monotonic() - began


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(going, result, a):
    """Sends one query at a time until `going` is cleared. Runs in its own process, because of Python's global lock."""
    s, i, lost = client(), 0, 0
    while going.is_set():
        i += 1
        lost += ask(s, i & 0xffff, f'h{i % 8}.{zone_name(i % a.zones)}', 5) is None
        if a.pause:
            time.sleep(a.pause / 1e6)
    result.put((i, lost))


def changes(dir, a):
    """Milliseconds from each rename to the first new answer, and the numbers of queries that the load sent and lost."""
    going, result = multiprocessing.Event(), multiprocessing.Queue()
    going.set()
    loader = multiprocessing.Process(target=load, args=(going, result, a), daemon=True)
    loader.start()
    s, times = client(), []
    for n in range(1, a.changes + 1):
        e = n * 487 % a.endpoints
        _, resource = endpoint(e, a.vpcs, n)
        name = f'vpce-{e:05d}-us-east-1a.svc-{e // a.vpcs % SERVICES}.us-east-1.vpce.example'
        new = resource['network_interfaces'][0]['ipv4']
        path = f'{dir}/manifest/endpoints-{e // PER_FILE:04d}.json'
        ids = range(e // PER_FILE * PER_FILE, min(e // PER_FILE * PER_FILE + PER_FILE, a.endpoints))
        with open(path + '.draft', 'w') as f:
            json.dump({'vpc_endpoints': dict(endpoint(i, a.vpcs, n if i == e else 0) for i in ids)}, f, indent=1)
        time.sleep(0.3)
        os.rename(path + '.draft', path)
        began = time.monotonic()
        while True:
            got = ask(s, n, name, 1)
            if got == new:
                times.append((time.monotonic() - began) * 1000)
                break
            if time.monotonic() - began > 30:
                sys.exit(f'{name} still is {got}, not {new}')
            time.sleep(0.001)
    going.clear()
    return times, result.get(timeout=30)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('zonal')
    p.add_argument('--records', type=int, default=1_000_000)
    p.add_argument('--zones', type=int, default=1_000)
    p.add_argument('--endpoints', type=int, default=10_000)
    p.add_argument('--vpcs', type=int, default=500)
    p.add_argument('--changes', type=int, default=20)
    p.add_argument('--pause', type=int, default=100, help='microseconds between queries of the load (0: none)')
    p.add_argument('--only', default='zonal,nsd,knot')
    p.add_argument('--keep', action='store_true', help='keep the data, and say where')
    a = p.parse_args()
    zonal = os.path.abspath(a.zonal)
    if os.environ.get('ZONAL_SCALE_NS') != 'in':
        # The script runs itself in a network namespace that has only a loopback device.
        subprocess.run(['ip', 'netns', 'add', NS], check=True)
        try:
            subprocess.run(['ip', '-n', NS, 'link', 'set', 'lo', 'up'], check=True)
            again = ['ip', 'netns', 'exec', NS, sys.executable] + sys.argv
            sys.exit(subprocess.run(again, env=dict(os.environ, ZONAL_SCALE_NS='in')).returncode)
        finally:
            subprocess.run(['ip', 'netns', 'del', NS])
    dir = tempfile.mkdtemp(prefix='zonal-scale-')
    try:
        os.mkdir(f'{dir}/knot-db')
        make_data(dir, a)
        print(f'{a.records} records in {a.zones} zones; zonal also {a.endpoints} endpoints in {a.vpcs} VPCs\n')
        print(f'{"":8}{"start":>10}{"PSS":>12}{"RSS":>12}')
        commands = {'zonal': [zonal, 'serve', '--config', f'{dir}/zonal.yaml'],
                    'nsd': [shutil.which('nsd') or '/usr/sbin/nsd', '-d', '-c', f'{dir}/nsd.conf'],
                    'knot': [shutil.which('knotd') or '/usr/sbin/knotd', '-c', f'{dir}/knot.conf']}
        result = None
        for name in a.only.split(','):
            process, seconds = start(commands[name], dir, a)
            try:
                time.sleep(1)
                pss, rss = memory_mb(process.pid)
                print(f'{name:8}{seconds:>8.2f} s{pss:>9.0f} MB{rss:>9.0f} MB', flush=True)
                if name == 'zonal' and a.changes:
                    result = changes(dir, a)
                    pss, rss = memory_mb(process.pid)
                    after = f'after them: PSS {pss:.0f} MB, RSS {rss:.0f} MB'
            finally:
                stop(process)
        if result:
            times, (sent, lost) = result
            print(f'\n{len(times)} changes of one endpoint, from the rename to the first new answer: '
                  f'median {statistics.median(times):.1f} ms, p99 {sorted(times)[len(times) * 99 // 100]:.1f} ms, max {max(times):.1f} ms; {after}')
            print(f'queries under load meanwhile: {sent}, lost: {lost}')
            sys.exit(1 if lost else 0)
    finally:
        if a.keep:
            print(f'data: {dir}')
        else:
            shutil.rmtree(dir, ignore_errors=True)


if __name__ == '__main__':
    main()
