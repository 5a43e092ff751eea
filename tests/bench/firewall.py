#!/usr/bin/env python3
"""Compares what lists of millions of blocked names cost zonal, Unbound, PowerDNS Recursor, BIND and dnsdist.

    firewall.py target/dist/zonal [--sizes 1000000,10000000] [--reload 2000000] [--rounds 5] [--only zonal,unbound]

Each server filters the same generated names: zonal and dnsdist by a list of domains, the others by a response policy
zone with the entries `NAME CNAME .` and `*.NAME CNAME .`. All forward to one NSD, which has every name below
`pass.example`. Each server runs alone, in its own network namespace.

Load time: from exec until the last name is blocked.
Memory: the RSS of all processes of the server, less that of the same server with an empty list.
CPU: user and system time per answered query, with the server on CPU 0 and dnsperf, as fast as it can, on CPU 1. The
rounds alternate between blocked names, names that are not listed, and the same names in the server without a firewall.
The names that are not listed are in the cache. The table has the medians.
Reload: a list of as many other names takes the place of the list, while dnsperf sends --rate queries per second, half of
them for names that are in both lists. `peak` is the highest RSS divided by the RSS before, `p99` the 99th percentile of the
response times meanwhile divided by that of the ten seconds before. A query is lost if it has no answer in five seconds,
or a wrong one.

Compare the servers of one run: an absolute figure says more about the machine. `--limit-gib` and `--limit-seconds` end
the load of a server that needs more. Needs root, dnsperf, nsd, the servers to compare, and iproute2.
"""
import argparse, itertools, os, random, re, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, threading, time

PORT, UPSTREAM, ZONE = 5396, ('127.0.0.2', 5399), 'pass.example'
MARKERS, PASSED = 200, 2000
TICKS = os.sysconf('SC_CLK_TCK')


# ---------------------------------------------------------------- names

DICE = random.Random(7)
WORDS = [''.join(DICE.choices('abcdefghijklmnopqrstuvwxyz', k=4 + n % 12)) for n in range(4096)]


def name_of(n):
    """A name as in lists of malware: a label of letters and a number, below a few hundred suffixes."""
    label = f'{WORDS[n * 2_654_435_761 >> 16 & 4095]}{n:x}'
    return (f'www.{label}.com', f'{label}.org', f'{label}.x{n % 300}.net')[n % 3]


def write_lists(path, numbers, more=()):
    """Writes a list of domains and a response policy zone."""
    size = count = 0
    serial = int(time.time())
    with open(path + '.domains.draft', 'w') as domains, open(path + '.zone.draft', 'w') as zone:
        zone.write(f'$ORIGIN rpz.example.\n$TTL 3600\n@ SOA ns host {serial} 3600 600 864000 60\n@ NS ns\nns A 192.0.2.1\n')
        for name in itertools.chain(map(name_of, numbers), more):
            domains.write(name + '\n')
            zone.write(f'{name} CNAME .\n*.{name} CNAME .\n')
            size, count = size + len(name) + 1, count + 1
    for kind in ('domains', 'zone'):
        os.rename(f'{path}.{kind}.draft', f'{path}.{kind}')
    return size / max(1, count)


# ---------------------------------------------------------------- servers

