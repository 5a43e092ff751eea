#!/usr/bin/env python3
"""Compares zonal and Unbound while their forwarding targets fail: the share of answered queries, and their delay.

    faults.py target/dist/zonal [--seconds 8] [--rate 50] [--rows killed,lossy] [--only zonal] [--json FILE]

There are one or two targets, each an NSD behind a relay in its own network namespace. A row applies one fault to the
first target:

    killed       its port is closed, and the kernel reports that
    blackholed   no packet passes
    slow         every packet takes 400 ms longer
    lossy        three of ten queries are lost, and three of ten answers
    both lossy   the same at both targets
    restarted    its port is closed for the middle third of the time

Each row runs for both servers, one directly after the other, with the same targets and relays. The client sends
--rate queries per second from one socket, each for a new name. It waits 5 seconds for an answer, and repeats no query.
One second without the fault precedes it and does not count; in `restarted` the whole time counts. The result is the
share of queries with the right answer, and the 99th percentile of their time.

The exit status is 1 if zonal answered fewer queries than Unbound. Needs root, unbound, nsd and iproute2.
"""
import argparse, heapq, json, os, random, select, shutil, signal, socket, struct, subprocess, sys, tempfile, time

CLIENT_WAITS = 5.0
SERVER, ZONE, ADDRESS = '10.9.0.1', 'fwd.example', '192.0.2.1'
ROWS = [('none', 1), ('killed', 1), ('blackholed', 1), ('slow', 1), ('lossy', 1), ('restarted', 1),
        ('none', 2), ('killed', 2), ('blackholed', 2), ('slow', 2), ('lossy', 2), ('both lossy', 2), ('restarted', 2)]


# ---------------------------------------------------------------- the relay in front of a target

def relay(address, seed):
    """Relays datagrams between port 53 and 127.0.0.1:5353. Reads its modes as lines from standard input."""
    dice, mode, front, back, clients = random.Random(seed), 'pass', None, {}, {}
    due, count = [], 0
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)

    def listen(on):
        nonlocal front
        if on and front is None:
            front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            front.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            front.bind((address, 53))
            front.setblocking(False)
            poll.register(front.fileno(), select.EPOLLIN)
        elif not on and front is not None:
            poll.unregister(front.fileno())
            front.close()
            front = None

    def send(to, octets):
        nonlocal count
        if mode == 'lossy' and dice.random() < 0.3 or mode == 'blackholed':
            return
        count += 1
        heapq.heappush(due, (time.monotonic() + (0.2 if mode == 'slow' else 0), count, to, octets))

    listen(True)
    while True:
        wait = max(0, due[0][0] - time.monotonic()) if due else 1
        for fd, _ in poll.poll(wait):
            if fd == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                mode = line.strip()
                listen(mode != 'killed')
                print('done', flush=True)
            elif front is not None and fd == front.fileno():
                try:
                    octets, client = front.recvfrom(4096)
                except BlockingIOError:
                    continue
                # One socket for each client address, so that its answers go back to that client.
                if client not in clients:
                    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    other.connect(('127.0.0.1', 5353))
                    other.setblocking(False)
                    poll.register(other.fileno(), select.EPOLLIN)
                    clients[client], back[other.fileno()] = other, client
                    if len(clients) > 4000:
                        old = next(iter(clients))
                        gone = clients.pop(old)
                        poll.unregister(gone.fileno())
                        del back[gone.fileno()]
                        gone.close()
                send(('back', client), octets)
            elif fd in back:
                client = back[fd]
                try:
                    send(('front', client), clients[client].recv(4096))
                except OSError:
                    continue
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, (way, client), octets = heapq.heappop(due)
            try:
                if way == 'back' and client in clients:
                    clients[client].send(octets)
                elif way == 'front' and front is not None:
                    front.sendto(octets, client)
            except OSError:
                pass


# ---------------------------------------------------------------- the client

def query(number, name):
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    return struct.pack('>HHHHHH', number, 0x0100, 1, 0, 0, 1) + labels + b'\0\0\1\0\1' + b'\0\0\x29\x04\xd0\0\0\0\0\0\0'


