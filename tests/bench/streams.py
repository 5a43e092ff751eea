#!/usr/bin/env python3
"""Compares zonal and Unbound over kept-open TCP and DoT connections, in queries per CPU second.

    streams.py target/dist/zonal [--rounds 5] [--seconds 3] [--clients 20] [--names 1000]

Both servers forward all queries to one Knot and answer from their caches. Each has one worker on CPU 0, and dnsperf runs
on CPU 1. They run in turn in a network namespace that has only a loopback device. The result is the number of answered
queries divided by the CPU time (user and system) of the server's threads. Needs root, unbound, knot, dnsperf, openssl
and iproute2.
"""
import argparse, os, re, shutil, signal, statistics, subprocess, tempfile, time

ADDRESS = '127.0.0.1'
PORTS = {'tcp': 5391, 'dot': 8539}
UPSTREAM = 5392


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, 'w') as f:
        f.write(text)
    return path


def prepare(directory, names):
    zone = '$TTL 3600\n@ SOA ns host 1 7200 900 1209600 60\n@ NS ns\nns A 127.0.0.1\n'
    zone += ''.join(f'h{n} A 10.0.{n // 256 % 256}.{n % 256}\n' for n in range(names))
    write(directory, 'zone', zone)
    write(directory, 'queries', ''.join(f'h{n}.bench.example A\n' for n in range(names)))
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                    '-keyout', f'{directory}/key', '-out', f'{directory}/crt', '-subj', '/CN=bench'], check=True,
                   stderr=subprocess.DEVNULL)
    knot = write(directory, 'knot.conf', f'''
server:
  listen: {ADDRESS}@{UPSTREAM}
  rundir: {directory}
database:
  storage: {directory}
zone:
  - domain: bench.example
    file: {directory}/zone
''')
    unbound = write(directory, 'unbound.conf', f'''
server:
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  interface: {ADDRESS}@{PORTS['tcp']}
  interface: {ADDRESS}@{PORTS['dot']}
  tls-port: {PORTS['dot']}
  tls-service-key: "{directory}/key"
  tls-service-pem: "{directory}/crt"
  incoming-num-tcp: 1000
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "iterator"
  prefetch: no
forward-zone:
  name: "."
  forward-addr: {ADDRESS}@{UPSTREAM}
''')
    write(directory, 'm.json', '{"vpcs": {"v": {"region": "r", "cidr_blocks": ["127.0.0.0/8"]}}, "resolver_rules": {"r": '
          '{"domain_name": ".", "rule_type": "FORWARD", "vpc_ids": ["v"], "target_ips": [{"ip": "%s", "port": %d}]}}}'
          % (ADDRESS, UPSTREAM))
    zonal = write(directory, 'zonal.yaml', f'''
listen:
  - {{address: "{ADDRESS}:{PORTS['tcp']}"}}
  - {{address: "{ADDRESS}:{PORTS['dot']}", protocol: DoT, tls: {{certificate: crt, private_key: key}}}}
control_plane: {{directory: .}}
internet_resolver: none
admin: {{address: "{ADDRESS}:9159"}}
limits: {{tcp_connections_per_client: 1000}}
''')
    # The manifest gets its own directory, so that zonal does not read the other files.
    os.makedirs(f'{directory}/m')
    os.rename(f'{directory}/m.json', f'{directory}/m/m.json')
    with open(zonal) as f:
        text = f.read().replace('directory: .', 'directory: m')
    write(directory, 'zonal.yaml', text)
    return knot, unbound, zonal


def cpu(pid):
    """The CPU time of a process in seconds, from the scheduler's counters."""
    total = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/schedstat') as f:
            total += int(f.read().split()[0])
    return total / 1e9


def run(inside, command, core):
    return subprocess.Popen(inside + ['taskset', '-c', str(core)] + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def perf(inside, directory, mode, clients, seconds):
    # Each program of the command replaces itself with the next one, so the process id is the program's.
    command = inside + ['taskset', '-c', '1', 'dnsperf', '-m', mode, '-s', ADDRESS, '-p', str(PORTS[mode]), '-d', f'{directory}/queries',
                        '-c', str(clients), '-T', '1', '-q', str(clients * 10), '-l', str(seconds), '-t', '2']
    out = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r'Queries completed:\s+(\d+)', out)
    return int(found.group(1)) if found else 0


def measure(inside, directory, command, mode, clients, seconds):
    server = run(inside, command, 0)
    try:
        time.sleep(1.5)
        perf(inside, directory, mode, clients, 1)  # fills the cache
        before = cpu(server.pid)
        answered = perf(inside, directory, mode, clients, seconds)
        return answered / max(cpu(server.pid) - before, 1e-9), answered / seconds
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('zonal')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=3)
    parser.add_argument('--clients', type=int, default=20)
    parser.add_argument('--names', type=int, default=1000)
    args = parser.parse_args()
    namespace = f'zonal-{os.getpid()}-streams'
    directory = tempfile.mkdtemp(prefix='zonal-streams-')
    subprocess.run(['ip', 'netns', 'add', namespace], check=True)
    inside = ['ip', 'netns', 'exec', namespace]
    upstream = None
    try:
        subprocess.run(inside + ['ip', 'link', 'set', 'lo', 'up'], check=True)
        knot, unbound, zonal = prepare(directory, args.names)
        upstream = run(inside, ['knotd', '-c', knot], 1)
        time.sleep(1)
        servers = {'zonal': [os.path.abspath(args.zonal), 'serve', '--config', zonal], 'unbound': ['unbound', '-d', '-c', unbound]}
        print(f'{"":10}{"":6}{"queries per CPU second":>24}{"queries per second":>20}')
        for mode in PORTS:
            results = {name: [] for name in servers}
            for _ in range(args.rounds):
                for name, command in servers.items():
                    results[name].append(measure(inside, directory, command, mode, args.clients, args.seconds))
            for name, found in results.items():
                per_cpu, per_second = (statistics.median(column) for column in zip(*found))
                print(f'{name:10}{mode:6}{per_cpu:>24,.0f}{per_second:>20,.0f}')
            ratio = statistics.median(r[0] for r in results['zonal']) / statistics.median(r[0] for r in results['unbound'])
            print(f'{"":10}{mode:6}{f"zonal is {ratio:.2f} of unbound":>24}')
    finally:
        if upstream:
            upstream.send_signal(signal.SIGTERM)
            upstream.wait()
        subprocess.run(['ip', 'netns', 'delete', namespace])
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == '__main__':
    main()
