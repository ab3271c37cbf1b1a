"""Replay the Dockerfile in a chroot, without Docker; then try the result and measure its size.

    sudo python benchmarks/container.py [--torch-index URL] [--mirror URL] [--root FOLDER]

debootstrap makes a clean Debian, cut down as Debian's slim images are. There the Dockerfile's instructions run in their
order. COPY takes from the working tree what .dockerignore leaves. The result is then used as a container would be: by
uid 1000 and by a uid that it does not know, with a folder mounted at /data, without network. Progress goes to stderr,
results to stdout.

Some machines reach package indexes only through a proxy or a mirror. `--bind PATH` shows a file or folder of this
machine to the build (read-only), `--env NAME=VALUE` sets a variable; neither is there when the result is tried.
Certificates must be in a folder that no Debian package writes to. `--torch-index FOLDER`, with the wheel of torch in
it, is for machines that do not reach PyTorch's index.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

CONTEXT = Path(__file__).parent.parent
DOCKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STRANGER = 4321
"""A uid that the image does not know, as in `docker run --user 4321:4321`."""

SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
path-exclude /usr/share/man/*
"""
"""What dpkg leaves out in Debian's slim images."""

DOCKER_CLEAN = 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
"""How apt is set up in Debian's images."""

HOSTS = "127.0.0.1\tlocalhost\n"
"""The addresses that Docker gives a container."""

CACHES = ("var/cache/apt", "var/lib/apt/lists", "root/.cache", "home/trinas/.cache", "src", "tmp")

CLONE_NEWNS = 0x20000
"""From <sched.h>: a separate mount table."""

SIDES_PX = (48, 32)
SCALE = 4
SUFFIXES = ("png", "jpg", "webp", "tif", "avif")
"""Formats whose libraries are tried."""

IMPORT_ALL = """
import importlib, re, torch
from importlib.metadata import packages_distributions, requires
def plain(name): return re.sub(r"[-_.]+", "-", name).lower()
needed = {plain(re.match(r"[\\w.-]+", line)[0]) for line in requires("trinas-upscale") if "extra ==" not in line}
for module, packages in packages_distributions().items():
    if needed & set(map(plain, packages)):
        importlib.import_module(module)
assert torch.version.cuda is None, f"torch {torch.__version__} is a CUDA build"
print(f"{len(needed)} dependencies import, torch is {torch.__version__}")
"""
DRAW = """
import sys
from PIL import Image
*sides, folder, suffixes = sys.argv[1:]
sides = tuple(map(int, sides))
channels = [Image.effect_mandelbrot(sides, (-2, -1, 1, 1), quality) for quality in (20, 60, 100)]
for suffix in suffixes.split():
    Image.merge("RGB", channels).save(f"{folder}/image.{suffix}")
"""
MEASURE = 'import sys; from PIL import Image; print(*Image.open(sys.argv[1]).size, sep="x")'


class ReplayError(Exception):
    """The replay cannot start or continue; the message says why."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile."""

    word: str
    text: str

    def command(self) -> list[str]:
        """Return the exec form as it is, and the shell form as Docker runs it."""
        return json.loads(self.text) if self.text.startswith("[") else ["/bin/sh", "-c", self.text]


@dataclasses.dataclass
class Container:
    """A root folder, and how the Dockerfile says to run in it, as far as it was read."""

    root: Path
    environment: dict[str, str] = dataclasses.field(default_factory=lambda: {"PATH": DOCKER_PATH})
    arguments: dict[str, str] = dataclasses.field(default_factory=dict)
    workdir: str = "/"
    user: str = "0"
    health: list[str] = dataclasses.field(default_factory=list)
    entrypoint: list[str] = dataclasses.field(default_factory=list)
    command: list[str] = dataclasses.field(default_factory=list)

    def run(self, command: list[str], variables: Mapping[str, str] | None = None, network: bool = False) -> str:
        """Run a command in the root and return its stdout."""
        uid, gid, home = find_account(self.root, self.user)
        environment = {"HOME": home, **(variables or {}), **self.environment}
        alone = [] if network else ["unshare", "--net"]
        enter = ["chroot", f"--userspec={uid}:{gid}", str(self.root), "env", "-i", "-C", self.workdir]
        assignments = [f"{name}={value}" for name, value in environment.items()]
        return run([*alone, *enter, *assignments, *command])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", metavar="FOLDER", type=Path, help="new or empty; keep what is built, here")
    parser.add_argument("--torch-index", metavar="URL", help="the build argument TORCH_INDEX; or a folder of wheels")
    parser.add_argument("--mirror", metavar="URL", default="http://deb.debian.org/debian", help="of Debian's packages")
    parser.add_argument("--bind", metavar="PATH", type=Path, action="append", default=[], help="show it to the build")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="set it for the build")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    try:
        check_machine(options)
        take_mount_table()
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(make_root(options.root))
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            replay(root, scratch, options)
    except ReplayError as error:
        sys.exit(f"container.py: {error}")