UNBOUND = '''server:
 num-threads: {threads}
 interface: 127.0.0.1@{port}
 do-daemonize: no
 use-syslog: no
 username: ""
 chroot: ""
 directory: "{dir}"
 pidfile: "{dir}/pid"
 module-config: "respip iterator"
 do-not-query-localhost: no
 access-control: 127.0.0.0/8 allow
 msg-cache-size: 64m
 rrset-cache-size: 64m
remote-control:
 control-enable: yes
 control-interface: "{dir}/control"
 control-use-cert: no
forward-zone:
 name: "."
 forward-addr: {up}@{up_port}
'''
BIND = '''options {{ directory "{dir}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none;
 session-keyfile "{dir}/sk"; lock-file none; recursion yes; dnssec-validation no; notify no; empty-zones-enable no; querylog no;
 allow-query {{ any; }}; forward only; forwarders {{ {up} port {up_port}; }}; qname-minimization off;
 %s }};
key k {{ algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0"; }};
controls {{ inet 127.0.0.1 port 9531 allow {{ 127.0.0.1; }} keys {{ k; }}; }};
logging {{ category default {{ null; }}; category unmatched {{ null; }}; category lame-servers {{ null; }}; }};
%s'''
RNDC = 'key k {{ algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0"; }};\noptions {{ default-key k; default-server 127.0.0.1; default-port 9531; }};\n'
PDNS = '''local-address=127.0.0.1:{port}
allow-from=127.0.0.0/8
dont-query=
forward-zones-recurse=.={up}:{up_port}
threads={threads}
pdns-distributes-queries=no
reuseport=yes
socket-dir={dir}
dnssec=off
quiet=yes
loglevel=0
security-poll-suffix=
daemon=no
server-down-max-fails=0
disable-syslog=yes
%s'''
DNSDIST = '''setLocal("127.0.0.1:{port}")
for i = 2, {threads} do addLocal("127.0.0.1:{port}", {{reusePort=true}}) end
setACL("127.0.0.0/8")
setSecurityPollSuffix("")
setMaxUDPOutstanding(65535)
newServer({{address="{up}:{up_port}", healthCheckMode="up"}})
getPool(""):setCache(newPacketCache(100000))
setKey("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI=")
controlSocket("127.0.0.1:9532")
%s'''.replace('setLocal("127.0.0.1:{port}")', 'setLocal("127.0.0.1:{port}", {{reusePort=true}})')
DNSDIST_LIST = '''function reload()
  local names = newSuffixMatchNode()
  for line in io.lines("{list}.domains") do names:add(newDNSName(line)) end
  clearRules()
  addAction(SuffixMatchNodeRule(names), RCodeAction(DNSRCode.NXDOMAIN))
  collectgarbage()
end
reload()
'''
ZONAL = 'listen: [{{address: "127.0.0.1:{port}"}}]\ncontrol_plane: {{directory: "{dir}/manifest"}}\ninternet_resolver: none\nadmin: {{address: "127.0.0.1:9160"}}\n'
ZONAL_MANIFEST = '''vpcs: {{v: {{region: r, cidr_blocks: [127.0.0.0/8]}}}}
resolver_rules: {{r: {{domain_name: ., rule_type: FORWARD, vpc_ids: [v], target_ips: [{{ip: {up}, port: {up_port}}}]}}}}
%s'''
ZONAL_RULES = '''firewall_domain_lists: {{l: {{source: {{file: "{list}.domains", format: subdomains_included}}}}}}
firewall_rule_groups:
  g:
    rules: [{{name: b, priority: 1, action: BLOCK, block_response: NXDOMAIN, firewall_domain_list_id: l}}]
    vpc_associations: [{{vpc_id: v, priority: 101}}]
'''
NSD = '''server:
 server-count: 1
 ip-address: {up}@{up_port}
 username: ""
 zonesdir: "{dir}"
 database: ""
 pidfile: "{dir}/nsd.pid"
 xfrdfile: "{dir}/xfrd.state"
 zonelistfile: "{dir}/zone.list"
remote-control:
 control-enable: no
zone:
 name: "pass.example"
 zonefile: "pass.zone"
'''


