#!/usr/bin/env python3
"""Measures health checks: how soon answers leave out a dead target, how soon they follow a forced change, and the cost.

    health.py target/dist/zonal [--deaths 100] [--changes 200] [--targets 10000] [--interval 10] [--seconds 60] [--json FILE]

Deaths: each target has an endpoint with a second interface that stays. Its check has an interval of 1 s and a failure
threshold of 3. The script closes the target's listener at a random time, and queries the endpoint's name about every
5 ms. The time ends with the first answer without the target. Bound: 99 % of the times are at most 3.1 s.

Changes: the script reports an EXTERNAL check as healthy and unhealthy in turn, by HTTP, and by a key in etcd if etcd is
installed. The time runs from the request to the first answer that follows. Bound: a median of 5 ms.

Cost: --targets TCP checks with --interval, for --seconds. CPU is that of all threads of zonal, without the CPU of the
same server with the checks disabled. Memory is the difference in RSS. Bound: 5 % of a core and 60 MB, for 10,000
targets at 10 s. The histogram shows the attempts that began in each second of the first interval.

All servers run on loopback addresses. The exit status is 1 if a bound is exceeded.
"""
import argparse, atexit, base64, collections, http.client, json, os, random, resource, selectors, shutil, signal, socket, statistics
import subprocess, sys, tempfile, threading, time

PORT, ADMIN, TARGET_PORT, ETCD = 5391, 9391, 8391, 2391
CLIENT = '127.84.255.7'


CHILDREN = []


def start(command, **more):
    """Starts a process, which ends with the script."""
    CHILDREN.append(subprocess.Popen(command, **more))
    return CHILDREN[-1]


def write(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.draft', 'w') as f:
        json.dump(value, f)
    os.rename(path + '.draft', path)


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


# ---------------------------------------------------------------- targets

class Targets:
    """TCP servers that accept connections and close them, in one thread."""

    def __init__(self, addresses):
        self.selector, self.lock, self.sockets = selectors.DefaultSelector(), threading.Lock(), {}
        for address in addresses:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, TARGET_PORT))
            listener.listen(1024)
            listener.setblocking(False)
            self.sockets[address] = listener
            self.selector.register(listener, selectors.EVENT_READ)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            for key, _ in self.selector.select(0.5):
                with self.lock:
                    try:
                        while True:
                            key.fileobj.accept()[0].close()
                    except OSError:
                        pass

    def kill(self, address):
        with self.lock:
            listener = self.sockets.pop(address)
            self.selector.unregister(listener)
            listener.close()


# ---------------------------------------------------------------- zonal