def replay(root: Path, scratch: Path, options: argparse.Namespace) -> None:
    instructions = read_dockerfile((CONTEXT / "Dockerfile").read_text())
    binds = [*options.bind, *(path for path in map(Path, ("/etc/resolv.conf", "/etc/hosts")) if path.exists())]
    overrides = {}
    if options.torch_index:
        overrides["TORCH_INDEX"] = options.torch_index
        if Path(options.torch_index).is_dir():
            binds += [Path(options.torch_index).resolve(), scratch]
            overrides["TORCH_INDEX"] = make_index(Path(options.torch_index).resolve(), scratch)
    debootstrap(root, read_base_suite(instructions), options.mirror)
    sizes = [(f"Debian {read_base_suite(instructions)}, the base", measure_mb(root))]
    container = Container(root)
    variables = dict(assignment.split("=", 1) for assignment in options.env)
    with mount_all(root, list_system_mounts() + [(["--bind", "-o", "ro", str(path)], str(path)) for path in binds]):
        for instruction in instructions[1:]:
            perform(container, instruction, overrides, variables)
            if instruction.word in ("RUN", "COPY"):
                sizes.append((f"{instruction.word} {shorten(instruction.text)}", measure_mb(root)))
    print_sizes(sizes)
    (root / "etc/hosts").write_text(HOSTS)
    with mount_all(root, list_system_mounts()):
        try_out(container, scratch)


# The Dockerfile


def read_dockerfile(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    logical = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in logical]


def read_base_suite(instructions: list[Instruction]) -> str:
    first = instructions[0]
    match = re.fullmatch(r"debian:(\w+)-slim", first.text)
    if first.word != "FROM" or not match:
        raise ReplayError(f"can only start FROM debian:SUITE-slim, not {first.word} {first.text}")
    return match[1]


def perform(
    container: Container, instruction: Instruction, overrides: Mapping[str, str], variables: Mapping[str, str]
) -> None:
    """Carry out one instruction; forms that our Dockerfile does not use are refused."""
    print(f"\n{instruction.word} {instruction.text}", file=sys.stderr, flush=True)
    match instruction.word:
        case "EXPOSE":
            pass  # only a note to the reader
        case "ARG":
            name, _, default = instruction.text.partition("=")
            container.arguments[name] = overrides.get(name, default)
        case "ENV":
            name, _, value = instruction.text.partition("=")
            container.environment[name] = string.Template(value).substitute(container.environment)
        case "RUN":
            container.run(instruction.command(), {**variables, **container.arguments}, network=True)
        case "COPY":
            copy(container, *instruction.text.split())
        case "WORKDIR":
            container.workdir = instruction.text
            find_place(container.root, instruction.text).mkdir(parents=True, exist_ok=True)
        case "USER":
            container.user = instruction.text
        case "HEALTHCHECK":
            container.health = Instruction("CMD", instruction.text.partition("CMD ")[2]).command()
        case "ENTRYPOINT":
            container.entrypoint = instruction.command()
        case "CMD":
            container.command = instruction.command()
        case word:
            raise ReplayError(f"the replay does not know the instruction {word}")


def copy(container: Container, *words: str) -> None:
    *sources, target = words
    if not sources or not target.endswith("/") or any(word.startswith("--") for word in words):
        raise ReplayError(f"can only COPY files or folders to a folder, written with a / at its end: {' '.join(words)}")
    folder = find_place(container.root, PurePosixPath(container.workdir) / target)
    patterns = read_ignore_patterns((CONTEXT / ".dockerignore").read_text())
    for source in (CONTEXT / word for word in sources):
        for path in list_files(source):
            if not is_ignored(path.relative_to(CONTEXT), patterns):
                copied = folder / path.relative_to(source if source.is_dir() else source.parent)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copied)


def list_files(source: Path) -> list[Path]:
    if not source.exists():
        raise ReplayError(f"{source}: COPY finds no such file")
    return [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]