def servers(zonal):
    """For each server: its command, its files without and with a firewall, and the command that reloads the list."""
    sbin = lambda name: shutil.which(name) or f'/usr/sbin/{name}'
    rpz = 'zone "rpz.example" {{ type primary; file "{list}.zone"; }};'
    policy = 'response-policy {{ zone "rpz.example" log no; }} qname-wait-recurse no min-update-interval 0;'
    named = [sbin('named'), '-g', '-n', '{threads}', '-U', '{threads}', '-c', '{dir}/named.conf']
    bind_files = lambda a, b: {'named.conf': BIND % (a, b), 'rndc.conf': RNDC}
    return {
        'zonal': ([zonal, 'serve', '--config', '{dir}/zonal.yaml'],
                  {'zonal.yaml': ZONAL, 'manifest/m.yaml': ZONAL_MANIFEST % ''},
                  {'zonal.yaml': ZONAL, 'manifest/m.yaml': ZONAL_MANIFEST % ZONAL_RULES}, None),
        'dnsdist': ([sbin('dnsdist'), '--supervised', '-C', '{dir}/d.conf'],
                    {'d.conf': DNSDIST % ''}, {'d.conf': DNSDIST % DNSDIST_LIST},
                    [sbin('dnsdist'), '-C', '{dir}/d.conf', '-e', 'reload()']),
        'unbound': ([sbin('unbound'), '-d', '-c', '{dir}/u.conf'], {'u.conf': UNBOUND},
                    {'u.conf': UNBOUND + 'rpz:\n name: rpz.example\n zonefile: "{list}.zone"\n'},
                    [sbin('unbound-control'), '-c', '{dir}/u.conf', 'auth_zone_reload', 'rpz.example']),
        'pdns': ([sbin('pdns_recursor'), '--config-dir={dir}'], {'recursor.conf': PDNS % ''},
                 {'recursor.conf': PDNS % 'lua-config-file={dir}/c.lua\n', 'c.lua': 'rpzFile("{list}.zone", {{policyName="b"}})\n'},
                 [shutil.which('rec_control') or '/usr/bin/rec_control', '--config-dir={dir}', 'reload-lua-config']),
        'bind': (named, bind_files('', ''), bind_files(policy, rpz), [sbin('rndc'), '-c', '{dir}/rndc.conf', 'reload', 'rpz.example']),
    }


def processes(pid):
    """The process and all its descendants."""
    children = {}
    for p in filter(str.isdigit, os.listdir('/proc')):
        try:
            children.setdefault(int(open(f'/proc/{p}/stat').read().rsplit(')', 1)[1].split()[1]), []).append(int(p))
        except OSError:
            pass
    found, rest = [], [pid]
    while rest:
        found.append(rest.pop())
        rest += children.get(found[-1], [])
    return found


class Server:
    """A running server."""

    def __init__(self, name, definition, dir, list, cpus, has_firewall=True):
        command, plain, filtered, reload = definition
        self.name, self.dir = name, f'{dir}/{name}'
        shutil.rmtree(self.dir, ignore_errors=True)
        values = dict(dir=self.dir, list=list, port=PORT, up=UPSTREAM[0], up_port=UPSTREAM[1], threads=len(cpus))
        for path, text in (filtered if has_firewall else plain).items():
            os.makedirs(os.path.dirname(f'{self.dir}/{path}'), exist_ok=True)
            with open(f'{self.dir}/{path}', 'w') as f:
                f.write(text.format(**values))
        self.reload_command = reload and [part.format(**values) for part in reload]
        self.log = open(f'{self.dir}/log', 'w')
        self.began = time.monotonic()
        pin = ['taskset', '-c', ','.join(map(str, cpus))]
        self.process = subprocess.Popen(pin + [part.format(**values) for part in command], cwd=self.dir, stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL, start_new_session=True)

    def wait_for(self, name, rcode, a):
        """Waits for this RCODE. Returns the seconds since the start, or why it does not come."""
        while ask(name) != rcode:
            seconds = time.monotonic() - self.began
            if self.process.poll() is not None:
                return f'ended: {open(self.dir + "/log").read()[-300:]}'
            if seconds > a.limit_seconds:
                return f'more than {a.limit_seconds} s'
            if self.rss() > a.limit_gib * 1024:
                return f'more than {a.limit_gib} GiB'
            time.sleep(0.02)
        return time.monotonic() - self.began

    def memory(self, field, file='status'):
        total = 0
        for pid in processes(self.process.pid):
            try:
                total += sum(int(line.split()[1]) for line in open(f'/proc/{pid}/{file}') if line.startswith(field))
            except OSError:
                pass
        return total / 1024

    def rss(self):
        return self.memory('VmRSS:')

    def reset_peak(self):
        for pid in processes(self.process.pid):
            with open(f'/proc/{pid}/clear_refs', 'w') as f:
                f.write('5')

    def cpu(self):
        total = 0
        for pid in processes(self.process.pid):
            fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def stop(self):
        for signal_ in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_)
                self.process.wait(10)
                break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.log.close()


