# SPDX-License-Identifier: MIT
"""Two hosts with a libvirtd each, and Ansible on a third machine, the lab itself.

    mgmt0 192.0.2.1 ─┬─ alpha 192.0.2.11: systemd, no hooks; its libvirtd is no service
                     └─ beta  192.0.2.12: another tool's network hook; lacks a package; its libvirtd is a service

The tests take the hosts through an operator's life with the role, in the order of the files.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from iproute import eventually, ip
from packages import DIST

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
HOSTS = {"alpha": "192.0.2.11", "beta": "192.0.2.12"}
FIRST_PROCESS = {"alpha": "systemd", "beta": "sh"}
COLLECTIONS = "/run/collections"
METRICS = "/var/lib/metrics"
MAC, MAC2 = "52:54:00:00:00:01", "52:54:00:00:00:02"
ZEROTIER, SERVER = ["46", "PVID", "Egress", "Untagged"], ["3", "PVID", "Egress", "Untagged"]  # as vlans() returns
FOREIGN = "#!/bin/sh\nexit 0\n"
RESTART = "env LAB=1 /usr/local/sbin/start-libvirtd"
SERVICE = f"""#!/bin/sh
pid=$(cat /run/libvirtd.pid)
case $1 in
    status) kill -0 "$pid" && echo running ;;
    start) {RESTART} ;;
    stop) kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done ;;
    *) exit 1 ;;
esac
"""
PACKAGE = "python3-tenacity"
# Take a package away, and have a repository of that one, made of what is installed: the lab reaches no other.
WITHOUT_PACKAGE = f"""set -eu
mkdir -p /run/repository/tree/DEBIAN && cd /run/repository
dpkg -L {PACKAGE} | tar -c --no-recursion -P -T - | tar -x -C tree
dpkg-query -s {PACKAGE} | grep -v ^Status: >tree/DEBIAN/control
dpkg-deb -b tree {PACKAGE}.deb
(cat tree/DEBIAN/control && stat --printf 'Filename: %n\\nSize: %s\\n' {PACKAGE}.deb &&
    echo "SHA256: $(sha256sum <{PACKAGE}.deb | cut -c 1-64)") >Packages