def read_ignore_patterns(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def is_ignored(path: Path, patterns: list[str]) -> bool:
    """Return whether a path is ignored; the last pattern that matches it or a folder above it decides, as in Docker."""
    absolute = PurePosixPath("/", path)
    ignored = False
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        glob = glob.removeprefix("**/") if glob.startswith("**/") else f"/{glob}"
        if any(candidate.match(glob) for candidate in (absolute, *absolute.parents[:-1])):
            ignored = not pattern.startswith("!")
    return ignored


# The result


def try_out(container: Container, scratch: Path) -> None:
    """Use the result as its first user and as a stranger; every failure ends the replay."""
    left = [str(path) for cache in CACHES if (path := container.root / cache).is_dir() and has_content(path)]
    if left:
        raise ReplayError(f"the build left files in {', '.join(left)}")
    print("\nChecked:\n\n- the build left no caches")
    for user in (container.user, f"{STRANGER}:{STRANGER}"):
        guest = dataclasses.replace(container, user=user)
        serve(guest)
        versions = guest.run(["python", "-c", IMPORT_ALL]).strip()
        print(f"- as {user}: page served, health check; {versions}; {upscale(guest, scratch)}", flush=True)


def serve(guest: Container) -> None:
    """Run the default command until its health check succeeds. Needs the loopback of the machine."""
    script = f"""
        {shlex.join([*guest.entrypoint, *guest.command])} & server=$!
        tries=0
        until {shlex.join(guest.health)} 2>/dev/null; do
            tries=$((tries + 1))
            [ $tries -lt 60 ] && kill -0 $server || exit 1
            sleep 2
        done
        kill -TERM $server
        wait $server
    """
    guest.run(["sh", "-c", script], network=True)


def upscale(guest: Container, scratch: Path) -> str:
    """Do what `docker run --rm -v "$PWD:/data" trinas photos/ -s 4` does, and return a description of it."""
    uid, gid, _ = find_account(guest.root, guest.user)
    folder = scratch / f"data-{uid}"
    for made in (folder, folder / "photos"):
        made.mkdir()
        os.chown(made, uid, gid)
    with mount_all(guest.root, [(["--bind", str(folder)], "/data")]):
        guest.run(["python", "-c", DRAW, *map(str, SIDES_PX), "photos", " ".join(SUFFIXES)])
        guest.run([*guest.entrypoint, "photos/", "-s", str(SCALE)])
        expected = "x".join(str(side * SCALE) for side in SIDES_PX)
        for suffix in SUFFIXES:
            result = f"upscaled/image_x{SCALE}.{suffix}"
            size = guest.run(["python", "-c", MEASURE, result]).strip()
            owner = (folder / result).stat().st_uid
            if (size, owner) != (expected, uid):
                raise ReplayError(f"{result} is {size} and belongs to {owner}; expected {expected} and {uid}")
    formats = ", ".join(SUFFIXES)
    return f"{formats} of {'x'.join(map(str, SIDES_PX))} pixels upscaled to {expected}, in files of uid {uid}"


def has_content(folder: Path) -> bool:
    """Return whether the folder has files that are not empty (locks and mount points are)."""
    return any(path.is_file() and path.stat().st_size for path in folder.rglob("*"))


def measure_mb(root: Path) -> float:
    """Return the size of the files, without what is mounted, in 10^6 bytes as Docker counts."""
    others = [f"--exclude={point}" for point in find_mounts(root)]  # --one-file-system would count bound folders
    return int(run(["du", "--summarize", "--block-size=1", "--apparent-size", *others, str(root)]).split()[0]) / 1e6


def print_sizes(sizes: list[tuple[str, float]]) -> None:
    """Print a table of what each step added."""
    print("| step | adds, MB |\n| --- | ---: |")
    before = 0.0
    for name, size in sizes:
        print(f"| {name} | {size - before:.1f} |")
        before = size
    print(f"| all, before | {sizes[0][1]:.0f} |\n| all, after | {sizes[-1][1]:.0f} |")
    print(f"| the image's own layers | {sizes[-1][1] - sizes[0][1]:.0f} |", flush=True)


def shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# The machine


def check_machine(options: argparse.Namespace) -> None:
    if os.geteuid() != 0:
        raise ReplayError("must run as root: it mounts and changes root")
    missing = [tool for tool in ("debootstrap", "chroot", "mount", "unshare") if not shutil.which(tool)]
    if missing:
        raise ReplayError(f"{', '.join(missing)} not found; on Debian: apt-get install debootstrap")
    for path in options.bind:
        if not path.is_absolute() or not path.exists():
            raise ReplayError(f"--bind {path}: not an absolute path of something that exists")
    for assignment in options.env:
        if "=" not in assignment:
            raise ReplayError(f"--env {assignment}: not NAME=VALUE")


def take_mount_table() -> None:
    """Take a separate mount table: however this program ends, its mounts end with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise ReplayError(f"cannot have a separate mount table: {os.strerror(ctypes.get_errno())}")
    run(["mount", "--make-rprivate", "/"])


@contextlib.contextmanager
def make_root(folder: Path | None) -> Iterator[Path]:
    """Make an empty folder for the root: the given one, which is kept, or a temporary one."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ReplayError(f"{folder} is not empty")
        yield folder.resolve()
        return
    root = Path(tempfile.mkdtemp(prefix="trinas-root-")).resolve()
    root.chmod(0o755)
    try:
        yield root
    finally:
        delete_root(root)


def delete_root(root: Path) -> None:
    """Delete the root, unless a mount in it leads to the machine's own files."""
    left = find_mounts(root)
    if left:
        raise ReplayError(f"{root} is not deleted, as something is still mounted: {', '.join(left)}")
    shutil.rmtree(root)


def find_mounts(root: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(root)]


def debootstrap(root: Path, suite: str, mirror: str) -> None:
    """Make a minimal Debian, set up and cut down as the slim images on Docker Hub are."""
    run(["debootstrap", "--variant=minbase", suite, str(root), mirror])
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(SLIM)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(DOCKER_CLEAN)
    for name in ("info", "lintian", "locale", "man"):
        empty_folder(root / "usr/share" / name)
    for path in sorted((root / "usr/share/doc").rglob("*"), reverse=True):
        if path.name != "copyright" and not path.is_dir():
            path.unlink()
    for name in ("cache/apt", "lib/apt/lists"):
        empty_folder(root / "var" / name)


def empty_folder(folder: Path) -> None:
    for path in folder.iterdir() if folder.exists() else ():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_index(wheels: Path, folder: Path) -> str:
    """Write a package index that has only the wheels of torch, and return its URL."""
    found = sorted(wheels.glob("torch-*.whl"))
    if not found:
        raise ReplayError(f"{wheels}: no wheel of torch")
    (folder / "torch").mkdir()
    links = [f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n' for wheel in found]
    (folder / "torch/index.html").write_text(f"<!DOCTYPE html>\n{''.join(links)}")
    return folder.as_uri()


def list_system_mounts() -> list[tuple[list[str], str]]:
    """Return (arguments of mount, place) of what Docker mounts too; debootstrap makes the devices."""
    return [
        (["-t", "proc", "proc"], "/proc"),
        (["-t", "sysfs", "-o", "ro", "sysfs"], "/sys"),
        (["-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts"], "/dev/pts"),
        (["-t", "tmpfs", "-o", "size=64m", "shm"], "/dev/shm"),
    ]


@contextlib.contextmanager
def mount_all(root: Path, mounts: list[tuple[list[str], str]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for arguments, place in mounts:
            point = find_place(root, place)
            if "--bind" in arguments and Path(arguments[-1]).is_file():
                point.parent.mkdir(parents=True, exist_ok=True)
                point.touch()
            else:
                point.mkdir(parents=True, exist_ok=True)
            run(["mount", *arguments, str(point)])
            stack.callback(run, ["umount", str(point)])
        yield


def find_place(root: Path, path: str | PurePosixPath) -> Path:
    """Return the place of a container's path in the root; refuse links that lead out of it."""
    place = root / str(path).lstrip("/")
    if not place.resolve().is_relative_to(root):
        raise ReplayError(f"{place} leads out of {root}")
    return place


def find_account(root: Path, user: str) -> tuple[int, int, str]:
    """Return (uid, gid, home) of NAME, UID or UID:GID, with Docker's defaults for a number without an account."""
    name, _, group = user.partition(":")
    for line in (root / "etc/passwd").read_text().splitlines():
        login, _, uid, gid, _, home, _ = line.split(":")
        if name in (login, uid):
            return int(uid), int(group or gid), home
    if not name.isdigit():
        raise ReplayError(f"there is no user {name} in the image")
    return int(name), int(group or 0), "/"


def run(command: list[str]) -> str:
    """Run a command, copy its output to stderr as it comes, and return it."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                lines.append(line)
                print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()  # until the last process has ended: what is in use cannot be unmounted
            raise
    if process.returncode:
        raise ReplayError(f"exit code {process.returncode}: {shlex.join(command)}")
    return "".join(lines)


if __name__ == "__main__":
    main()
