#!/usr/bin/env python3
"""Measures the queries that are lost in restarts under load.

    restart.py target/dist/zonal [--rate 50000] [--seconds 20] [--restarts 5] [--way usr2|beside|systemd|all]

A server answers on one address in its own network namespace, and dnsperf queries it at a steady rate over many sockets.
Meanwhile the server restarts again and again: by SIGUSR2, by a second process that starts beside it, or by systemd,
which keeps its sockets open meanwhile. This script acts as systemd: it receives on NOTIFY_SOCKET, stores the sockets
that it gets, and passes them to the next process.

dnsperf sends each query once, and counts queries without an answer within five seconds. The script also prints the
packets that the kernel dropped because a receive buffer was full, and the longest time without an answer that a probe
with a thousand queries per second saw. Needs root, dnsperf and iproute2.
"""
import argparse, array, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

PORT, ADMIN = 5395, 9159


class Systemd:
    """systemd's side of a service of Type=notify that stores file descriptors."""

    def __init__(self, directory, command):
        self.path, self.command = f'{directory}/notify', command
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.kept, self.main, self.ready, self.child = {}, None, threading.Event(), None
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            space = socket.CMSG_SPACE(64 * 4) + socket.CMSG_SPACE(12)
            data, ancillary, _, _ = self.socket.recvmsg(65536, space)
            fds, sender = [], None
            for level, kind, content in ancillary:
                if kind == socket.SCM_RIGHTS:
                    fds = list(array.array('i', content[:len(content) // 4 * 4]))
                if kind == socket.SCM_CREDENTIALS:
                    sender = struct.unpack('iII', content[:12])[0]
            if sender != self.main:  # NotifyAccess=main
                print(f'not the main process: {sender}, which says {data}', file=sys.stderr)
                continue
            words = dict(line.split('=', 1) for line in data.decode().splitlines() if '=' in line)
            if words.get('FDSTORE') == '1':
                for fd in fds:
                    key = os.fstat(fd).st_ino
                    if any(key == other for _, other, _ in self.kept.values()):
                        os.close(fd)
                    else:
                        self.kept[fd] = (words.get('FDNAME', 'stored'), key, fd)
            if words.get('FDSTOREREMOVE') == '1':
                for fd in [fd for fd, (name, *_) in self.kept.items() if name == words['FDNAME']]:
                    os.close(fd)
                    del self.kept[fd]
            if 'MAINPID' in words:
                self.main = int(words['MAINPID'])
            if words.get('READY') == '1':
                self.ready.set()

    def start(self, log):
        self.ready.clear()
        kept = list(self.kept.values())
        env = dict(os.environ, NOTIFY_SOCKET=self.path)

        def prepare():
            # First copies the descriptors to high numbers, so that none overwrites another.
            high = [os.dup2(fd, 500 + at) for at, (_, _, fd) in enumerate(kept)]
            for at, fd in enumerate(high):
                os.dup2(fd, 3 + at, inheritable=True)
            os.environ['NOTIFY_SOCKET'] = self.path
            if kept:
                os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)),
                                  LISTEN_FDNAMES=':'.join(name for name, *_ in kept))
            os.execv(self.command[0], self.command)

        pid = os.fork()
        if pid == 0:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                prepare()
            finally:
                os._exit(127)
        self.main = pid

    def restart(self, log):
        old = self.main
        began = time.monotonic()
        os.kill(old, signal.SIGTERM)
        await_end(old)
        stopped = time.monotonic()
        self.start(log)
        self.ready.wait(30)
        return f'{(stopped - began) * 1e3:.0f} ms to stop, {(time.monotonic() - stopped) * 1e3:.0f} ms to be ready'


def await_end(pid):
    while True:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
            if done:
                return
        except ChildProcessError:
            if not os.path.exists(f'/proc/{pid}'):
                return
        time.sleep(0.001)


def zone(directory, names):
    os.makedirs(f'{directory}/zones')
    with open(f'{directory}/zones/m.yaml', 'w') as f:
        f.write('vpcs: {v: {region: r, cidr_blocks: [127.0.0.0/8]}}\n'
                'private_hosted_zones: {Z: {name: bench.example, vpc_ids: [v], file: z.zone}}\n')
    with open(f'{directory}/zones/z.zone', 'w') as f:
        f.write('$TTL 3600\n@ SOA ns host 1 7200 900 1209600 60\n@ NS ns\nns A 127.0.0.1\n')
        f.write(''.join(f'h{n} A 10.0.{n // 256 % 256}.{n % 256}\n' for n in range(names)))
    with open(f'{directory}/queries', 'w') as f:
        f.write(''.join(f'h{n}.bench.example A\n' for n in range(names)))
    with open(f'{directory}/zonal.yaml', 'w') as f:
        f.write(f'listen: [{{address: "127.0.0.1:{PORT}"}}]\ncontrol_plane: {{directory: zones}}\ninternet_resolver: none\n'
                f'admin: {{address: "127.0.0.1:{ADMIN}"}}\ntakeover_socket: takeover\nstate_directory: state\n')