def ask(name):
    """The RCODE for a name; none without an answer."""
    number = random.randrange(65536)
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        try:
            s.connect(('127.0.0.1', PORT))
            s.send(struct.pack('>HHHHHH', number, 0x100, 1, 0, 0, 0) + labels + b'\0\0\1\0\1')
            while True:
                reply = s.recv(4096)
                if reply[:2] == struct.pack('>H', number):
                    return reply[3] & 15
        except OSError:
            return None


# ---------------------------------------------------------------- load

class Load:
    """dnsperf with a file of queries. Keeps when each answer came, its RCODE, name and response time."""

    def __init__(self, queries, seconds, rate):
        command = ['dnsperf', '-s', '127.0.0.1', '-p', str(PORT), '-d', queries, '-l', str(seconds), '-Q', str(rate), '-c', '8', '-q', '5000', '-v',
                   '-O', 'suppress=timeout']
        self.answers, self.tail = [], []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        pattern = re.compile(r'> (\S+) (\S+) \S+ ([\d.]+)')
        for line in self.process.stdout:
            if found := pattern.match(line):
                self.answers.append((time.monotonic(), found[1], found[2], float(found[3])))
            else:
                self.tail.append(line)

    def end(self, since):
        """Stops sending. Returns the number of queries without an answer, and of wrong answers since a time."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.reader.join()
        lost = re.search(r'Queries lost:\s+(\d+)', ''.join(self.tail))
        is_wrong = lambda answer: answer[1] != ('NOERROR' if answer[2].rstrip('.').endswith(ZONE) else 'NXDOMAIN')
        return int(lost[1] if lost else 0) + sum(is_wrong(answer) for answer in self.answers if answer[0] >= since)

    def p99(self, start, end):
        times = sorted(took for at, _, _, took in self.answers if start <= at < end)
        return times[len(times) * 99 // 100] if times else float('nan')


def warm(queries):
    """Has the server ask for each name that is not listed, so that all are in its cache."""
    for _ in range(2):
        subprocess.run(['dnsperf', '-s', '127.0.0.1', '-p', str(PORT), '-d', queries, '-n', '1', '-Q', '1000'], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def saturate(server, queries, limit):
    """Microseconds of CPU per answered query."""
    before = server.cpu()
    command = ['taskset', '-c', '1', 'dnsperf', '-s', '127.0.0.1', '-p', str(PORT), '-d', queries, '-c', '8', '-q', '200',
               '-O', 'suppress=timeout'] + limit
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return 1e6 * (server.cpu() - before) / int(re.search(r'Queries completed:\s+(\d+)', text)[1])


# ---------------------------------------------------------------- measurements

def measure_cpu(name, definition, dir, list, a, queries):
    """Medians for blocked names, names that are not listed, and the same names without a firewall."""
    results = {'blocked': [], 'passed': [], 'none': []}
    for _ in range(a.rounds):
        for has_firewall, kinds in ((True, ('blocked', 'passed')), (False, ('none',))):
            server = Server(name, definition, dir, list, [0], has_firewall)
            try:
                ready = server.wait_for(a.last if has_firewall else f'x.{ZONE}', 3 if has_firewall else 0, a)
                if isinstance(ready, str):
                    return ready
                for kind in kinds:
                    file = queries['blocked' if kind == 'blocked' else 'passed']
                    warm(queries['passed'])
                    saturate(server, file, ['-l', '1'])
                    results[kind].append(saturate(server, file, ['-l', str(a.seconds)]))
            finally:
                server.stop()
    return {kind: statistics.median(values) for kind, values in results.items()}


def measure_reload(name, definition, dir, size, a):
    """The ratios of memory and of response times, the seconds, and the number of lost queries, of each round."""
    path, half = f'{dir}/reload', size // 2
    # Half of the names are in both lists.
    write_lists(path, range(size))
    queries = f'{dir}/reload.queries'
    with open(queries, 'w') as f:
        f.write(''.join(f'{name_of(random.randrange(half, size))} A\nh{random.randrange(PASSED)}.{ZONE} A\n' for _ in range(50_000)))
    server, rows = Server(name, definition, dir, path, [0, 1]), []
    try:
        ready = server.wait_for(name_of(size - 1), 3, a)
        if isinstance(ready, str):
            return ready
        for round_ in range(a.rounds):
            markers = [f'marker{round_}-{n}.{ZONE}' for n in range(MARKERS)]
            numbers = range(half, size + half) if round_ % 2 == 0 else range(size)
            write_lists(path + '.next', numbers, markers)
            warm(f'{dir}/passed')
            load = Load(queries, a.limit_seconds, a.rate)
            time.sleep(11)
            rss = server.rss()
            server.reset_peak()
            began = time.monotonic()
            for kind in ('domains', 'zone'):
                os.rename(f'{path}.next.{kind}', f'{path}.{kind}')
            reload = server.reload_command and subprocess.Popen(server.reload_command, stdout=subprocess.DEVNULL, stderr=server.log)
            while markers and time.monotonic() - began < a.limit_seconds:
                # No cache has a new name below the marker.
                if ask(f'x{random.randrange(10 ** 9)}.{markers[0]}') == 3:
                    markers.pop(0)
                else:
                    time.sleep(0.005)
            done = time.monotonic()
            if reload:
                reload.wait()
            time.sleep(1)
            lost = load.end(began)
            rows.append((server.memory('VmHWM:') / rss, load.p99(began, done) / load.p99(began - 10, began), done - began, lost))
            if markers:
                return f'the new list is not served after {a.limit_seconds} s'
    finally:
        server.stop()
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('zonal')
    p.add_argument('--sizes', default='1000000,10000000', help='numbers of names')
    p.add_argument('--reload', type=int, default=2_000_000, help='the number of names of the list that is reloaded (0: no reload)')
    p.add_argument('--rate', type=int, default=5000, help='queries per second during the reload')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--seconds', type=int, default=3, help='seconds of each measurement of CPU (0: none)')
    p.add_argument('--only', default='zonal,dnsdist,unbound,pdns,bind')
    p.add_argument('--limit-gib', type=float, default=12)
    p.add_argument('--limit-seconds', type=int, default=600)
    p.add_argument('--keep', action='store_true', help='keep the data, and say where')
    a = p.parse_args()
    a.zonal = os.path.abspath(a.zonal)
    if os.environ.get('ZONAL_FIREWALL_NS') != 'in':
        # The script runs itself in a network namespace that has only a loopback device.
        namespace = f'zonal-{os.getpid()}-firewall'
        subprocess.run(['ip', 'netns', 'add', namespace], check=True)
        try:
            subprocess.run(['ip', '-n', namespace, 'link', 'set', 'lo', 'up'], check=True)
            again = ['ip', 'netns', 'exec', namespace, sys.executable] + sys.argv
            sys.exit(subprocess.run(again, env=dict(os.environ, ZONAL_FIREWALL_NS='in')).returncode)
        finally:
            subprocess.run(['ip', 'netns', 'del', namespace])
    dir = tempfile.mkdtemp(prefix='zonal-firewall-')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    upstream = None
    try:
        with open(f'{dir}/pass.zone', 'w') as f:
            f.write(f'$ORIGIN {ZONE}.\n$TTL 86400\n@ SOA ns host 1 3600 600 864000 300\n@ NS ns\nns A 192.0.2.1\n* A 192.0.2.2\n')
        with open(f'{dir}/nsd.conf', 'w') as f:
            f.write(NSD.format(dir=dir, up=UPSTREAM[0], up_port=UPSTREAM[1]))
        upstream = subprocess.Popen([shutil.which('nsd') or '/usr/sbin/nsd', '-d', '-c', f'{dir}/nsd.conf'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        all_servers = {name: definition for name, definition in servers(a.zonal).items() if name in a.only.split(',')}
        compare(dir, all_servers, a)
    finally:
        if upstream:
            upstream.terminate()
            upstream.wait()
        if a.keep:
            print(f'data: {dir}')
        else:
            shutil.rmtree(dir, ignore_errors=True)


def compare(dir, all_servers, a):
    empty, queries = {}, {'blocked': f'{dir}/blocked', 'passed': f'{dir}/passed'}
    with open(queries['passed'], 'w') as f:
        f.write(''.join(f'h{n}.{ZONE} A\n' for n in range(PASSED)))
    write_lists(f'{dir}/empty', range(1))
    for name, definition in all_servers.items():
        server = Server(name, definition, dir, f'{dir}/empty', [0, 1])
        try:
            server.wait_for(name_of(0), 3, a)
            time.sleep(1)
            empty[name] = server.rss()
        finally:
            server.stop()
    for size in map(int, filter(None, a.sizes.split(','))):
        average = write_lists(f'{dir}/list', range(size))
        a.last = name_of(size - 1)
        with open(queries['blocked'], 'w') as f:
            f.write(''.join(f'{name_of(random.randrange(size))} A\n' for _ in range(50_000)))
        print(f'\n{size} names of {average:.1f} octets on average')
        print(f'{"":10}{"load":>9}{"memory":>11}{"a name":>11}' + (f'{"blocked":>12}{"passed":>12}{"no firewall":>14}' if a.seconds else ''))
        for name, definition in all_servers.items():
            server = Server(name, definition, dir, f'{dir}/list', [0, 1])
            try:
                seconds = server.wait_for(a.last, 3, a)
                if isinstance(seconds, str):
                    print(f'{name:10}{seconds}', flush=True)
                    continue
                time.sleep(2)
                memory = server.rss() - empty[name]
            finally:
                server.stop()
            line = f'{name:10}{seconds:>7.2f} s{memory * 1.048576:>8.1f} MB{memory * 1048576 / size:>9.1f} B'
            cpu = measure_cpu(name, definition, dir, f'{dir}/list', a, queries) if a.seconds else {}
            line += cpu if isinstance(cpu, str) else ''.join(f'{cpu[kind]:>{width}.2f} us' for kind, width in (('blocked', 9), ('passed', 9), ('none', 11)) if cpu)
            print(line, flush=True)
    if not a.reload:
        return
    print(f'\na list of {a.reload} names is reloaded under {a.rate} queries per second: medians of {a.rounds} rounds [lowest, highest]')
    print(f'{"":10}{"memory, peak":>24}{"p99":>24}{"time":>10}{"lost":>8}')
    for name, definition in all_servers.items():
        rows = measure_reload(name, definition, dir, a.reload, a)
        if isinstance(rows, str):
            print(f'{name:10}{rows}', flush=True)
            continue
        columns = list(zip(*rows))
        spread = lambda values: f'{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]'
        print(f'{name:10}{spread(columns[0]):>24}{spread(columns[1]):>24}{statistics.median(columns[2]):>8.1f} s{sum(columns[3]):>8}', flush=True)


if __name__ == '__main__':
    main()
