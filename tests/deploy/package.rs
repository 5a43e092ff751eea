//! The Debian package on a temporary copy of the machine's file system: installed, run, upgraded,
//! removed, purged.

use crate::harness::{Scratch, can_run};
use std::path::PathBuf;

/// Mounts an overlay of the machine's file system. Its upper layer holds all files that the package
/// and the program write.
pub const COPY: &str = r#"
package=$1 scratch=$2
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch"/{upper,work,root}
root=$scratch/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp "$package" "$root/tmp/zonal.deb"
within() { chroot "$root" "$@"; }
"#;

const SCRIPT: &str = r#"
ip link set lo up
here() { [[ -e $root$1 || -L $root$1 ]] && echo "$1 is there" || echo "$1 is gone"; }

echo "== install"
within dpkg --install /tmp/zonal.deb >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
within dpkg-query --show --showformat '${db:Status-Status} ${Package} depends on [${Depends}]\n' zonal
within dpkg-query --listfiles zonal | while read -r path; do [[ -d $root$path ]] || echo "$path"; done
echo "conffiles:" $(within dpkg-query --show --showformat '${Conffiles}' zonal | awk '{print $1}')
here /etc/systemd/system/multi-user.target.wants/zonal.service
within systemd-analyze verify zonal.service 2>&1
within /usr/bin/zonal check --config /etc/zonal/zonal.yaml

echo "== run"
# As systemd does for DynamicUser= and StateDirectory=.
mkdir -p -m 700 "$root/var/lib/private"
install -d -o 65534 -g 65534 "$root/var/lib/private/zonal"
ln -s private/zonal "$root/var/lib/zonal"
chmod 711 "$root/var/lib/private"
start=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/zonal.service")
chroot "$root" setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs $start >"$scratch/log" 2>&1 &
server=$!
for _ in {1..300}; do
    answer=$(dig +short +tries=1 +time=1 -b 127.1.0.7 @127.0.0.1 -p 5300 sqs.us-east-1.amazonaws.com) && break
    kill -0 $server 2>/dev/null || { cat "$scratch/log"; exit 1; }
    sleep 0.1
done
echo "answer: $answer"
kill -TERM $server
wait $server && echo "ended well"
[[ -n $(ls "$root/var/lib/zonal") ]] && echo "state was kept"

echo "== upgrade"
echo '# changed here' >>"$root/etc/zonal/zonal.yaml"
mkdir "$root/etc/zonal/zones"
echo 'vpcs: {}' >"$root/etc/zonal/zones/own.yaml"
# With a systemd that says what it is asked for.
sysctl=usr/lib/systemd/systemd-sysctl
mkdir -p "$root/run/systemd/system" "$root/tmp/bin"
for program in "$sysctl" tmp/bin/systemctl; do
    rm -f "$root/$program"
    printf '#!/bin/sh\necho "${0##*/} $*" >>/tmp/asked\n' >"$root/$program"
    chmod 755 "$root/$program"
done
within env PATH="/tmp/bin:$PATH" dpkg --install /tmp/zonal.deb >"$scratch/log" 2>&1 </dev/null || { cat "$scratch/log"; exit 1; }
rm -r "$root/run/systemd/system" "$root/tmp/bin" "$root/$sysctl"
tail -n 1 "$root/etc/zonal/zonal.yaml"
ls "$root/etc/zonal/zones"
grep -e sysctl -e 'zonal.service' "$root/tmp/asked"
rm "$root/tmp/asked"

echo "== remove"
within dpkg --remove zonal >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
here /usr/bin/zonal
here /etc/zonal/zonal.yaml
here /var/lib/zonal/.
rm -r "$root/etc/zonal/zones"

echo "== purge"
within dpkg --purge zonal >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
rm "$root/tmp/zonal.deb"
# dpkg's own files and logs do not count, nor do /run and the index of man pages. Device 0:0 is what the upper layer has for what is gone.
(cd "$scratch/upper" && find . \( -name '*zonal*' -o -type f -o -type l \) ! -type c ! -path './var/lib/dpkg/*' ! -path './var/log/*' ! -path './run/*' ! -path './var/cache/man/*')
within dpkg-query --show zonal 2>&1 || true
"#;

/// The path of the package.
pub fn package() -> PathBuf {
    let files = std::fs::read_dir(super::built()).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "deb")).expect("a package")
}

#[test]
fn package_installs_runs_and_purges() {
    if !can_run(&["cargo-deb", "dpkg", "unshare", "setpriv", "ip", "dig", "systemd-analyze", "strip"]) {
        return;
    }
    let (script, package) = (format!("{COPY}{SCRIPT}"), package().display().to_string());
    let scratch = Scratch::new();
    let command =
        "exec unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c \"$1\" bash \"$2\" \"$3\"";
    let said = super::bash(command, &[&script, &package, scratch.path().to_str().unwrap()]);
    let part = |name: &str| {
        let start = said.find(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name} in\n{said}"));
        said[start..].lines().skip(1).take_while(|line| !line.starts_with("== ")).collect::<Vec<_>>()
    };
    let install = part("install");
    // The program is statically linked, so the package needs no other package.
    assert_eq!(install[0], "installed zonal depends on []", "{said}");
    for path in [
        "/usr/bin/zonal",
        "/usr/lib/systemd/system/zonal.service",
        "/etc/zonal/zonal.yaml",
        "/usr/share/zonal/zones/network.yaml",
        "/usr/share/doc/zonal/copyright",
        "/usr/share/doc/zonal/forwarders/bind.conf",
        "/usr/share/man/man1/zonal.1.gz",
        "/usr/share/man/man1/zonal-cache-show.1.gz",
    ] {
        assert!(install.contains(&path), "{path} is not in the package:\n{said}");
    }
    // The demo zones are no conffiles: an upgrade must not merge them into files of the
    // administrator.
    assert!(install.contains(&"conffiles: /etc/zonal/zonal.yaml"), "{said}");
    assert!(install.contains(&"/etc/systemd/system/multi-user.target.wants/zonal.service is there"), "{said}");
    assert_eq!(part("run"), ["answer: 127.2.0.10", "ended well", "state was kept"], "{said}");
    // The administrator's files remain alone, the sysctl limit applies at once, and the new program
    // takes over without a stop.
    let upgraded = part("upgrade");
    assert_eq!(upgraded[..2], ["# changed here", "own.yaml"], "{said}");
    let asked = &upgraded[2..];
    for one in ["systemd-sysctl --prefix=net/core/rmem_max", "systemctl kill -s USR2 zonal.service"] {
        assert!(asked.contains(&one), "{one} is not among\n{said}");
    }
    assert!(!asked.iter().any(|one| one.contains("restart") || one.contains(" stop")), "{said}");
    let kept = ["/usr/bin/zonal is gone", "/etc/zonal/zonal.yaml is there", "/var/lib/zonal/. is there"];
    assert_eq!(part("remove"), kept, "{said}");
    let purge = part("purge");
    assert!(purge.len() == 1 && purge[0].contains("no packages found"), "something is left:\n{said}");
}