def udp_drops():
    with open('/proc/net/snmp') as f:
        names, values = [line.split() for line in f if line.startswith('Udp:')]
    return int(values[names.index('RcvbufErrors')])


class Probe(threading.Thread):
    """Sends a thousand queries per second, and records the longest time between two answers."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest, self.lost, self.stop = 0.0, 0, False

    def run(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(('127.0.0.1', PORT))
        s.settimeout(5)
        query = b'\0\1\1\0\0\1\0\0\0\0\0\0\2h1\5bench\7example\0\0\1\0\1'
        while not self.stop:
            began = time.monotonic()
            s.send(query)
            try:
                s.recv(2048)
            except TimeoutError:
                self.lost += 1
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.001)


def pids(log):
    return [int(pid) for pid in re.findall(r'new process took over process=(\d+)', open(log, errors='replace').read())]


def run(way, options):
    directory = tempfile.mkdtemp(prefix='zonal-restart-')
    zone(directory, 1000)
    os.chdir(directory)
    command = [options.zonal, 'serve', '--config', f'{directory}/zonal.yaml']
    log = open(f'{directory}/log', 'ab')
    systemd, current, told = None, None, []
    if way == 'systemd':
        systemd = Systemd(directory, command)
        systemd.start(log)
        systemd.ready.wait(30)
    else:
        current = subprocess.Popen(command, stdout=log, stderr=log).pid
        while b'admin API' not in open(f'{directory}/log', 'rb').read():
            time.sleep(0.01)
    drops, probe = udp_drops(), Probe()
    load = subprocess.Popen(['dnsperf', '-s', '127.0.0.1', '-p', str(PORT), '-d', f'{directory}/queries', '-Q', str(options.rate),
                             '-l', str(options.seconds), '-c', '16', '-q', '20000'], stdout=subprocess.PIPE, text=True)
    probe.start()
    try:
        for n in range(options.restarts):
            time.sleep(options.seconds / (options.restarts + 1))
            if systemd:
                told.append(systemd.restart(log))
                continue
            before, old, began = len(pids(f'{directory}/log')), current, time.monotonic()
            if way == 'usr2':
                os.kill(current, signal.SIGUSR2)
            else:
                subprocess.Popen(command, stdout=log, stderr=log)
            while len(pids(f'{directory}/log')) == before:
                time.sleep(0.002)
                if time.monotonic() - began > 30:
                    raise SystemExit('nobody has taken over:\n' + open(f'{directory}/log').read())
            current = pids(f'{directory}/log')[-1]
            told.append(f'{(time.monotonic() - began) * 1e3:.0f} ms until it was taken over')
            await_end(old)
        output = load.communicate()[0]
    finally:
        probe.stop = True
        load.kill()
        os.kill(systemd.main if systemd else current, signal.SIGTERM)
        await_end(systemd.main if systemd else current)
    figure = lambda name: re.search(rf'{name}:\s+([\d.]+)', output).group(1)
    print(f'{way}: {options.restarts} restarts; sent {figure("Queries sent")}, answered {figure("Queries completed")}, '
          f'lost {figure("Queries lost")}; {figure("Queries per second")} a second; dropped for want of room '
          f'{udp_drops() - drops}; probe: lost {probe.lost}, waited {probe.longest * 1e3:.0f} ms at most')
    for line in told:
        print(f'  {line}')
    if '--keep' not in sys.argv:
        shutil.rmtree(directory)
    return int(figure('Queries lost')) + probe.lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('zonal')
    parser.add_argument('--rate', type=int, default=50_000)
    parser.add_argument('--seconds', type=float, default=20)
    parser.add_argument('--restarts', type=int, default=5)
    parser.add_argument('--way', choices=['usr2', 'beside', 'systemd', 'all'], default='all')
    parser.add_argument('--keep', action='store_true', help='leave the directory with the log')
    options = parser.parse_args()
    options.zonal = os.path.abspath(options.zonal)
    if 'ZONAL_RESTART' not in os.environ:
        # In its own network namespace, the kernel's counters have no packets of other programs.
        os.environ['ZONAL_RESTART'] = '1'
        inside = 'ip link set lo up && exec "$@"'
        os.execvp('unshare', ['unshare', '-n', 'sh', '-c', inside, 'sh', sys.executable, *sys.argv])
    ways = ['usr2', 'beside', 'systemd'] if options.way == 'all' else [options.way]
    with open('/proc/sys/net/core/rmem_max') as f:
        print(f'net.core.rmem_max is {f.read().strip()}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}')
    sys.exit(1 if sum(run(way, options) for way in ways) else 0)


if __name__ == '__main__':
    main()