def load(rate, seconds, prefix, faults, relays):
    """Sends queries, and applies the faults `(second, relay, mode)` in time. Returns send times and answer times."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((SERVER, 53))
    sock.setblocking(False)
    sent, took, start, faults = {}, {}, time.monotonic(), sorted(faults)
    total, n = int(rate * seconds), 0
    while True:
        now = time.monotonic() - start
        while faults and faults[0][0] <= now:
            _, which, mode = faults.pop(0)
            relays[which].say(mode)
        if n < total and n / rate <= now:
            sent[n] = now
            try:
                sock.send(query(n, f'{prefix}{n}.{ZONE}'))
            except OSError:
                pass
            n += 1
            continue
        if n == total and (len(took) == total or now > sent[n - 1] + CLIENT_WAITS):
            return sent, took
        wait = max(0, min(n / rate - now if n < total else 1, faults[0][0] - now if faults else 1))
        if select.select([sock], [], [], min(wait, 0.05))[0]:
            try:
                reply = sock.recv(4096)
            except OSError:
                continue
            number, flags, _, answers = struct.unpack('>HHHH', reply[:8])
            late = time.monotonic() - start - sent.get(number, 0)
            right = flags & 0x8f == 0x80 and answers == 1 and socket.inet_aton(ADDRESS) in reply
            if number in sent and number not in took:
                took[number] = late if right and late <= CLIENT_WAITS else None


# ---------------------------------------------------------------- the machines

class Process:
    def __init__(self, namespace, command, **more):
        self.process = subprocess.Popen(['ip', 'netns', 'exec', namespace] + command, text=True,
                                        **{'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL, **more})

    def say(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        self.process.stdout.readline()

    def stop(self):
        self.process.kill()
        self.process.wait()


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class World:
    """A namespace for the server and the client, and one for each target."""

    def __init__(self, directory):
        self.directory, self.names, self.running = directory, [], []
        self.prefix = f'zonal-{os.getpid()}-faults'
        self.main = self.namespace('main')
        run('ip', '-n', self.main, 'addr', 'add', f'{SERVER}/32', 'dev', 'lo')
        self.targets = [self.target(i) for i in (1, 2)]

    def namespace(self, name):
        name = f'{self.prefix}-{name}'
        run('ip', 'netns', 'add', name)
        self.names.append(name)
        run('ip', '-n', name, 'link', 'set', 'lo', 'up')
        return name

    def target(self, i):
        there, address = self.namespace(f't{i}'), f'10.9.{i}.2'
        run('ip', '-n', self.main, 'link', 'add', f't{i}', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', there)
        for namespace, device, own in [(self.main, f't{i}', f'10.9.{i}.1'), (there, 'eth0', address)]:
            run('ip', '-n', namespace, 'addr', 'add', f'{own}/24', 'dev', device)
            run('ip', '-n', namespace, 'link', 'set', device, 'up')
        own = f'{self.directory}/t{i}'
        os.makedirs(own)
        with open(f'{own}/zone', 'w') as f:
            f.write(f'@ 300 SOA ns hostmaster 1 3600 600 86400 60\n@ 300 NS ns\n* 300 A {ADDRESS}\n')
        with open(f'{own}/nsd.conf', 'w') as f:
            f.write(f'server:\n  ip-address: 127.0.0.1@5353\n  username: ""\n  chroot: ""\n  zonesdir: "{own}"\n  database: ""\n'
                    f'  pidfile: "{own}/pid"\n  xfrdfile: "{own}/xfrd"\n  zonelistfile: "{own}/list"\n  server-count: 1\n'
                    f'remote-control:\n  control-enable: no\nzone:\n  name: {ZONE}\n  zonefile: zone\n')
        self.running.append(Process(there, ['nsd', '-d', '-c', f'{own}/nsd.conf']))
        return there, address

    def relays(self, seed):
        relays = []
        for i, (namespace, address) in enumerate(self.targets):
            command = [sys.executable, os.path.abspath(__file__), '--relay', address, '--seed', str(seed + i)]
            relays.append(Process(namespace, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            relays[-1].say('pass')
        return relays

    def server(self, kind, zonal, targets):
        d = tempfile.mkdtemp(dir=self.directory)
        addresses = [address for _, address in self.targets[:targets]]
        if kind == 'zonal':
            os.makedirs(f'{d}/zones')
            ips = ', '.join(f'{{ip: {address}}}' for address in addresses)
            with open(f'{d}/zones/m.yaml', 'w') as f:
                f.write(f'vpcs:\n  vpc: {{region: us-east-1, cidr_blocks: [10.9.0.0/16]}}\nresolver_rules:\n'
                        f'  rr: {{domain_name: {ZONE}, rule_type: FORWARD, vpc_ids: [vpc], target_ips: [{ips}]}}\n')
            with open(f'{d}/zonal.yaml', 'w') as f:
                f.write(f'listen: [{{address: "{SERVER}:53"}}]\ncontrol_plane: {{directory: zones}}\n')
            return Process(self.main, [zonal, 'serve', '--config', f'{d}/zonal.yaml'])
        with open(f'{d}/unbound.conf', 'w') as f:
            f.write(f'server:\n  interface: {SERVER}\n  access-control: 10.9.0.0/16 allow\n  username: ""\n  chroot: ""\n'
                    f'  pidfile: ""\n  directory: "{d}"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n'
                    '  module-config: "iterator"\nremote-control:\n  control-enable: no\n'
                    f'forward-zone:\n  name: {ZONE}\n' + ''.join(f'  forward-addr: {address}\n' for address in addresses))
        return Process(self.main, ['unbound', '-d', '-c', f'{d}/unbound.conf'])

    def close(self):
        for process in self.running:
            process.stop()
        for name in self.names:
            subprocess.run(['ip', 'netns', 'del', name])


# ---------------------------------------------------------------- rows

def faults_of(row, targets, before, seconds):
    if row == 'none':
        return []
    if row == 'both lossy':
        return [(before, 0, 'lossy'), (before, 1, 'lossy')]
    if row == 'restarted':
        return [(before + seconds / 3, 0, 'killed'), (before + 2 * seconds / 3, 0, 'pass')]
    return [(before, 0, row)]


def measure(world, kind, zonal, row, targets, args):
    """Measures a row in a child process, because a process can be in only one network namespace."""
    relays = world.relays(7)
    server = world.server(kind, zonal, targets)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fd = os.open(f'/run/netns/{world.main}', os.O_RDONLY)
            set_namespace(fd)
            for attempt in range(200):
                sent, took = load(1, 1, f'ready{attempt}-{kind}', [], relays) if attempt % 2 else load(20, 0.05, f'r{attempt}', [], relays)
                if any(took.values()):
                    break
            before = 1.0
            faults = faults_of(row, targets, before, args.seconds)
            sent, took = load(args.rate, before + args.seconds, 'n', faults, relays)
            took = [took.get(n) for n, at in sent.items() if at >= before]
            os.write(write, json.dumps(took).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        text = f.read()
    os.waitpid(pid, 0)
    server.stop()
    for relay in relays:
        relay.stop()
    took = json.loads(text)
    answered = sorted(t for t in took if t is not None)
    p99 = answered[min(len(answered) - 1, int(len(answered) * 0.99))] if answered else None
    return {'asked': len(took), 'answered': len(answered), 'share': len(answered) / len(took), 'p99_ms': p99 and p99 * 1000}


def set_namespace(fd):
    import ctypes
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
        raise OSError(ctypes.get_errno(), 'setns')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('zonal', nargs='?')
    parser.add_argument('--seconds', type=float, default=8)
    parser.add_argument('--rate', type=float, default=50)
    parser.add_argument('--rows', help='only these, by their first words')
    parser.add_argument('--only', help='zonal or unbound')
    parser.add_argument('--json', help='a file for the numbers')
    parser.add_argument('--relay', help=argparse.SUPPRESS)
    parser.add_argument('--seed', type=int, default=7, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.relay:
        return relay(args.relay, args.seed)
    if not args.zonal:
        parser.error('which zonal?')
    zonal, directory = os.path.abspath(args.zonal), tempfile.mkdtemp(prefix='zonal-faults-')
    kinds = [args.only] if args.only else ['zonal', 'unbound']
    world, table, worse = None, [], []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        world = World(directory)
        print(f'{"fault":12} {"targets":>7}   ' + '   '.join(f'{kind:>8} answered {"p99":>8}' for kind in kinds), flush=True)
        for row, targets in ROWS:
            if args.rows and row not in args.rows.split(','):
                continue
            results = {kind: measure(world, kind, zonal, row, targets, args) for kind in kinds}
            table.append({'fault': row, 'targets': targets, **results})
            cells = [f'{r["share"]:17.1%} ' + (f'{r["p99_ms"]:5.0f} ms' if r['p99_ms'] is not None else f'{"-":>8}') for r in results.values()]
            bad = len(kinds) == 2 and results['zonal']['answered'] < results['unbound']['answered']
            worse += [(row, targets)] if bad else []
            print(f'{row:12} {targets:7}   ' + '   '.join(cells) + ('   fewer than Unbound' if bad else ''), flush=True)
    finally:
        if world:
            world.close()
        shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        with open(args.json, 'w') as f:
            json.dump({'rate': args.rate, 'seconds': args.seconds, 'rows': table}, f, indent=1)
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
