#!/usr/bin/env python3
"""Measures AWS's APIs: changes of records in a large zone, and lists of many zones page by page.

    aws_api.py target/dist/zonal [--records 100000] [--rate 100] [--seconds 60] [--zones 10000] [--clients 64]

Changes: --clients connections send ChangeResourceRecordSets at --rate in total, for --seconds, to one zone with --records
record sets. When the response has come, the script queries the record: the answer must have the new value. Meanwhile
dnsperf queries the zone at a steady rate; the same load runs before, without changes. Bounds: each change is made within
its second, no answer is old, and no query is lost.

Lists: --zones zones with 1,000,000 record sets in all. The script lists all zones and all record sets, page by page, and
prints the time of each tenth. Bound: the last tenth takes at most twice as long as the first.

All servers run on loopback addresses. The exit status is 1 if a bound is exceeded.
"""
import argparse, atexit, http.client, json, os, random, re, shutil, socket, struct, subprocess, sys, tempfile, threading, time

PORT, ADMIN = 5392, 9392
SIGNATURE = ('AWS4-HMAC-SHA256 Credential=111122223333/20260101/us-east-1/route53/aws4_request, SignedHeaders=host;x-amz-date, '
             'Signature=00')
VPC = {'owner_id': '111122223333', 'region': 'us-east-1', 'cidr_blocks': ['127.0.0.0/8']}


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] if times else float('nan')