class Zonal:
    def __init__(self, program, directory, manifest, source=None):
        self.directory = directory
        if manifest is not None:
            write(f'{directory}/zones/manifest.json', manifest)
        write(f'{directory}/zonal.yaml', {
            'listen': [{'address': f'127.0.0.1:{PORT}'}], 'admin': {'address': f'127.0.0.1:{ADMIN}'},
            'internet_resolver': 'none', 'control_plane': source or {'directory': 'zones'}})
        self.log = open(f'{directory}/zonal.log', 'ab')
        self.process = start([program, 'serve', '--config', f'{directory}/zonal.yaml'],
                             stdout=self.log, stderr=self.log)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((CLIENT, 0))
        self.socket.settimeout(5)
        end = time.monotonic() + 120
        while True:
            try:
                if self.get('/ready')[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f'zonal does not start: {open(f"{directory}/zonal.log").read()[-2000:]}')
            time.sleep(0.02)

    def get(self, path):
        connection = http.client.HTTPConnection('127.0.0.1', ADMIN, timeout=60)
        connection.request('GET', path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def metric(self, name):
        for line in self.get('/metrics')[1].splitlines():
            if line.startswith(name + ' '):
                return float(line.rsplit(' ', 1)[1])
        return 0.0

    def addresses(self, name):
        """The A records of a name."""
        number = random.randrange(65536).to_bytes(2, 'big')
        question = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.')) + b'\0\0\1\0\1'
        self.socket.sendto(number + b'\1\0\0\1\0\0\0\0\0\0' + question, ('127.0.0.1', PORT))
        while True:
            reply = self.socket.recv(4096)
            if reply[:2] == number:
                break
        count, at, found = int.from_bytes(reply[6:8], 'big'), 12 + len(question), set()
        for _ in range(count):
            length = int.from_bytes(reply[at + 10:at + 12], 'big')
            if reply[at + 2:at + 4] == b'\0\1':
                found.add(socket.inet_ntoa(reply[at + 12:at + 16]))
            at += 12 + length
        return found

    def cpu(self):
        """The CPU seconds of the process: in the program, and in the kernel."""
        fields = open(f'/proc/{self.process.pid}/stat').read().rsplit(') ', 1)[1].split()
        return [int(field) / os.sysconf('SC_CLK_TCK') for field in fields[11:13]]

    def rss(self):
        """The resident memory in MB."""
        for line in open(f'/proc/{self.process.pid}/status'):
            if line.startswith('VmRSS:'):
                return int(line.split()[1]) / 1000

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.socket.close()
        self.log.close()


VPC = {'region': 'us-east-1', 'cidr_blocks': ['127.84.0.0/16', '127.85.0.0/16']}


# ---------------------------------------------------------------- measurements

def deaths(program, directory, number):
    names, addresses = {}, []
    manifest = {'vpcs': {'vpc': VPC}, 'vpc_endpoint_services': {}, 'vpc_endpoints': {}}
    for i in range(number):
        dying, staying = f'127.84.{i // 100}.{i % 100 + 1}', f'127.84.{i // 100}.{i % 100 + 101}'
        names[f'd{i}.example'] = dying
        addresses += [dying, staying]
        manifest['vpc_endpoint_services'][f's{i}'] = {
            'owner_id': 'amazon', 'region': 'us-east-1', 'dns_name': f's{i}.vpce.example', 'private_dns_names': [f'd{i}.example']}
        manifest['vpc_endpoints'][f'vpce-{i}'] = {
            'vpc_endpoint_type': 'Interface', 'vpc_id': 'vpc', 'state': 'Available', 'service_name': f's{i}',
            'private_dns_enabled': True, 'client_routing_policy': 'any_availability_zone',
            'health_check': {'type': 'TCP', 'port': TARGET_PORT, 'request_interval': 1, 'failure_threshold': 3,
                             'success_threshold': 1},
            'network_interfaces': [{'availability_zone_id': 'az1', 'ipv4': dying}, {'availability_zone_id': 'az2', 'ipv4': staying}]}
    targets = Targets(addresses)
    zonal = Zonal(program, directory, manifest)
    while not all(t['state'] == 'healthy' for t in json.loads(zonal.get('/v1/health')[1])['targets']):
        time.sleep(0.5)
    waiting, times, left = {}, [], list(names)
    random.shuffle(left)
    next_death = time.monotonic()
    while left or waiting:
        now = time.monotonic()
        # At most a tenth of the targets are down at once, so that the node does not count as isolated.
        if left and now >= next_death and len(waiting) < max(1, number // 10):
            name = left.pop()
            targets.kill(names[name])
            waiting[name] = time.monotonic()
            next_death = now + random.uniform(0.1, 0.5)
        for name, since in list(waiting.items()):
            if names[name] not in zonal.addresses(name):
                times.append(time.monotonic() - since)
                del waiting[name]
        time.sleep(0.005)
    zonal.stop()
    return {'deaths': len(times), 'median_s': round(statistics.median(times), 3), 'p99_s': round(percentile(times, 0.99), 3),
            'max_s': round(max(times), 3), 'bound_s': 3.1}


def external():
    check = {'type': 'EXTERNAL'}
    member = lambda name, kind, address, **more: {
        'name': 'db', 'type': 'A', 'ttl': 0, 'set_identifier': name, 'failover_routing_policy': {'type': kind},
        'records': [address], **more}
    zone = {'name': 'corp.example', 'vpc_ids': ['vpc'], 'records': [
        member('p', 'PRIMARY', '127.84.0.1', health_check_id='hc'), member('s', 'SECONDARY', '127.84.0.2')]}
    return {'vpcs': {'vpc': VPC}, 'health_checks': {'hc': check}, 'private_hosted_zones': {'Z': zone}}


def follow(zonal, number, set_health):
    times = []
    for i in range(number):
        status, expected = [('unhealthy', {'127.84.0.2'}), ('healthy', {'127.84.0.1'})][i % 2]
        begin = time.monotonic()
        set_health(status)
        while zonal.addresses('db.corp.example') != expected:
            if time.monotonic() > begin + 60:
                sys.exit(f'the answer does not follow {status}')
        times.append(1000 * (time.monotonic() - begin))
        time.sleep(0.01)
    return {'changes': number, 'median_ms': round(statistics.median(times), 2), 'p99_ms': round(percentile(times, 0.99), 2),
            'bound_ms': 5}


def changes_by_http(program, directory, number):
    zonal = Zonal(program, directory, external())
    connection = http.client.HTTPConnection('127.0.0.1', ADMIN)

    def set_health(status):
        connection.request('PUT', '/v1/health/hc', json.dumps({'status': status}), {'Content-Type': 'application/json'})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    result = follow(zonal, number, set_health)
    zonal.stop()
    return result


def changes_by_etcd(program, directory, number):
    if not shutil.which('etcd'):
        return None
    url, peer = f'http://127.0.0.1:{ETCD}', f'http://127.0.0.1:{ETCD + 1}'
    etcd = start(
        ['etcd', '--data-dir', f'{directory}/etcd', '--listen-client-urls', url, '--advertise-client-urls', url,
         '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', f'default={peer}'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    connection = http.client.HTTPConnection('127.0.0.1', ETCD)
    encode = lambda text: base64.b64encode(text.encode()).decode()

    def put(key, value):
        connection.request('POST', '/v3/kv/put', json.dumps({'key': encode(key), 'value': encode(value)}))
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    end = time.monotonic() + 60
    while True:
        try:
            put('/other', 'x')
            break
        except (OSError, AssertionError, http.client.HTTPException):
            connection.close()
            if time.monotonic() > end:
                sys.exit('etcd does not start')
            time.sleep(0.2)
    for kind, resources in external().items():
        for id, value in resources.items():
            put(f'/zonal/v1/{kind}/{id}', json.dumps(value))
    zonal = Zonal(program, directory, None, {'etcd': {'endpoints': [url]}})
    put('/zonal/v1/health/hc', 'healthy')
    while zonal.addresses('db.corp.example') != {'127.84.0.1'}:
        time.sleep(0.1)
    result = follow(zonal, number, lambda status: put('/zonal/v1/health/hc', status))
    zonal.stop()
    etcd.terminate()
    etcd.wait()
    return result


def cost(program, directory, number, interval, seconds):
    address = lambda i: f'127.85.{i // 250}.{i % 250 + 1}'
    manifest = {'vpcs': {'vpc': VPC}, 'health_checks': {
        f'hc-{i}': {'type': 'TCP', 'ip_address': address(i), 'port': TARGET_PORT, 'request_interval': interval} for i in range(number)}}
    measured = {}
    targets = start([sys.executable, __file__, '--serve'])
    for disabled in [True, False]:
        for check in manifest['health_checks'].values():
            check['disabled'] = disabled
        zonal = Zonal(program, directory, manifest)
        begin, before, histogram = time.monotonic(), 0, []
        while not disabled and len(histogram) < interval:
            time.sleep(max(0, begin + len(histogram) + 1 - time.monotonic()))
            attempts = zonal.metric('zonal_health_attempts_total')
            histogram.append(int(attempts - before))
            before = attempts
        time.sleep(interval if not disabled else 2)
        cpu, since = zonal.cpu(), time.monotonic()
        time.sleep(seconds)
        shares = [100 * (end - start) / (time.monotonic() - since) for start, end in zip(cpu, zonal.cpu())]
        measured[disabled] = (shares, zonal.rss(), histogram)
        if not disabled:
            report = json.loads(zonal.get('/v1/health')[1])
            states = collections.Counter(target['state'] for target in report['targets'])
        zonal.stop()
    targets.terminate()
    (idle, idle_rss, _), (busy, busy_rss, histogram) = measured[True], measured[False]
    return {'targets': number, 'interval_s': interval, 'states': dict(states),
            'cpu_percent_of_a_core': round(sum(busy) - sum(idle), 2), 'of_it_in_the_kernel': round(busy[1] - idle[1], 2),
            'memory_mb': round(busy_rss - idle_rss, 1), 'first_attempts_per_second': histogram,
            'bound_percent': 5, 'bound_mb': 60}


def serve():
    """Accepts connections at all addresses, until the parent ends."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(('0.0.0.0', TARGET_PORT))
    listener.listen(4096)
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            listener.accept()[0].close()
        except OSError:
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('program', nargs='?')
    parser.add_argument('--deaths', type=int, default=100)
    parser.add_argument('--changes', type=int, default=200)
    parser.add_argument('--targets', type=int, default=10000)
    parser.add_argument('--interval', type=int, default=10)
    parser.add_argument('--seconds', type=int, default=60)
    parser.add_argument('--json')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        return serve()
    if not a.program:
        parser.error('the program is missing')
    program = os.path.abspath(a.program)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    atexit.register(lambda: [child.kill() for child in CHILDREN if child.poll() is None])
    results = {}
    with tempfile.TemporaryDirectory(prefix='zonal-health-') as directory:
        for name, measure, numbers in [
                ('death of a target', deaths, [a.deaths]), ('change by HTTP', changes_by_http, [a.changes]),
                ('change by etcd', changes_by_etcd, [a.changes]), ('cost', cost, [a.targets, a.interval, a.seconds])]:
            if numbers[0] == 0:
                continue
            place = f'{directory}/{name.replace(" ", "-")}'
            os.makedirs(place)
            results[name] = measure(program, place, *numbers)
            print(f'{name}: {json.dumps(results[name])}', flush=True)
    if a.json:
        with open(a.json, 'w') as f:
            json.dump(results, f, indent=1)
    wrong = []
    for name, result in results.items():
        result = result or {}
        for value, bound in [('p99_s', 'bound_s'), ('median_ms', 'bound_ms'), ('cpu_percent_of_a_core', 'bound_percent'),
                             ('memory_mb', 'bound_mb')]:
            if value in result and result[value] > result[bound]:
                wrong.append(f'{name}: {value} is {result[value]}, more than {result[bound]}')
    print('\n'.join(wrong) or 'all bounds hold')
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()
