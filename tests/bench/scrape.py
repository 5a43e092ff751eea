#!/usr/bin/env python3
"""Measures the cost of a scrape of /metrics with many views, and its effect on clients.

    scrape.py target/dist/zonal [--views 10000] [--seconds 20]

The script makes --views VPCs on loopback addresses. From each it sends queries over UDP and TCP that have their own
series: for a record, a name that does not exist, an endpoint, and a name without a responsible server. Then a client
sends one query at a time, first without scrapes, and then with one scrape of /metrics per second. The script prints the
page's size, its number of series and its duration; the server's memory and CPU time; and the answer times with and
without scrapes. No query may be lost.
"""
import argparse, json, os, socket, struct, subprocess, sys, tempfile, threading, time, urllib.request

PORT, ADMIN = 5391, 9391


def network(view):
    return f'127.{1 + view // 250}.{view % 250}'


def query(number, name, qtype):
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    return struct.pack('>HHHHHH', number & 0xffff, 0x100, 1, 0, 0, 0) + labels + b'\0' + struct.pack('>HH', qtype, 1)


QUESTIONS = [('www.corp.example', 1), ('nobody.corp.example', 1), ('sqs.example', 1), ('elsewhere.example', 1)]


def manifest(views):
    vpc = lambda view: {'region': 'us-east-1', 'cidr_blocks': [network(view) + '.0/24'], 'availability_zones': {'us-east-1a': 'use1-az1'},
                        'subnets': {f'subnet-{view}': {'availability_zone_id': 'use1-az1', 'cidr_blocks': [network(view) + '.0/24']}}}
    endpoint = lambda view: {'vpc_endpoint_type': 'Interface', 'service_name': 'sqs', 'vpc_id': f'vpc-{view}', 'state': 'Available',
                             'private_dns_enabled': True,
                             'network_interfaces': [{'availability_zone_id': 'use1-az1', 'ipv4': network(view) + '.10'}]}
    vpcs = {f'vpc-{view}': vpc(view) for view in range(views)}
    return {'vpcs': vpcs, 'vpc_endpoints': {f'vpce-{view}': endpoint(view) for view in range(views)},
            'vpc_endpoint_services': {'sqs': {'owner_id': 'amazon', 'region': 'us-east-1', 'dns_name': 'sqs.vpce.example',
                                              'private_dns_names': ['sqs.example']}},
            'private_hosted_zones': {'Z1': {'name': 'corp.example', 'vpc_ids': list(vpcs),
                                            'records': [{'name': 'www', 'type': 'A', 'ttl': 60, 'records': ['192.0.2.1']}]}}}


def ask_from_all(views):
    for view in range(views):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((network(view) + '.7', 0))
            client.settimeout(5)
            for number, (name, qtype) in enumerate(QUESTIONS):
                client.sendto(query(number, name, qtype), ('127.0.0.1', PORT))
                client.recv(4096)
        with socket.socket() as client:
            client.bind((network(view) + '.7', 0))
            client.settimeout(5)
            client.connect(('127.0.0.1', PORT))
            message = query(1, *QUESTIONS[0])
            client.sendall(struct.pack('>H', len(message)) + message)
            client.recv(4096)


def scrape():
    start = time.monotonic()
    with urllib.request.urlopen(f'http://127.0.0.1:{ADMIN}/metrics', timeout=60) as page:
        text = page.read()
    return time.monotonic() - start, text


def answer_times(seconds):
    """Sends one query at a time. Returns the sorted answer times in milliseconds, and the number of lost queries."""
    times, lost = [], 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((network(0) + '.7', 0))
        client.settimeout(2)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            client.sendto(query(len(times), *QUESTIONS[0]), ('127.0.0.1', PORT))
            try:
                client.recv(4096)
                times.append((time.monotonic() - start) * 1000)
            except TimeoutError:
                lost += 1
    return sorted(times), lost


def told(what, times, lost):
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    print(f'{what}: {len(times)} queries, P50 {at(.5):.3f} ms, P99 {at(.99):.3f} ms, P99.9 {at(.999):.3f} ms, most {times[-1]:.1f} ms, lost {lost}')


def memory(pid):
    with open(f'/proc/{pid}/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('VmRSS')) / 1024


def cpu(pid):
    with open(f'/proc/{pid}/stat') as stat:
        fields = stat.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('zonal')
    parser.add_argument('--views', type=int, default=10_000)
    parser.add_argument('--seconds', type=int, default=20)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.mkdir(f'{scratch}/zones')
        with open(f'{scratch}/zones/manifest.json', 'w') as file:
            json.dump(manifest(a.views), file)
        with open(f'{scratch}/zonal.yaml', 'w') as file:
            file.write(f'listen: [{{address: "0.0.0.0:{PORT}"}}]\ncontrol_plane: {{directory: zones}}\ninternet_resolver: none\n'
                       f'admin: {{address: "127.0.0.1:{ADMIN}"}}\nlimits: {{error_answers_per_second: 0}}\n')
        server = subprocess.Popen([os.path.abspath(a.zonal), 'serve', '--config', f'{scratch}/zonal.yaml'], stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    urllib.request.urlopen(f'http://127.0.0.1:{ADMIN}/ready', timeout=5)
                    break
                except OSError:
                    if server.poll() is not None:
                        sys.exit('zonal has ended')
                    time.sleep(0.05)
            ask_from_all(a.views)
            before = memory(server.pid)
            scrape()
            used, times = cpu(server.pid), []
            for _ in range(10):
                took, text = scrape()
                times.append(took)
            used = (cpu(server.pid) - used) / 10
            series = sum(1 for line in text.splitlines() if not line.startswith(b'#'))
            print(f'{a.views} views: {series} series, {len(text) / 1e6:.1f} MB; a scrape takes {min(times) * 1000:.0f} to '
                  f'{max(times) * 1000:.0f} ms, {used * 1000:.0f} ms of processor time; memory {before:.0f} MiB before, {memory(server.pid):.0f} MiB after')
            told('without scrapes', *answer_times(a.seconds))
            stop = threading.Event()

            def scrape_each_second():
                while not stop.wait(1):
                    # In its own process, because Python's threads wait for each other.
                    subprocess.run(['curl', '-so', '/dev/null', f'http://127.0.0.1:{ADMIN}/metrics'], check=True)

            scraper = threading.Thread(target=scrape_each_second)
            scraper.start()
            times, lost = answer_times(a.seconds)
            stop.set()
            scraper.join()
            told('one scrape a second', times, lost)
            if lost:
                sys.exit('queries were lost')
        finally:
            server.terminate()
            server.wait()


main()