rm -f /etc/apt/sources.list.d/*
echo "deb [trusted=yes] file:$PWD ./" >/etc/apt/sources.list
apt-get -qq update
dpkg -r --force-depends {PACKAGE}
"""
collect_ignore = [] if "LAB_UPGRADE" in os.environ else ["test_upgrade.py"]  # tox -e upgrade
INVENTORY = f"""[hypervisors]
alpha libvirt_hooks_restart_command='{RESTART}'
beta

[with_systemd]
alpha

[with_systemd:vars]
libvirt_hooks_monitoring=prometheus
libvirt_hooks_textfile_directory={METRICS}

[hypervisors:vars]
ansible_become=false
"""
NETWORK = """<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/>
<portgroup name='server-3'/><portgroup name='zerotier-46'/></network>"""
ANSIBLE = {
    "ANSIBLE_FORKS": "1",  # the lab has one processor
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_SSH_ARGS": "",  # ~/.ssh/config has them
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    "ANSIBLE_GATHERING": "smart",
    "ANSIBLE_CACHE_PLUGIN": "jsonfile",
    "ANSIBLE_CACHE_PLUGIN_CONNECTION": "/run/facts",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS,
}


def pytest_sessionstart():
    """Outside the lab, these tests would change a real machine's network and root's ssh."""
    if os.environ.get("LAB") != "1":
        pytest.exit("run it in the lab: tests/lab/run --memory 2048M -- python3 -m pytest tests/ansible", returncode=1)


def on(host, command, stdin=None):
    """Run a shell's command on a host, and return its stdout. Raises AssertionError, with its stderr, if it fails."""
    done = subprocess.run(["ssh", host, command], input=stdin or "", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{host}: {command}: {done.stderr.strip()}"
    return done.stdout.strip()


def write(host, path, content, mode="644"):
    """Have this file on a host."""
    where = shlex.quote(path)
    on(host, f"mkdir -p {shlex.quote(str(Path(path).parent))} && cat >{where} && chmod {mode} {where}", content)


def has_package(host):
    """Return whether a host has PACKAGE."""
    return "installed" in on(host, f"dpkg-query -W -f '${{Status}}' {PACKAGE} || true").split()


def pid(host):
    """Return the process id of a host's libvirtd."""
    return int(on(host, "cat /run/libvirtd.pid"))


def tree(host):
    """Return a line for each file and directory of the hooks' places on a host: its mode, owner and content.

    What the link libvirt_hooks leads to counts, not which of two directories that is."""
    places = "/etc/libvirt/hooks /usr/local/sbin /usr/local/share/man $(ls -d /usr/local/lib/systemd 2>/dev/null)"
    find = f"find -L {places} \\( -name __pycache__ -o -name 'libvirt_hooks-[12]' \\) -prune -o"
    return on(host, f"{find} -printf '%m %U:%G %p\n' && {find} -type f -exec sha256sum {{}} +").splitlines()


def play(*arguments, playbook=REPOSITORY / "ansible/site.yml"):
    """Run a playbook with these arguments; return its exit status, its output, and what changed by host."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", "/run/inventory", playbook, *arguments]
    done = subprocess.run(
        command, cwd="/", env={**os.environ, **ANSIBLE}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 ", done.stdout, re.MULTILINE)
    print(done.stdout)
    assert recap, done.stdout + done.stderr
    assert "[WARNING]" not in done.stderr
    assert "[DEPRECATION" not in done.stderr
    changed = {host: int(count) for host, count in recap}
    return SimpleNamespace(status=done.returncode, output=done.stdout, changed=changed)


def domain(name, mac, portgroup):
    """Return the XML of an Arm VM of 16 MiB with one NIC."""
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os><devices>"
        f"<interface type='network'><mac address='{mac}'/><source network='lan' portgroup='{portgroup}'/>"
        "<model type='virtio'/><rom enabled='no'/></interface><memballoon model='none'/></devices></domain>"
    )


def tap(host, vm):
    """Return the name of a VM's only tap, as libvirt says it."""
    return re.search(r"\bvnet\d+\b", on(host, f"virsh -q domiflist {vm}")).group()


def vlans(host, port):
    """Return what `bridge` says of a port's VLANs on a host, as words: ["46", "PVID", "Egress", "Untagged"]."""
    return on(host, f"bridge vlan show dev {port}").split()[3:]


@pytest.fixture(scope="session")
def hosts():
    """Boot both, each with its libvirtd, a bridge that filters VLANs, and a network; on alpha a VM runs already."""
    ip("link", "add", "mgmt0", "type", "bridge")
    ip("link", "set", "mgmt0", "up")
    ip("address", "add", "192.0.2.1/24", "dev", "mgmt0")
    let_ssh_in()
    Path("/run/inventory").write_text(INVENTORY)
    start = REPOSITORY / "tests/ansible/start-host"
    started = [subprocess.Popen([start, host, HOSTS[host], FIRST_PROCESS[host]]) for host in HOSTS]
    for host in HOSTS:
        eventually(lambda host=host: subprocess.run(["ssh", host, "true"], check=False).returncode == 0)
        on(host, "ip link add br0 type bridge vlan_filtering 1 && ip link set br0 up")
    write("beta", "/etc/libvirt/hooks/network", FOREIGN, "755")
    on("beta", WITHOUT_PACKAGE)
    write("beta", "/etc/init.d/libvirtd", SERVICE, "755")
    on("beta", "rm -f /sbin/init")  # a link to systemd's, by which Ansible knows hosts that have it
    for host in HOSTS:
        on(host, RESTART)
        on(host, "virsh -q net-define /dev/stdin && virsh -q net-start lan", NETWORK)
    on("alpha", "virsh -q create --paused /dev/stdin", domain("early", MAC2, "server"))
    yield
    for process in started:
        process.kill()


def let_ssh_in():
    """Give root of this machine one key for all hosts, which see this machine's files when they boot."""
    directory = Path.home() / ".ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-A"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "id_lab"], check=True)
    (directory / "authorized_keys").write_text((directory / "id_lab.pub").read_text())
    (directory / "known_hosts").write_text(f"* {Path('/etc/ssh/ssh_host_ed25519_key.pub').read_text()}")
    (directory / "config").write_text(
        f"IdentityFile {directory}/id_lab\n"
        "ControlMaster auto\nControlPath /run/ssh-%h\nControlPersist 10m\nLogLevel ERROR\n"
    )
    with open("/etc/hosts", "a") as file:
        file.writelines(f"{address} {host}\n" for host, address in HOSTS.items())


@pytest.fixture(scope="session")
def collection():
    """Install the collection that make collection has built outside the lab, and give its name."""
    archive = DIST / f"libvirt_hooks-vlan-{VERSION}.tar.gz"
    program = Path(sys.executable).with_name("ansible-galaxy")
    command = [program, "collection", "install", "--offline", "-p", COLLECTIONS, archive]
    subprocess.run(command, env={**os.environ, **ANSIBLE}, check=True, stdin=subprocess.DEVNULL)
    return "libvirt_hooks.vlan"


@pytest.fixture(scope="session")
def preview(hosts):
    """Give what --check --diff says on hosts that have never seen the role, and what was there before and after."""
    before = {host: (tree(host), pid(host)) for host in HOSTS}
    run = play("--check", "--diff")
    run.lacked_package = not has_package("beta")
    run.before, run.after = before, {host: (tree(host), pid(host)) for host in HOSTS}
    return run


@pytest.fixture(scope="session")
def installed(preview):
    """Give what the first real run says. From then on the hooks are there."""
    return play("--diff")