class Server:
    """zonal with a pushed manifest."""

    def __init__(self, binary, directory, manifest):
        config = (f'listen: [{{address: "127.0.0.1:{PORT}"}}]\nadmin: {{address: "127.0.0.1:{ADMIN}", max_body_octets: 536870912}}\n'
                  f'control_plane: {{push: {{}}}}\nstate_directory: {directory}/state\ninternet_resolver: none\n')
        os.makedirs(f'{directory}/state')
        with open(f'{directory}/zonal.yaml', 'w') as f:
            f.write(config)
        log = open(f'{directory}/log', 'w')
        self.process = subprocess.Popen([binary, 'serve', '--config', f'{directory}/zonal.yaml'], stderr=log)
        atexit.register(self.stop)
        body = json.dumps({'generation': 1, **manifest}).encode()
        for attempt in range(100):
            try:
                connection = http.client.HTTPConnection('127.0.0.1', ADMIN, timeout=600)
                connection.request('PUT', '/v1/manifest', body, {'Content-Type': 'application/json'})
                response = connection.getresponse()
                text = response.read()
                assert response.status == 200, text[:500]
                return
            except ConnectionError:
                time.sleep(0.1)
        raise SystemExit('zonal does not start: ' + open(f'{directory}/log').read())

    def stop(self):
        self.process.kill()
        self.process.wait()

    def cpu(self):
        fields = open(f'/proc/{self.process.pid}/stat').read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def ask(connection, method, path, body=None):
    headers = {'Authorization': SIGNATURE, 'X-Amz-Date': '20260101T000000Z'}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def resolve(name):
    """The addresses of a name."""
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.')) + b'\0'
    query = struct.pack('>HHHHHH', random.getrandbits(16), 0x100, 1, 0, 0, 0) + labels + struct.pack('>HH', 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(query, ('127.0.0.1', PORT))
        reply = s.recv(4096)
    count, at, found = struct.unpack('>H', reply[6:8])[0], len(query), []
    for _ in range(count):
        at += 2 if reply[at] >= 192 else reply.index(b'\0', at) - at + 1
        length = struct.unpack('>H', reply[at + 8:at + 10])[0]
        found.append(socket.inet_ntoa(reply[at + 10:at + 14]))
        at += 10 + length
    return found


def load(directory, records, seconds):
    """Starts the load of queries."""
    with open(f'{directory}/queries', 'w') as f:
        f.writelines(f'r{number}.large.example A\n' for number in random.Random(1).sample(range(records), min(records, 20_000)))
    return subprocess.Popen(['dnsperf', '-s', '127.0.0.1', '-p', str(PORT), '-d', f'{directory}/queries', '-Q', '5000', '-l', str(seconds),
                             '-c', '8', '-q', '20000'], stdout=subprocess.PIPE, text=True)


def said(text):
    lost = int(re.search(r'Queries lost:\s+(\d+)', text).group(1))
    mean, worst = (float(found) for found in re.search(r'Average Latency \(s\):\s+([\d.]+) \(min [\d.]+, max ([\d.]+)\)', text).groups())
    return lost, mean * 1e6, worst * 1e3


def changes(options, binary):
    with tempfile.TemporaryDirectory() as directory:
        sets = [{'name': f'r{number}', 'type': 'A', 'ttl': 60, 'records': [f'10.{number >> 16}.{number >> 8 & 255}.{number & 255}']}
                for number in range(options.records)]
        server = Server(binary, directory, {'vpcs': {'vpc-1': VPC}, 'private_hosted_zones': {
            'ZLARGE': {'name': 'large.example', 'vpc_ids': ['vpc-1'], 'records': sets}}})
        quiet = said(load(directory, options.records, 10).communicate()[0])
        times, failures, old, lock = [], [], [], threading.Lock()
        begin, total = time.monotonic() + 0.5, options.rate * options.seconds
        numbers = iter(range(total))

        def client(which):
            connection = http.client.HTTPConnection('127.0.0.1', ADMIN, timeout=60)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                time.sleep(max(0, begin + number / options.rate - time.monotonic()))
                record = random.randrange(options.records)
                name, address = f'r{record}.large.example', f'172.16.{number >> 8 & 255}.{number & 255}'
                body = ('<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change>'
                        f'<Action>UPSERT</Action><ResourceRecordSet><Name>{name}</Name><Type>A</Type><TTL>60</TTL><ResourceRecords>'
                        f'<ResourceRecord><Value>{address}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes>'
                        '</ChangeBatch></ChangeResourceRecordSetsRequest>')
                sent = time.monotonic()
                status, text = ask(connection, 'POST', '/2013-04-01/hostedzone/ZLARGE/rrset/', body)
                took = time.monotonic() - sent
                answer = resolve(name)
                with lock:
                    times.append(took)
                    if status != 200:
                        failures.append(text[:200])
                    elif answer != [address]:
                        old.append((name, address, answer))

        queries = load(directory, options.records, options.seconds)
        cpu, threads = server.cpu(), [threading.Thread(target=client, args=(which,)) for which in range(options.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu = time.monotonic() - begin, server.cpu() - cpu
        busy = said(queries.communicate()[0])
        server.stop()
    print(f'changes: {total} in {took:.1f} s ({total / took:.1f}/s), {len(failures)} failed, {len(old)} old answers; response p50 '
          f'{percentile(times, .5) * 1e3:.0f} ms, p99 {percentile(times, .99) * 1e3:.0f} ms; CPU {cpu / took:.2f} cores')
    print(f'queries: without changes lost {quiet[0]}, mean {quiet[1]:.0f} us, max {quiet[2]:.1f} ms; with changes lost {busy[0]}, '
          f'mean {busy[1]:.0f} us, max {busy[2]:.1f} ms')
    for text in failures[:3] + old[:3]:
        print('  ', text)
    return not failures and not old and busy[0] == 0 and took <= options.seconds + 1


def lists(options, binary):
    with tempfile.TemporaryDirectory() as directory:
        each = 1_000_000 // options.zones
        sets = [{'name': f'r{number}', 'type': 'A', 'ttl': 60, 'records': ['192.0.2.1']} for number in range(each)]
        zones = {f'Z{number:06}': {'name': f'z{number}.example', 'vpc_ids': ['vpc-1'], 'records': sets} for number in range(options.zones)}
        server = Server(binary, directory, {'vpcs': {'vpc-1': VPC}, 'private_hosted_zones': zones})
        connection = http.client.HTTPConnection('127.0.0.1', ADMIN, timeout=60)
        ids, marker, begin = [], '', time.monotonic()
        while marker is not None:
            status, text = ask(connection, 'GET', '/2013-04-01/hostedzone?maxitems=100' + (f'&marker={marker}' if marker else ''))
            assert status == 200, text
            ids += re.findall(r'<Id>/hostedzone/(\w+)</Id>', text)
            found = re.search(r'<NextMarker>(\w+)</NextMarker>', text)
            marker = found and found.group(1)
        zones_took, tenths, count = time.monotonic() - begin, [], 0
        assert len(ids) == options.zones, len(ids)
        begin = time.monotonic()
        for at, zone in enumerate(ids):
            start = ''
            while start is not None:
                status, text = ask(connection, 'GET', f'/2013-04-01/hostedzone/{zone}/rrset?maxitems=300{start}')
                assert status == 200, text
                count += text.count('<ResourceRecordSet>')
                found = re.search(r'<NextRecordName>([^<]+)</NextRecordName><NextRecordType>(\w+)', text)
                start = found and f'&name={found.group(1)}&type={found.group(2)}'
            if (at + 1) % (options.zones // 10) == 0:
                tenths.append(time.monotonic() - begin)
                begin = time.monotonic()
        server.stop()
    print(f'lists: {len(ids)} zones in {zones_took:.2f} s; {count} record sets, tenths of ' + ' '.join(f'{tenth:.2f}' for tenth in tenths) + ' s')
    return tenths[-1] <= 2 * tenths[0] and count >= each * options.zones


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('binary')
    for name, default in [('records', 100_000), ('rate', 100), ('seconds', 60), ('zones', 10_000), ('clients', 30)]:
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--only', choices=['changes', 'lists'])
    options = parser.parse_args()
    binary = shutil.which(options.binary) or sys.exit(f'{options.binary} is not a program')
    parts = [part for part in (changes, lists) if options.only in (None, part.__name__)]
    results = [part(options, binary) for part in parts]
    sys.exit(0 if all(results) else 1)


if __name__ == '__main__':
    main()
